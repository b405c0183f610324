package presence

import (
	"slices"
	"testing"
)

func newHistory(changes ...change) *history {
	h := &history{recording: true, revision: 1}
	for _, c := range changes {
		h.add(c)
	}
	return h
}

func TestHistory_UpdateSince_IsNetEffect(t *testing.T) {
	joined, left := func(id uint64) change { return change{id: id, joined: true} }, func(id uint64) change { return change{id: id} }
	for name, test := range map[string]struct {
		changes    []change
		since      uint64
		join, left []uint64
	}{
		"nothing":               {nil, 1, nil, nil},
		"ascending":             {[]change{joined(1), left(2), joined(3), left(4)}, 1, []uint64{1, 3}, []uint64{2, 4}},
		"ascending, but one":    {[]change{joined(1), left(2), joined(3), left(3)}, 1, []uint64{1}, []uint64{2}},
		"ascending, then not":   {[]change{joined(1), joined(3), left(1)}, 1, []uint64{3}, nil},
		"all changes":           {[]change{joined(3), joined(1), left(2)}, 1, []uint64{1, 3}, []uint64{2}},
		"the last changes":      {[]change{joined(3), joined(1), left(2)}, 3, nil, []uint64{2}},
		"current":               {[]change{joined(3)}, 2, nil, nil},
		"joined and left":       {[]change{joined(1), left(1)}, 1, nil, nil},
		"left and joined":       {[]change{left(1), joined(1)}, 1, nil, nil},
		"joined again":          {[]change{joined(1), left(1), joined(1)}, 1, []uint64{1}, nil},
		"left again":            {[]change{left(1), joined(1), left(1)}, 1, nil, []uint64{1}},
		"the join is known":     {[]change{joined(1), left(1)}, 2, nil, []uint64{1}},
		"other ids are between": {[]change{joined(1), joined(2), left(1)}, 1, []uint64{2}, nil},
	} {
		h := newHistory(test.changes...)
		if !h.covers(test.since) {
			t.Errorf("%s: revision %d is not covered", name, test.since)
			continue
		}
		u := newUpdate(*h, test.since)
		if !slices.Equal(u.joined, test.join) || !slices.Equal(u.left, test.left) || u.revision != h.revision || u.snapshot {
			t.Errorf("%s: %+v, want %v joined, %v left", name, u, test.join, test.left)
		}
	}
}

// TestHistory_OldChanges_AreDropped checks that the history is bounded, keeps at least
// maxHistory changes, and that a copy does not change.
func TestHistory_OldChanges_AreDropped(t *testing.T) {
	h := newHistory()
	for id := range uint64(2 * maxHistory) {
		h.add(change{id: id, joined: true})
	}
	if !h.covers(1) {
		t.Error("the history is shorter than twice its minimum")
	}
	before := *h
	h.add(change{id: 2 * maxHistory, joined: true})
	if n := len(h.changes); n > 2*maxHistory {
		t.Errorf("the history has %d changes", n)
	}
	if h.covers(1) || !h.covers(h.revision-maxHistory) {
		t.Errorf("covers the first revision: %t, the last %d: %t", h.covers(1), maxHistory, h.covers(h.revision-maxHistory))
	}
	if u := newUpdate(*h, h.revision-2); !slices.Equal(u.joined, []uint64{2*maxHistory - 1, 2 * maxHistory}) {
		t.Errorf("the last changes are %+v", u)
	}
	if u := newUpdate(before, before.revision-1); !before.covers(1) || !slices.Equal(u.joined, []uint64{2*maxHistory - 1}) {
		t.Errorf("a copy ends with %+v", u)
	}
}
