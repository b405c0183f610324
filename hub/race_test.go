//go:build race

package hub_test

// raceEnabled reports whether the race detector is on. Pools then drop entries on purpose, and
// allocations cannot be counted.
const raceEnabled = true
