package settings

import (
	"math"
	"strings"
)

// similar returns the setting of list whose name is most similar to name, or nil if no name is
// similar. It skips settings that have any attribute of excluded.
func similar(list []*Setting, name string, excluded Attr) *Setting {
	const longest = 64 // far longer than all names of settings, and fast to compare
	if len(name) > longest {
		return nil
	}
	var best *Setting
	minDistance := math.MaxInt
	for _, st := range list {
		if st.Is(excluded) {
			continue
		}
		if d := editDistance(name, st.Name); d < minDistance && isTypoOf(name, st.Name, d) {
			best, minDistance = st, d
		}
	}
	return best
}

// isTypoOf reports whether name, at the given edit distance from known, is likely a typo of
// known: one edit in names of three or four letters, two edits in longer names, or one name is
// a prefix of the other, as address and addr. A further part after a dash does not count:
// port-9999-tcp is not a typo of port.
func isTypoOf(name, known string, edits int) bool {
	const few, some = 3, 5
	switch {
	case edits == 0, edits == 1 && len(known) >= few, edits == 2 && len(known) >= some:
		return true
	case len(name) <= few:
		return false
	}
	suffix, hasPrefix := strings.CutPrefix(name, known)
	return hasPrefix && !strings.HasPrefix(suffix, "-") || strings.HasPrefix(known, name)
}

// editDistance returns the minimum number of letters to insert, delete, change or swap with
// the next letter to turn a into b (optimal string alignment distance).
func editDistance(a, b string) int {
	table := make([][]int, len(a)+1) // distances between all prefixes of a and b
	for i := range table {
		table[i] = make([]int, len(b)+1)
		for j := range table[i] {
			if i == 0 || j == 0 {
				table[i][j] = i + j
				continue
			}
			change := table[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			table[i][j] = min(change, table[i-1][j]+1, table[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				table[i][j] = min(table[i][j], table[i-2][j-2]+1)
			}
		}
	}
	return table[len(a)][len(b)]
}

// didYouMean returns the question whether st was meant, to append to a sentence, or "" if st
// is nil.
func didYouMean(prefix string, st *Setting) string {
	if st == nil {
		return ""
	}
	return ", did you mean " + prefix + st.Name + "?"
}
