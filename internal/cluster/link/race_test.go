//go:build race

package link

// raceEnabled says that the race detector runs. Pools then drop items at random, which makes
// the counts of allocations meaningless.
const raceEnabled = true
