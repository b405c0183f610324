package presence

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestGroups_ClientThatChangesMember_IsNoChange has a client move between groups and the registry
// itself: the new one claims it before the old one leaves it. Watchers hear of the first join and
// of the last leave.
func TestGroups_ClientThatChangesMember_IsNoChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startRegistry(t)
		w := newFakeWatcher()
		r.Watch(w, 0, 1)
		settle(2 * coalesceDelay)
		ids := []uint64{7}
		for i, step := range []struct {
			do       func()
			want     string // the member that is found
			isUpdate bool
		}{
			{func() { r.UpdateGroup("a", ids, nil) }, "a", true},
			{func() { r.UpdateGroup("b", ids, nil) }, "b", false},
			{func() { r.UpdateGroup("a", nil, ids) }, "b", false},
			{func() { r.Join(7, "single") }, "single", false},
			{func() { r.UpdateGroup("a", ids, nil) }, "single", false},
			{func() { r.RemoveGroup("b") }, "single", false},
			{func() { r.ReplaceGroup("a", ids) }, "single", false},
			{func() { r.Leave(7, "single") }, "a", false},
			{func() { r.ReplaceGroup("a", nil) }, "", true},
			{func() { r.Join(7, "single") }, "single", true},
			{func() { r.UpdateGroup("c", ids, nil) }, "single", false},
			{func() { r.Leave(7, "single") }, "c", false},
			{func() { r.RemoveGroup("c") }, "", true},
		} {
			updates := w.updates
			step.do()
			settle(2 * coalesceDelay)
			var found [1]string
			r.Find(ids, found[:])
			if found[0] != step.want || w.updates-updates > 1 || (w.updates > updates) != step.isUpdate || !slices.Equal(w.ids(), r.IDs()) {
				t.Errorf("step %d: found %q, want %q; %d updates, the watcher has %v", i, found[0], step.want, w.updates-updates, w.ids())
			}
		}
	})
}

// TestGroups_None_ListIsOfSingleMembers checks that the registry has one list only before the
// first group and after the last one.
func TestGroups_None_ListIsOfSingleMembers(t *testing.T) {
	r := New[int]()
	r.Join(1, 1)
	oneList := func() bool {
		return &r.IDs()[0] == &r.LocalIDs()[0] && r.all.base == nil && r.all.log == nil && r.claims.handles == nil
	}
	if !oneList() {
		t.Error("two lists before the first group")
	}
	r.UpdateGroup(-1, []uint64{2}, nil)
	r.Join(3, 3)
	if ids := r.IDs(); !slices.Equal(ids, []uint64{1, 2, 3}) || &ids[0] != &r.IDs()[0] {
		t.Errorf("ids %v: want them once", ids)
	}
	r.RemoveGroup(-1)
	r.Join(4, 4)
	if !oneList() || r.RemoveGroup(-1) != nil {
		t.Error("two lists after the last group")
	}
}

func TestDifference(t *testing.T) {
	for _, test := range []struct{ before, after, joined, left []uint64 }{
		{nil, nil, nil, nil},
		{nil, []uint64{1}, []uint64{1}, nil},
		{[]uint64{1}, nil, nil, []uint64{1}},
		{[]uint64{1, 2, 3}, []uint64{1, 2, 3}, nil, nil},
		{[]uint64{1, 3, 5}, []uint64{2, 3, 6, 7}, []uint64{2, 6, 7}, []uint64{1, 5}},
	} {
		if joined, left := difference(test.before, test.after); !slices.Equal(joined, test.joined) || !slices.Equal(left, test.left) {
			t.Errorf("difference(%v, %v) = %v, %v", test.before, test.after, joined, left)
		}
	}
}

// TestGroups_ConcurrentUse changes groups and single members with the same ids at once, with logs
// long enough to be merged by each of them, while others list and find. In the end the lists, the
// members and a watcher agree.
func TestGroups_ConcurrentUse(t *testing.T) {
	const ids = 8 * minLog
	r := New[int]()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // ends when stop is closed
		defer close(done)
		r.Run(stop)
	}()
	w := newFakeWatcher()
	r.Watch(w, 0, 1)
	var writers, readers sync.WaitGroup
	var end atomic.Bool
	for i := range uint64(3) {
		writers.Go(func() { changeGroup(r, -1-int(i), rand.New(rand.NewPCG(i, 1)), ids) })
		writers.Go(func() {
			random := rand.New(rand.NewPCG(i, 2))
			for range 10_000 {
				id := 1 + random.Uint64N(ids)
				r.Join(id, 1+int(i))
				r.Leave(id, 1+int(i))
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for !end.Load() {
				if ids := r.IDs(); !slices.IsSorted(ids) || len(slices.Compact(slices.Clone(ids))) != len(ids) {
					t.Error("the ids are not ascending")
				}
				r.Find([]uint64{1, 2, 3}, make([]int, 3))
			}
		})
	}
	writers.Wait()
	end.Store(true)
	readers.Wait()
	close(stop)
	<-done
	r.push(&r.roster)
	checkAgreement(t, r, w, ids)
}

// changeGroup updates, replaces and removes a group at random, and checks what it has in the end.
func changeGroup(r *Registry[int], group int, random *rand.Rand, ids uint64) {
	for n := range 20 {
		joined := randomIDs(random, ids)
		switch n % 5 {
		case 3:
			r.ReplaceGroup(group, joined)
		case 4:
			r.RemoveGroup(group)
		default:
			r.UpdateGroup(group, joined, randomIDs(random, ids))
		}
	}
	r.ReplaceGroup(group, randomIDs(random, ids))
}

// randomIDs returns about a third of the ids from 1 to n.
func randomIDs(random *rand.Rand, n uint64) (ids []uint64) {
	for id := range n {
		if random.IntN(3) == 0 {
			ids = append(ids, id+1)
		}
	}
	return ids
}

// checkAgreement checks that Find, IDs, Total and a watcher agree on the ids from 1 to n.
func checkAgreement(t *testing.T, r *Registry[int], w *fakeWatcher, n uint64) {
	t.Helper()
	found := make([]int, n)
	r.Find(idRange(1, n), found)
	var want []uint64
	for i, member := range found {
		if member != 0 {
			want = append(want, uint64(i+1))
		}
	}
	if got := r.IDs(); !slices.Equal(got, want) || r.Total() != len(want) {
		t.Errorf("%d ids, %d in total, %d can be found", len(got), r.Total(), len(want))
	}
	if !slices.Equal(w.ids(), want) || w.repeated > 0 {
		t.Errorf("the watcher has %d ids, %d can be found; it was sent %d changes twice", len(w.ids()), len(want), w.repeated)
	}
}

// maxBytesPerRemoteClient is what the hub may remember of a client of another hub, in bytes.
const maxBytesPerRemoteClient = 50

// heapInUse returns the bytes on the heap after a garbage collection.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// remoteIDs returns ids as n clients of one of several hubs have them: a number of the hub above
// 41 bits, and a counter.
func remoteIDs(hub, n uint64) []uint64 { return idRange(1<<63|hub<<41, n) }

// TestGroups_BytesPerClient fills 9 groups, in pieces as they come from other hubs, and then has a
// third of the clients replaced by others. It measures the memory with the longest log that can
// be, and after a list was made. 120,000 and 1,000,000 are numbers just above those at which the
// map of ids grows.
func TestGroups_BytesPerClient(t *testing.T) {
	const groups = 9
	for _, n := range []uint64{100_000, 120_000, 1_000_000} {
		if testing.Short() && n > 200_000 {
			continue
		}
		before := heapInUse()
		r := New[*int]()
		var worst uint64
		measure := func() uint64 { worst = max(worst, heapInUse()-before); return worst }
		members := make([]*int, groups)
		for hub := range uint64(groups) {
			members[hub] = new(int)
			for piece := range slices.Chunk(remoteIDs(hub, n/groups), 1000) {
				r.UpdateGroup(members[hub], piece, nil)
			}
		}
		measure()
		for hub := range uint64(groups) { // the first third leaves, and as many join behind
			for piece := range slices.Chunk(remoteIDs(hub, n/groups/3), 1000) {
				next := make([]uint64, len(piece))
				for i, id := range piece {
					next[i] = id + n/groups
				}
				r.UpdateGroup(members[hub], next, piece)
			}
		}
		measure()
		r.IDs()
		perClient := float64(measure()) / float64(r.Total())
		t.Logf("%d clients: %.1f bytes each at most, %.1f after a list", n, perClient, float64(heapInUse()-before)/float64(r.Total()))
		if perClient > maxBytesPerRemoteClient {
			t.Errorf("%d clients take %.1f bytes each, the maximum is %d", n, perClient, maxBytesPerRemoteClient)
		}
		runtime.KeepAlive(r)
	}
}

// BenchmarkUpdateGroup has 10,000 random ids join a group of 1,000,000, and leave it again, with a
// list of all ids after each.
func BenchmarkUpdateGroup(b *testing.B) {
	r := New[*int]()
	group := new(int)
	ids := remoteIDs(1, 1_000_000)
	for i := range ids {
		ids[i] += 99 * uint64(i)
	}
	r.UpdateGroup(group, ids, nil)
	random := rand.New(rand.NewPCG(1, 1))
	var changed []uint64
	for range 10_000 {
		changed = append(changed, ids[0]+1+100*random.Uint64N(1_000_000))
	}
	slices.Sort(changed)
	changed = slices.Compact(changed)
	r.IDs()
	b.ReportAllocs()
	for b.Loop() {
		r.UpdateGroup(group, changed, nil)
		r.IDs()
		r.UpdateGroup(group, nil, changed)
		r.IDs()
	}
}

func BenchmarkReplaceGroup(b *testing.B) {
	ids := remoteIDs(1, 1_000_000)
	for _, kind := range []string{"new", "same"} {
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			r := New[*int]()
			group := new(int)
			for b.Loop() {
				if kind == "new" {
					r = New[*int]()
				}
				r.ReplaceGroup(group, ids)
			}
		})
	}
}

// BenchmarkFindDuringReplace finds 100 local clients while a group of 1,000,000 is filled and
// removed, and reports the slowest calls.
func BenchmarkFindDuringReplace(b *testing.B) {
	r := New[*int]()
	for id := range uint64(10_000) {
		r.Join(id+1, new(int))
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { // ends when stop is closed
		defer close(done)
		group, all := new(int), remoteIDs(1, 1_000_000)
		for {
			select {
			case <-stop:
				return
			default:
				r.ReplaceGroup(group, all)
				r.RemoveGroup(group)
			}
		}
	}()
	ids, found := r.LocalIDs()[:100], make([]*int, 100)
	var times []time.Duration
	for b.Loop() {
		start := time.Now()
		r.Find(ids, found)
		times = append(times, time.Since(start))
	}
	close(stop)
	<-done
	slices.Sort(times)
	for _, permille := range []int{500, 990, 999} {
		b.ReportMetric(float64(times[len(times)*permille/1000].Microseconds()), "us-p"+strconv.Itoa(permille))
	}
	b.ReportMetric(float64(times[len(times)-1].Microseconds()), "us-max")
}
