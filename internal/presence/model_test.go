package presence

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is a registry that takes all the time it needs.
type model struct {
	single map[uint64]int
	claims map[uint64][]int // the groups that claim the id, the last one last
	groups map[int]bool
	peak   int
}

func newModel() *model {
	return &model{single: map[uint64]int{}, claims: map[uint64][]int{}, groups: map[int]bool{}}
}

func (m *model) find(id uint64) int {
	if member := m.single[id]; member != 0 {
		return member
	}
	if groups := m.claims[id]; len(groups) > 0 {
		return groups[len(groups)-1]
	}
	return 0
}

func (m *model) claim(group int, ids ...uint64) {
	for _, id := range ids {
		m.unclaim(group, id)
		m.claims[id] = append(m.claims[id], group)
	}
}

func (m *model) unclaim(group int, ids ...uint64) {
	for _, id := range ids {
		m.claims[id] = slices.DeleteFunc(slices.Clone(m.claims[id]), func(g int) bool { return g == group })
		if len(m.claims[id]) == 0 {
			delete(m.claims, id)
		}
	}
}

// ids returns the ids of a group.
func (m *model) ids(group int) []uint64 {
	var ids []uint64
	for id, groups := range m.claims {
		if slices.Contains(groups, group) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (m *model) replace(group int, ids []uint64) {
	for _, id := range m.ids(group) {
		if !slices.Contains(ids, id) {
			m.unclaim(group, id)
		}
	}
	for _, id := range ids {
		if !slices.Contains(m.claims[id], group) {
			m.claim(group, id)
		}
	}
}

// all returns the ids with a member.
func (m *model) all() []uint64 {
	ids := slices.AppendSeq(slices.Collect(maps.Keys(m.single)), maps.Keys(m.claims))
	slices.Sort(ids)
	return slices.Compact(ids)
}

// localConsumer applies LocalChanges to a set.
type localConsumer struct {
	revision uint64
	present  map[uint64]bool
	joins    map[uint64]int // number of times that LocalChanges had the id as joined
}

func newLocalConsumer() *localConsumer { return &localConsumer{joins: map[uint64]int{}} }

// pull applies what has changed. It fails if an id joins that is there, other than by Reannounce,
// or leaves that is not there.
func (c *localConsumer) pull(t interface{ Fatalf(string, ...any) }, r *Registry[int], announced map[uint64]bool) {
	joined, left, snapshot, revision := r.LocalChanges(c.revision)
	if snapshot {
		c.present = map[uint64]bool{}
	}
	if !slices.IsSorted(joined) || !slices.IsSorted(left) || revision < c.revision || snapshot && left != nil {
		t.Fatalf("LocalChanges(%d): %v, %v, %t, %d", c.revision, joined, left, snapshot, revision)
	}
	for _, id := range joined {
		if c.present[id] && !announced[id] {
			t.Fatalf("%d joins, which is there", id)
		}
		c.present[id] = true
		c.joins[id]++
	}
	for _, id := range left {
		if !c.present[id] {
			t.Fatalf("%d leaves, which is not there", id)
		}
		delete(c.present, id)
	}
	c.revision = revision
}

// TestRegistry_MatchesModel compares a registry with a model after each step, among them what
// watchers and a consumer of LocalChanges have after they were told.
func TestRegistry_MatchesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, m := New[int](), newModel()
		r.StartAt(rapid.Uint64Range(1, 1<<40).Draw(t, "first"))
		watcher, consumer := newFakeWatcher(), newLocalConsumer()
		announced := map[uint64]bool{} // since the consumer's last pull
		var handedOut []sharedIDs
		members := 100
		id := rapid.Uint64Range(1, 12)
		group := rapid.IntRange(1, 4)
		ids := rapid.Custom(func(t *rapid.T) []uint64 {
			return slices.Sorted(slices.Values(rapid.SliceOfNDistinct(id, 0, 6, rapid.ID).Draw(t, "ids")))
		})
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				id := id.Draw(t, "id")
				members++
				if prev, want := r.Join(id, members), m.find(id); prev != want {
					t.Fatalf("Join(%d) = %d, want %d", id, prev, want)
				}
				m.single[id] = members
			},
			"leave": func(t *rapid.T) {
				id := id.Draw(t, "id")
				member, want := m.single[id]
				if got := r.Leave(id, member); got != want {
					t.Fatalf("Leave(%d) = %t, want %t", id, got, want)
				}
				delete(m.single, id)
			},
			"update": func(t *rapid.T) {
				g, joined, left := group.Draw(t, "group"), ids.Draw(t, "joined"), ids.Draw(t, "left")
				r.UpdateGroup(g, joined, left)
				m.unclaim(g, left...)
				m.claim(g, joined...)
				m.groups[g] = true
			},
			"replace": func(t *rapid.T) {
				g, ids := group.Draw(t, "group"), ids.Draw(t, "ids")
				r.ReplaceGroup(g, ids)
				m.replace(g, ids)
				m.groups[g] = true
			},
			"remove": func(t *rapid.T) {
				g := group.Draw(t, "group")
				want := m.ids(g)
				if got := r.RemoveGroup(g); !slices.Equal(got, want) {
					t.Fatalf("RemoveGroup(%d) = %v, want %v", g, got, want)
				}
				m.unclaim(g, want...)
				delete(m.groups, g)
			},
			"lend": func(t *rapid.T) {
				for _, ids := range [][]uint64{r.IDs(), r.LocalIDs()} {
					if cap(ids) != len(ids) {
						t.Fatalf("%d ids with capacity %d: an append would write to a shared slice", len(ids), cap(ids))
					}
					handedOut = append(handedOut, sharedIDs{ids, slices.Clone(ids)})
				}
			},
			"watch": func(t *rapid.T) { r.Watch(watcher, watcher.revision, 1) },
			"announce": func(t *rapid.T) {
				id := id.Draw(t, "id")
				r.Reannounce(id)
				if m.single[id] != 0 {
					announced[id] = true
				}
			},
			"tell": func(t *rapid.T) {
				watching := watcher.revision != 0 || len(r.states) > 0
				r.push(&r.roster)
				if watching && !slices.Equal(watcher.ids(), m.all()) {
					t.Fatalf("the watcher has %v, want %v", watcher.ids(), m.all())
				}
				pullAndCheck(t, r, m, consumer, announced)
			},
			"": func(t *rapid.T) {
				m.peak = max(m.peak, len(m.single))
				checkRegistry(t, r, m)
				for _, l := range handedOut {
					if !slices.Equal(l.slice, l.want) {
						t.Fatalf("a slice that was handed out as %v is now %v", l.want, l.slice)
					}
				}
			},
		})
	})
}

// pullAndCheck has the consumer pull, and checks what it has then.
func pullAndCheck(t *rapid.T, r *Registry[int], m *model, c *localConsumer, announced map[uint64]bool) {
	pulled, before := c.revision != 0, maps.Clone(c.joins)
	c.pull(t, r, announced)
	if got, want := slices.Sorted(maps.Keys(c.present)), slices.Sorted(maps.Keys(m.single)); !slices.Equal(got, want) {
		t.Fatalf("the consumer of LocalChanges has %v, want %v", got, want)
	}
	for id := range announced {
		if m.single[id] != 0 && pulled && c.joins[id] != before[id]+1 {
			t.Fatalf("%d was announced again and did not join", id)
		}
	}
	clear(announced)
}

func checkRegistry(t *rapid.T, r *Registry[int], m *model) {
	all := m.all()
	query := append(slices.Clone(all), 0, 21, 999)
	found := make([]int, len(query))
	r.Find(query, found)
	for i, id := range query {
		if found[i] != m.find(id) {
			t.Fatalf("the member of %d is %d, want %d", id, found[i], m.find(id))
		}
	}
	if now, peak := r.Size(); now != len(m.single) || peak != m.peak || r.Total() != len(all) {
		t.Fatalf("size %d, peak %d, total %d, want %d, %d and %d", now, peak, r.Total(), len(m.single), m.peak, len(all))
	}
	for g := range 5 {
		if got, want := r.GroupSize(g), len(m.ids(g)); got != want {
			t.Fatalf("group %d has %d ids, want %d", g, got, want)
		}
	}
	if r.hasGroups != (len(m.groups) > 0) || len(r.claims.handles) != len(m.groups) {
		t.Fatalf("%d groups, want %d", len(r.claims.handles), len(m.groups))
	}
	// The lists are compared without IDs, which would merge the log at every step.
	ids := r.ids
	if r.hasGroups {
		ids = r.all.merged()
	}
	if !slices.Equal(ids, all) {
		t.Fatalf("ids %v, want %v", ids, all)
	}
}
