package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
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

// formatNumber formats a number with three significant digits, or with all digits before the
// point.
func formatNumber(x float64) string { return formatFixed(x, decimalPlaces(x)) }

// decimalPlaces returns how many digits after the point give the first number three
// significant digits. It returns 0 if all numbers are whole.
func decimalPlaces(numbers ...float64) int {
	isWhole := func(x float64) bool { return x == math.Trunc(x) }
	x := numbers[0]
	if x == 0 || !slices.ContainsFunc(numbers, func(x float64) bool { return !isWhole(x) }) {
		return 0
	}
	return max(0, 2-int(math.Floor(math.Log10(math.Abs(x)))))
}

// formatFixed formats a number with a fixed number of digits after the point, and commas
// between thousands.
func formatFixed(x float64, digits int) string {
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(x, 'f', digits, 64), ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction == "" {
		return whole
	}
	return whole + "." + fraction
}
