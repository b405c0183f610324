package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// spread is a median with the least and the most.
type spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

// spreadOf returns the spread of at least one value.
func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

// String writes the spread so that the median has three figures, and the least and
// the most only if they differ then.
func (s spread) String() string {
	digits := digitsOf(s.Median, s.Least, s.Most)
	median, least, most := fixed(s.Median, digits), fixed(s.Least, digits), fixed(s.Most, digits)
	if least == most {
		return median
	}
	return fmt.Sprintf("%s (%s–%s)", median, least, most)
}

// number writes a number with three figures, or as many as it has before the point.
func number(x float64) string { return fixed(x, digitsOf(x)) }

// digitsOf returns how many digits after the point give the first number three
// figures; none where all of the numbers are whole.
func digitsOf(numbers ...float64) int {
	whole := func(x float64) bool { return x == math.Trunc(x) }
	x := numbers[0]
	if x == 0 || !slices.ContainsFunc(numbers, func(x float64) bool { return !whole(x) }) {
		return 0
	}
	return max(0, 2-int(math.Floor(math.Log10(math.Abs(x)))))
}

// fixed writes a number with so many digits after the point, and commas between
// thousands.
func fixed(x float64, digits int) string {
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(x, 'f', digits, 64), ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction == "" {
		return whole
	}
	return whole + "." + fraction
}
