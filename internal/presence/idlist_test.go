package presence

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestMerge(t *testing.T) {
	for _, test := range []struct{ ids, joined, left, want []uint64 }{
		{nil, nil, nil, nil},
		{nil, []uint64{1, 2}, nil, []uint64{1, 2}},
		{[]uint64{1, 2}, nil, nil, []uint64{1, 2}},
		{[]uint64{1, 2}, nil, []uint64{1, 2}, nil},
		{[]uint64{3, 5, 7}, []uint64{1, 4, 9}, nil, []uint64{1, 3, 4, 5, 7, 9}},
		{[]uint64{3, 5, 7}, []uint64{4, 6}, []uint64{5}, []uint64{3, 4, 6, 7}},
		{[]uint64{3, 5, 7}, []uint64{1, 2}, []uint64{3, 7}, []uint64{1, 2, 5}},
		{[]uint64{3, 5, 7}, []uint64{8}, []uint64{7}, []uint64{3, 5, 8}},
	} {
		ids := slices.Clone(test.ids)
		got := merge(ids, test.joined, test.left)
		if !slices.Equal(got, test.want) || cap(got) != len(got) || !slices.Equal(ids, test.ids) {
			t.Errorf("merge(%v, %v, %v) = %v, want %v", test.ids, test.joined, test.left, got, test.want)
		}
	}
}

// TestIDList_RandomChanges_MatchSet merges after random numbers of changes, also with changes that
// come during the merge.
func TestIDList_RandomChanges_MatchSet(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	present := map[uint64]bool{}
	var l idList
	change := func() {
		id := random.Uint64N(300)
		present[id] = !present[id]
		l.add(id, present[id])
	}
	for range 200 {
		for range random.IntN(50) {
			change()
		}
		before := l
		merged := before.merged()
		for range random.IntN(3) {
			change()
		}
		l.rebase(merged, len(before.log))
		var want []uint64
		for id := range uint64(300) {
			if present[id] {
				want = append(want, id)
			}
		}
		if got := l.merged(); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

func TestIDList_IsLong_InProportion(t *testing.T) {
	for _, test := range []struct{ base, log int }{{0, minLog}, {16 * minLog, minLog}, {64 * minLog, 4 * minLog}} {
		l := idList{make([]uint64, test.base), make([]change, test.log)}
		if l.isLong() {
			t.Errorf("%d changes to %d ids are long", test.log, test.base)
		}
		if l.add(1, true); !l.isLong() {
			t.Errorf("%d changes to %d ids are not long", len(l.log), test.base)
		}
	}
}

// BenchmarkMerge has 10,000 random ids join 1,000,000.
func BenchmarkMerge(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	l := idList{base: idRange(0, 1_000_000)}
	for i := range l.base {
		l.base[i] *= 1000
	}
	for range 10_000 {
		l.add(1+1000*random.Uint64N(1_000_000)+random.Uint64N(998), true)
	}
	b.ReportAllocs()
	for b.Loop() {
		l.merged()
	}
}
