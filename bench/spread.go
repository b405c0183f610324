package main

import (
	"fmt"
	"slices"
)

// spread is a median with the minimum and the maximum.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"least"`
	Max    float64 `json:"most"`
}

// newSpread returns the spread of at least one value.
func newSpread(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

// String formats the median with three significant digits, and the minimum and the maximum if
// they differ at that precision.
func (s spread) String() string {
	digits := decimalPlaces(s.Median, s.Min, s.Max)
	median, minText, maxText := formatFixed(s.Median, digits), formatFixed(s.Min, digits), formatFixed(s.Max, digits)
	if minText == maxText {
		return median
	}
	return fmt.Sprintf("%s (%s–%s)", median, minText, maxText)
}
