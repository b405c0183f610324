package presence

import (
	"maps"
	"slices"
	"sync"
	"testing"
)

// TestLocalChanges_WhatIsNotCovered_IsSnapshot asks for the changes since revisions that the
// registry does not remember, and for some that it does.
func TestLocalChanges_WhatIsNotCovered_IsSnapshot(t *testing.T) {
	const first = 1000
	r := New[int]()
	r.StartAt(first)
	r.Join(1, 1)
	check := func(name string, since uint64, wantSnapshot bool, wantJoined, wantLeft []uint64, wantRevision uint64) {
		t.Helper()
		joined, left, snapshot, revision := r.LocalChanges(since)
		if !slices.Equal(joined, wantJoined) || !slices.Equal(left, wantLeft) || snapshot != wantSnapshot || revision != wantRevision {
			t.Errorf("%s: %v joined, %v left, %t, %d", name, joined, left, snapshot, revision)
		}
	}
	check("not recorded", first, true, []uint64{1}, nil, first)
	check("nothing changed", first, false, nil, nil, first)
	r.Join(2, 2)
	r.Leave(1, 1)
	check("since the first", first, false, []uint64{2}, []uint64{1}, first+2)
	check("since the last", first+1, false, nil, []uint64{1}, first+2)
	check("no revision", 0, true, []uint64{2}, nil, first+2)
	check("below the first", first-1, true, []uint64{2}, nil, first+2)
	check("above the current", first+3, true, []uint64{2}, nil, first+2)
	for range maxHistory {
		r.Join(3, 3)
		r.Leave(3, 3)
	}
	check("forgotten", first, true, []uint64{2}, nil, first+2+2*maxHistory)
	check("remembered", first+2+maxHistory, false, nil, nil, first+2+2*maxHistory)
}

// TestLocalChanges_GroupsAreNotLocal has a group claim and leave ids, also one that is local.
func TestLocalChanges_GroupsAreNotLocal(t *testing.T) {
	r := New[int]()
	_, _, _, since := r.LocalChanges(0)
	r.UpdateGroup(-1, []uint64{1, 2}, nil)
	r.Join(2, 20)
	r.Join(2, 21)
	r.UpdateGroup(-1, nil, []uint64{1})
	if joined, left, snapshot, _ := r.LocalChanges(since); !slices.Equal(joined, []uint64{2}) || left != nil || snapshot {
		t.Errorf("%v joined, %v left, %t", joined, left, snapshot)
	}
	_, _, _, since = r.LocalChanges(0)
	r.RemoveGroup(-1)
	if joined, left, snapshot, revision := r.LocalChanges(since); joined != nil || left != nil || snapshot || revision != since {
		t.Errorf("%v joined, %v left, %t, %d after %d", joined, left, snapshot, revision, since)
	}
}

// TestReannounce_IsJoin announces an id again before and after other changes of it.
func TestReannounce_IsJoin(t *testing.T) {
	const id = 5
	again := func(r *Registry[int]) { r.Reannounce(id) }
	join := func(r *Registry[int]) { r.Join(id, 1) }
	leave := func(r *Registry[int]) { r.Leave(id, 1) }
	type steps = []func(*Registry[int])
	for name, test := range map[string]struct {
		before, after steps // before and after the revision
		want          string
	}{
		"present":            {steps{join}, steps{again}, "joined"},
		"twice":              {steps{join}, steps{again, again}, "joined"},
		"absent":             {nil, steps{again}, ""},
		"before it leaves":   {steps{join}, steps{again, leave}, "left"},
		"after it left":      {steps{join}, steps{leave, again}, "left"},
		"of a new one":       {nil, steps{join, again}, "joined"},
		"of a brief one":     {nil, steps{join, again, leave}, ""},
		"left and back":      {steps{join}, steps{again, leave, join}, "joined"},
		"left and back, too": {steps{join}, steps{leave, join, again}, "joined"},
		"known already":      {steps{join, again}, nil, ""},
	} {
		r := New[int]()
		r.LocalChanges(0)
		for _, step := range test.before {
			step(r)
		}
		_, _, _, since := r.LocalChanges(0)
		for _, step := range test.after {
			step(r)
		}
		joined, left, _, _ := r.LocalChanges(since)
		got := ""
		switch {
		case slices.Equal(joined, []uint64{id}) && left == nil:
			got = "joined"
		case slices.Equal(left, []uint64{id}) && joined == nil:
			got = "left"
		case joined != nil || left != nil:
			t.Errorf("%s: %v joined, %v left", name, joined, left)
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// TestLocalChanged_SignalsEachKindOfChange checks what is signalled, and that nothing is before
// the first LocalChanges.
func TestLocalChanged_SignalsEachKindOfChange(t *testing.T) {
	r := New[int]()
	signalled := func() bool {
		select {
		case <-r.LocalChanged():
			return true
		default:
			return false
		}
	}
	r.Join(1, 1)
	if signalled() {
		t.Error("a signal before the first LocalChanges")
	}
	r.LocalChanges(0)
	for _, test := range []struct {
		name   string
		change func()
		want   bool
	}{
		{"nothing", func() {}, false},
		{"join", func() { r.Join(2, 2) }, true},
		{"several", func() { r.Join(3, 3); r.Join(4, 4) }, true},
		{"replacement", func() { r.Join(2, 22) }, false},
		{"leave of another", func() { r.Leave(2, 2) }, false},
		{"leave", func() { r.Leave(2, 22) }, true},
		{"group", func() { r.UpdateGroup(-1, []uint64{9}, nil) }, false},
		{"again", func() { r.Reannounce(1) }, true},
		{"again of an absent one", func() { r.Reannounce(9) }, false},
	} {
		test.change()
		if got := signalled(); got != test.want || signalled() {
			t.Errorf("%s: signalled %t, want %t once", test.name, got, test.want)
		}
	}
}

// TestLocalChanges_ConcurrentUse has clients come and go while several consumers pull. No result
// may contradict the ones before, and in the end each consumer has the local ids.
func TestLocalChanges_ConcurrentUse(t *testing.T) {
	r := New[int]()
	stop := make(chan struct{})
	var changers, consumers sync.WaitGroup
	for i := range 4 {
		changers.Go(func() {
			for n := range 2000 {
				id := uint64(1 + (n*7+i)%8) // shared by all: members replace each other
				member := 1 + i + 4*n
				r.Join(id, member)
				if n%3 != 0 {
					r.Leave(id, member)
				}
			}
		})
	}
	for range 3 {
		consumers.Go(func() {
			c := newLocalConsumer()
			for running := true; running; {
				select {
				case <-stop:
					running = false
				default:
				}
				c.pull(t, r, nil)
			}
			if got, want := slices.Sorted(maps.Keys(c.present)), r.LocalIDs(); !slices.Equal(got, want) {
				t.Errorf("a consumer has %v, want %v", got, want)
			}
		})
	}
	changers.Wait()
	close(stop)
	consumers.Wait()
}
