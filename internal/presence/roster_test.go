package presence

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// leaves is roster.Leave without what happens to the id.
func leaves[M comparable](r *roster[M], id uint64, member M) bool {
	left, _ := r.Leave(id, member)
	return left
}

func TestRoster_ZeroValueIsEmpty(t *testing.T) {
	var r roster[string]
	if ids := r.IDs(); len(ids) != 0 {
		t.Errorf("IDs: %v", ids)
	}
	if leaves(&r, 1, "one") {
		t.Error("Leave returned true for an id that never joined")
	}
	found := []string{"left over"}
	if r.Find([]uint64{1}, found); found[0] != "" {
		t.Errorf("Find of an unknown id returned %q, want the zero value", found[0])
	}
	if now, peak := r.Size(); now != 0 || peak != 0 {
		t.Errorf("Size: %d, %d", now, peak)
	}
}

func TestRoster_FindKeepsOrderOfIDs(t *testing.T) {
	var r roster[string]
	r.Join(1, "one")
	r.Join(3, "three")
	found := make([]string, 6)
	found[5] = "not asked for"
	r.Find([]uint64{3, 2, 1, 3, 0}, found)
	if want := []string{"three", "", "one", "three", "", "not asked for"}; !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
}

func TestRoster_JoinTwiceReplacesMember(t *testing.T) {
	var r roster[string]
	r.Join(7, "old")
	r.Join(7, "new")
	var found [1]string
	r.Find([]uint64{7}, found[:])
	if now, peak := r.Size(); found[0] != "new" || now != 1 || peak != 1 {
		t.Errorf("found %q, size %d, peak %d", found[0], now, peak)
	}
	if leaves(&r, 7, "old") || !leaves(&r, 7, "new") || leaves(&r, 7, "new") {
		t.Error("a member that joined twice must leave once")
	}
}

// sharedIDs is a slice that IDs has returned, and a copy of its elements at that time.
type sharedIDs struct{ slice, want []uint64 }

// TestRoster_MatchesModel compares a roster with a map after every step, and checks that no
// slice that IDs has returned ever changes.
func TestRoster_MatchesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r roster[int]
		model, peak, joins := map[uint64]int{}, 0, 0
		var handedOut []sharedIDs
		id := rapid.Uint64Range(1, 20)
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				id := id.Draw(t, "id")
				joins++
				model[id] = joins
				r.Join(id, joins)
			},
			"join behind": func(t *rapid.T) { // with an ascending id, as a hub does
				joins++
				id := uint64(1000 + joins)
				model[id] = joins
				r.Join(id, joins)
			},
			"leave": func(t *rapid.T) {
				id := rapid.OneOf(id, rapid.SampledFrom(append(slices.Collect(maps.Keys(model)), 0))).Draw(t, "id")
				_, want := model[id]
				delete(model, id)
				if got := leaves(&r, id, r.members[id]); got != want {
					t.Fatalf("Leave(%d) = %v, want %v", id, got, want)
				}
			},
			"lend": func(t *rapid.T) {
				ids := r.IDs()
				if cap(ids) != len(ids) {
					t.Fatalf("%d ids with capacity %d: an append would write to a shared slice", len(ids), cap(ids))
				}
				handedOut = append(handedOut, sharedIDs{ids, slices.Clone(ids)})
			},
			"": func(t *rapid.T) {
				peak = max(peak, len(model))
				checkRoster(t, &r, model, peak)
				for _, l := range handedOut {
					if !slices.Equal(l.slice, l.want) {
						t.Fatalf("a slice that IDs returned as %v is now %v", l.want, l.slice)
					}
				}
			},
		})
	})
}

func checkRoster(t *rapid.T, r *roster[int], model map[uint64]int, peak int) {
	ids := slices.Sorted(maps.Keys(model))
	if now, gotPeak := r.Size(); now != len(ids) || gotPeak != peak {
		t.Fatalf("size %d, peak %d, want %d and %d", now, gotPeak, len(ids), peak)
	}
	query := append(slices.Clone(ids), 0, 21, 999)
	found := make([]int, len(query))
	r.Find(query, found)
	for i, id := range query {
		if found[i] != model[id] {
			t.Fatalf("the member of %d is %d, want %d", id, found[i], model[id])
		}
	}
	// r.ids is compared directly because IDs would mark the slice as shared at every step.
	if !slices.Equal(r.ids, ids) {
		t.Fatalf("ids %v, want %v", r.ids, ids)
	}
}

// TestRoster_ConcurrentUse calls all methods from several goroutines. Each goroutine must see
// ascending ids that include its own id while it has joined.
func TestRoster_ConcurrentUse(t *testing.T) {
	const members, rounds = 8, 300
	var r roster[uint64]
	var wg sync.WaitGroup
	for i := range uint64(members) {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(i, 1))
			for range rounds {
				id := 1 + i + members*random.Uint64N(4) // each goroutine has its own ids
				r.Join(id, id)
				checkIDs(t, &r, id)
				if !leaves(&r, id, id) {
					t.Errorf("Leave(%d) returned false", id)
				}
			}
		})
	}
	wg.Wait()
	if now, peak := r.Size(); now != 0 || peak > members {
		t.Errorf("size %d, peak %d after all left", now, peak)
	}
}

func checkIDs(t *testing.T, r *roster[uint64], self uint64) {
	ids := r.IDs()
	if !slices.IsSorted(ids) || !slices.Contains(ids, self) {
		t.Errorf("ids %v: want them ascending, and %d among them", ids, self)
	}
	found := make([]uint64, len(ids))
	r.Find(ids, found)
	for i, id := range ids {
		if found[i] != id && found[i] != 0 || id == self && found[i] == 0 {
			t.Errorf("the member of %d is %d", id, found[i])
		}
	}
}

// BenchmarkFind finds local clients, as a hub without groups does, and clients of a group.
func BenchmarkFind(b *testing.B) {
	type destination interface{ send() }
	for _, kind := range []string{"alone", "local", "remote"} {
		for _, n := range []int{1, 10, 255} {
			b.Run(fmt.Sprintf("%s-%d", kind, n), func(b *testing.B) {
				r := New[destination]()
				for id := range uint64(10_000) {
					r.Join(id+1, fakeDestination{new(int)})
				}
				if kind != "alone" {
					r.UpdateGroup(fakeDestination{new(int)}, idRange(100_000, 10_000), nil)
				}
				ids, found := r.IDs()[:n], make([]destination, n)
				if kind == "remote" {
					ids = idRange(100_000, uint64(n))
				}
				b.ReportAllocs()
				for b.Loop() {
					r.Find(ids, found)
				}
			})
		}
	}
}

type fakeDestination struct{ *int }

func (fakeDestination) send() {}

func BenchmarkIDsBetweenJoinAndLeave(b *testing.B) {
	var r roster[int]
	for id := range uint64(10_000) {
		r.Join(id+1, 0)
	}
	next := uint64(10_001)
	b.ReportAllocs()
	for b.Loop() {
		r.Join(next, 0)
		if ids := r.IDs(); len(ids) != 10_001 {
			b.Fatal(len(ids))
		}
		r.Leave(next-10_000, 0)
		next++
	}
}
