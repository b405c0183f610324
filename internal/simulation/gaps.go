package simulation

import (
	"fmt"
	"slices"
	"strings"
)

// span is the message numbers from first up to, not including, end.
type span struct{ first, end uint32 }

func (s span) String() string {
	if s.end-s.first == 1 {
		return fmt.Sprint(s.first)
	}
	return fmt.Sprintf("%d-%d", s.first, s.end-1)
}

// gaps is the message numbers of one sender that were overtaken and are still
// missing: ascending spans that do not touch. A run without fault has none, and
// one with faults needs at most one for every second message.
type gaps []span

// open notes that the numbers of s are missing. They must lie above all others.
func (g *gaps) open(s span) { *g = append(*g, s) }

// fill takes number out and says whether it was missing.
func (g *gaps) fill(number uint32) bool {
	i, inside := slices.BinarySearchFunc(*g, number, func(s span, n uint32) int {
		switch {
		case n < s.first:
			return 1
		case n >= s.end:
			return -1
		}
		return 0
	})
	if !inside {
		return false
	}
	old := (*g)[i]
	left, right := span{old.first, number}, span{number + 1, old.end}
	pieces := slices.DeleteFunc([]span{left, right}, func(s span) bool { return s.first == s.end })
	*g = slices.Replace(*g, i, i+1, pieces...)
	return true
}

// count returns how many numbers are missing.
func (g gaps) count() (n uint64) {
	for _, s := range g {
		n += uint64(s.end - s.first)
	}
	return n
}

// spansNamed is how many spans a text names before it says "…".
const spansNamed = 4

func (g gaps) String() string {
	var texts []string
	for _, s := range g[:min(len(g), spansNamed)] {
		texts = append(texts, s.String())
	}
	if len(g) > spansNamed {
		texts = append(texts, "…")
	}
	return strings.Join(texts, ", ")
}
