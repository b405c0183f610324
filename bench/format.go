package main

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

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

// capitalize returns a sentence with its first letter in upper case.
func capitalize(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
