package simulation

import (
	"fmt"
	"slices"
	"strings"
)

// numberRange is the range of message numbers from first to end, without end.
type numberRange struct{ first, end uint32 }

func (nr numberRange) String() string {
	if nr.end-nr.first == 1 {
		return fmt.Sprint(nr.first)
	}
	return fmt.Sprintf("%d-%d", nr.first, nr.end-1)
}

// gaps are the message numbers of one sender that a later number has skipped and that are
// still missing, as ascending ranges that do not touch. A run without faults has none; in the
// worst case there is one range for every second message.
type gaps []numberRange

// open adds the range nr of missing numbers. It must lie above all other ranges.
func (g *gaps) open(nr numberRange) { *g = append(*g, nr) }

// fill removes number and reports whether it was missing.
func (g *gaps) fill(number uint32) bool {
	i, found := slices.BinarySearchFunc(*g, number, func(nr numberRange, n uint32) int {
		switch {
		case n < nr.first:
			return 1
		case n >= nr.end:
			return -1
		}
		return 0
	})
	if !found {
		return false
	}
	gap := (*g)[i]
	left, right := numberRange{gap.first, number}, numberRange{number + 1, gap.end}
	remaining := slices.DeleteFunc([]numberRange{left, right}, func(nr numberRange) bool { return nr.first == nr.end })
	*g = slices.Replace(*g, i, i+1, remaining...)
	return true
}

// count returns how many numbers are missing.
func (g gaps) count() (n uint64) {
	for _, nr := range g {
		n += uint64(nr.end - nr.first)
	}
	return n
}

// maxListedRanges is the maximum number of ranges in the text that String returns.
const maxListedRanges = 4

func (g gaps) String() string {
	var texts []string
	for _, nr := range g[:min(len(g), maxListedRanges)] {
		texts = append(texts, nr.String())
	}
	if len(g) > maxListedRanges {
		texts = append(texts, "…")
	}
	return strings.Join(texts, ", ")
}

// has reports whether number is missing.
func (g gaps) has(number uint32) bool {
	return slices.ContainsFunc(g, func(nr numberRange) bool { return nr.first <= number && number < nr.end })
}
