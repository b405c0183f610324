//go:build race

package socket

// raceEnabled says that the race detector runs: pools then forget on purpose, so
// that counting allocations says nothing.
const raceEnabled = true
