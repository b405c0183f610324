package hub

import "sync/atomic"

// valuesBelow returns the values of an enumeration that starts at 0 and ends before end.
func valuesBelow[R ~uint8](end R) []R {
	values := make([]R, end)
	for i := range values {
		values[i] = R(i)
	}
	return values
}

// loadCounts returns the counters that are not 0. The index of a counter is its value in the
// enumeration.
func loadCounts[R ~uint8 | ~uint16](counters []atomic.Uint64) map[R]uint64 {
	counts := make(map[R]uint64)
	for i := range counters {
		if n := counters[i].Load(); n > 0 {
			counts[R(i)] = n
		}
	}
	return counts
}
