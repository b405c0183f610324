package simulation

import "testing"

func TestGaps_Fill(t *testing.T) {
	tests := []struct {
		name    string
		fill    []uint32
		refused []uint32
		left    string
		count   uint64
	}{
		{"untouched", nil, []uint32{0, 1, 4, 7, 9, 10}, "2-3, 5-6, 8", 5},
		{"the first of a range", []uint32{2}, []uint32{2}, "3, 5-6, 8", 4},
		{"the last of a range", []uint32{6}, []uint32{6}, "2-3, 5, 8", 4},
		{"a range of one", []uint32{8}, []uint32{8}, "2-3, 5-6", 4},
		{"everything", []uint32{8, 2, 6, 3, 5}, []uint32{2, 3, 5, 6, 8}, "", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var g gaps
			for _, nr := range []numberRange{{2, 4}, {5, 7}, {8, 9}} {
				g.open(nr)
			}
			for _, n := range test.fill {
				if !g.fill(n) {
					t.Errorf("%d was missing", n)
				}
			}
			for _, n := range test.refused {
				if g.fill(n) {
					t.Errorf("%d was not missing", n)
				}
			}
			if g.String() != test.left || g.count() != test.count {
				t.Errorf("remaining: %s, %d; want %s, %d", g, g.count(), test.left, test.count)
			}
		})
	}
}

func TestGaps_FillSplitsRange(t *testing.T) {
	g := gaps{{0, 9}}
	if !g.fill(4) || g.String() != "0-3, 5-8" || g.count() != 8 {
		t.Errorf("remaining: %s, %d", g, g.count())
	}
}

func TestGaps_StringLimitsRanges(t *testing.T) {
	var g gaps
	for n := range uint32(100) {
		g.open(numberRange{2 * n, 2*n + 1})
	}
	if want := "0, 2, 4, 6, …"; g.String() != want || g.count() != 100 {
		t.Errorf("got %s, %d; want %s", g, g.count(), want)
	}
}
