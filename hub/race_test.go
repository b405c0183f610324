//go:build race

package hub_test

// raceEnabled says that the race detector runs: pools then forget on purpose, so
// that allocations cannot be counted.
const raceEnabled = true
