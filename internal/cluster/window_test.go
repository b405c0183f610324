package cluster

import (
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"pgregory.net/rapid"
)

// testBatch returns a batch of size bytes in the window for the receivers.
func testBatch(size int, to ...uint64) *outgoing {
	t := &relay.Transfer{Batch: outbox.Batch{Frames: 1}}
	for i, id := range to {
		t.Receivers = append(t.Receivers, relay.TransferTo{ID: id, Index: i})
	}
	o := newOutgoing(t)
	o.size = size
	return o
}

// under is a batch that was sent to some receivers.
type under struct {
	out *outgoing
	to  positions
}

// sentIDs returns the ids of the receivers in to.
func sentIDs(o *outgoing, to positions) (ids []uint64) {
	to.all(func(i int) { ids = append(ids, o.Receivers[i].ID) })
	return ids
}

func TestWindow_SlowReceiverLeavesHalfOfWhatIsFree(t *testing.T) {
	var w window
	w.init(minWindow)
	const size = 64 << 10
	total := 0
	for receiver := uint64(1); receiver <= 4; receiver++ {
		n := 0
		for {
			a := w.offer(testBatch(size, receiver))
			if a.send.len() == 0 {
				break
			}
			n++
		}
		total += n * size
		t.Logf("receiver %d: %d KiB", receiver, n*size>>10)
		if free := minWindow - total; n == 0 || free < minWindow/100 {
			t.Fatalf("receiver %d has %d batches, and %d bytes are free", receiver, n, free)
		}
	}
	if a := w.offer(testBatch(size, 5)); a.send.len() != 1 {
		t.Error("a receiver without anything under way has to wait for slow ones")
	}
}

func TestWindow_LargestBatchGoesAlone(t *testing.T) {
	var w window
	w.init(minWindow)
	large := testBatch(2*minWindow, 1)
	if a := w.offer(large); a.send.len() != 1 {
		t.Fatal("a batch above the limit has to wait although nothing is under way")
	}
	small := testBatch(1, 2)
	if a := w.offer(small); a.send.len() != 0 {
		t.Fatal("a batch is sent beside one that is above the limit")
	}
	w.release(large, 1)
	w.releaseSum(large)
	var a admission
	if o := w.next(&a); o != small || a.send.len() != 1 {
		t.Fatal("the batch behind it is not sent")
	}
}

// TestWindow_RemoveAll_LaneGoesOn removes batches that wait behind one that is under way. What is
// offered afterwards is sent when that one is queued.
func TestWindow_RemoveAll_LaneGoesOn(t *testing.T) {
	var w window
	w.init(minWindow)
	first := testBatch(minWindow/2, 1)
	w.offer(first)
	for range 2 { // the second becomes the first of the lane
		w.offer(testBatch(minWindow/2, 1))
	}
	removed := 0
	w.removeAll(func(_ *outgoing, waited positions) { removed += waited.len() })
	if removed != 2 {
		t.Fatalf("%d batches were removed, want 2", removed)
	}
	later := testBatch(minWindow/2, 1)
	if a := w.offer(later); a.send.len() != 0 {
		t.Fatal("a batch is sent without room for it")
	}
	w.release(first, 1)
	w.releaseSum(first)
	var a admission
	if o := w.next(&a); o != later || a.send.len() != 1 {
		t.Fatal("a batch that was offered after the removal is not sent")
	}
}

// TestWindow_WaitingBatchCrossesOnce has all receivers of a group equally slow: what waits for all
// of them crosses as one batch.
func TestWindow_WaitingBatchCrossesOnce(t *testing.T) {
	var w window
	w.init(minWindow)
	const size = 256 << 10
	receivers := []uint64{1, 2, 3, 4, 5}
	var sent, all []*outgoing
	for range 20 {
		o := testBatch(size, receivers...)
		all = append(all, o)
		if a := w.offer(o); a.send.len() == len(receivers) {
			sent = append(sent, o)
		} else if a.send.len() > 0 {
			t.Fatalf("a batch is sent to %d of %d receivers", a.send.len(), len(receivers))
		}
	}
	for i := 0; i < len(sent); i++ {
		for _, id := range receivers {
			w.release(sent[i], id)
		}
		w.releaseSum(sent[i])
		var a admission
		for o := w.next(&a); o != nil; o = w.next(&a) {
			if n := a.send.len(); n != 0 && n != len(receivers) {
				t.Fatalf("a batch is sent to %d of %d receivers", n, len(receivers))
			} else if n > 0 {
				sent = append(sent, o)
			}
		}
	}
	if !slices.Equal(sent, all) {
		t.Errorf("%d batches were sent, want all %d in order", len(sent), len(all))
	}
}

func TestWindow_OverflowPolicies(t *testing.T) {
	full := func(policy outbox.Overflow) (w *window, held *outgoing) {
		w = new(window)
		w.init(minWindow)
		held = testBatch(minWindow/2, 1)
		w.offer(held)
		return w, held
	}
	withPolicy := func(policy outbox.Overflow) *outgoing {
		o := testBatch(minWindow/2-1, 1)
		o.Batch.Options = &outbox.Options{Overflow: policy}
		return o
	}
	t.Run("reject", func(t *testing.T) {
		w, _ := full(outbox.OverflowReject)
		if a := w.offer(withPolicy(outbox.OverflowReject)); a.rejected.len() != 1 {
			t.Errorf("%+v, want a rejection", a)
		}
	})
	t.Run("drop oldest", func(t *testing.T) {
		w, held := full(outbox.OverflowDropOldest)
		blocked := withPolicy(outbox.OverflowBlock)
		w.offer(blocked)
		oldest := withPolicy(outbox.OverflowDropOldest)
		if a := w.offer(oldest); a.rejected.len() != 0 || len(a.dropped) != 0 || !oldest.waits() {
			t.Errorf("%+v, want that the first one waits", a)
		}
		newest := withPolicy(outbox.OverflowDropOldest)
		a := w.offer(newest)
		if len(a.dropped) != 1 || a.dropped[0] != (dropped{oldest, 0}) {
			t.Fatalf("%+v, want that the oldest gives way", a)
		}
		w.release(held, 1)
		w.releaseSum(held)
		if o := w.next(&a); o != blocked {
			t.Error("the batch that blocks is not the next")
		}
		w.release(blocked, 1)
		w.releaseSum(blocked)
		if o := w.next(&a); o != newest {
			t.Error("the newest batch is not sent")
		}
	})
}

// TestWindow_DropOldest_ReceiverTwice has a batch give way that names its receiver twice: one copy
// of it for each new batch.
func TestWindow_DropOldest_ReceiverTwice(t *testing.T) {
	var w window
	w.init(minWindow)
	w.offer(testBatch(minWindow/2, 1))
	droppable := func(to ...uint64) *outgoing {
		o := testBatch(minWindow/2-1, to...)
		o.Batch.Options = &outbox.Options{Overflow: outbox.OverflowDropOldest}
		return o
	}
	first, second := droppable(1), droppable(1)
	twice := droppable(1, 1)
	w.wait(twice, 0)
	w.wait(twice, 1)
	for position, o := range []*outgoing{first, second} {
		if a := w.offer(o); len(a.dropped) != 1 || a.dropped[0] != (dropped{twice, position}) {
			t.Errorf("batch %d makes %+v give way, want a copy of the batch that waits twice", position, a.dropped)
		}
	}
	if twice.waits() || !first.waits() || !second.waits() {
		t.Error("the wrong batches wait")
	}
}

// TestWindow_KeepsNoMemoryOfWhatHasPassed has something wait all the time.
func TestWindow_KeepsNoMemoryOfWhatHasPassed(t *testing.T) {
	var w window
	w.init(minWindow)
	var under []*outgoing
	for range 3 {
		o := testBatch(minWindow, 1)
		if a := w.offer(o); a.send.len() == 1 {
			under = append(under, o)
		}
	}
	allocated := testing.AllocsPerRun(10_000, func() {
		done := under[0]
		w.release(done, 1)
		w.releaseSum(done)
		var a admission
		under[0] = w.next(&a)
		w.offer(done)
	})
	if cap(w.ready) > 100 || w.queue.Len()+len(under) != 3 || allocated > 4 {
		t.Errorf("%d batches wait, and a step allocates %v objects", w.queue.Len(), allocated)
	}
}

// BenchmarkWindow_DropOldestBehindMany has a batch give way while many of another sender wait.
func BenchmarkWindow_DropOldestBehindMany(b *testing.B) {
	var w window
	w.init(minWindow)
	w.offer(testBatch(minWindow/2, 1))
	for range 100_000 {
		o := testBatch(minWindow/2-1, 1)
		o.Origin = 1
		w.offer(o)
	}
	o := testBatch(minWindow/2-1, 1)
	o.Origin, o.Batch.Options = 2, &outbox.Options{Overflow: outbox.OverflowDropOldest}
	w.wait(o, 0)
	b.ReportAllocs()
	for b.Loop() {
		next := testBatch(minWindow/2-1, 1)
		next.Origin, next.Batch.Options = o.Origin, o.Batch.Options
		w.offer(next)
	}
}

// TestWindow_Model offers, confirms and removes batches at random. Each batch is sent once to each
// receiver, in order, within the limits, and all are sent in the end.
func TestWindow_Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &windowModel{expected: make(map[uint64][]*outgoing)}
		m.window.init(minWindow)
		t.Repeat(map[string]func(*rapid.T){
			"offer":   m.offer,
			"confirm": m.confirm,
			"remove":  m.remove,
			"all":     m.removeAll,
			"":        m.check,
		})
		for len(m.underWay) > 0 {
			m.confirmAt(t, 0)
			m.check(t)
		}
		for id, batches := range m.expected {
			if len(batches) > 0 {
				t.Fatalf("%d batches were not sent to receiver %d", len(batches), id)
			}
		}
		if len(m.window.lanes) > 0 || m.window.underWay != 0 {
			t.Fatalf("%d lanes and %d bytes are left", len(m.window.lanes), m.window.underWay)
		}
	})
}

type windowModel struct {
	window   window
	expected map[uint64][]*outgoing // by receiver, in order
	waiting  []*outgoing
	underWay []under
}

func (m *windowModel) offer(t *rapid.T) {
	ids := rapid.SliceOfN(rapid.Uint64Range(1, 6), 1, 4).Draw(t, "ids") // some more than once
	o := testBatch(rapid.IntRange(1, minWindow+1).Draw(t, "size"), ids...)
	o.Origin = rapid.Uint64Range(1, 2).Draw(t, "sender")
	o.Batch.Options = &outbox.Options{Overflow: outbox.Overflow(rapid.IntRange(0, 2).Draw(t, "policy"))}
	for _, id := range ids {
		m.expected[id] = append(m.expected[id], o)
	}
	m.waiting = append(m.waiting, o)
	a := m.window.offer(o)
	m.apply(t, o, &a)
}

// apply checks what the window has decided about o.
func (m *windowModel) apply(t *rapid.T, o *outgoing, a *admission) {
	m.forget(o, a.rejected)
	for _, d := range a.dropped {
		if d.out.Origin != o.Origin || d.out.overflow() != outbox.OverflowDropOldest || o.overflow() != outbox.OverflowDropOldest {
			t.Fatal("a batch gives way that must not")
		}
		var at positions
		at.set(d.position)
		m.forget(d.out, at)
	}
	if o.overflow() == outbox.OverflowBlock && a.rejected.len() > 0 {
		t.Fatal("a batch that blocks is rejected")
	}
	m.sent(t, o, a.send)
}

// forget expects o at these receivers no more.
func (m *windowModel) forget(o *outgoing, at positions) {
	for _, id := range sentIDs(o, at) {
		i := slices.Index(m.expected[id], o)
		m.expected[id] = slices.Delete(m.expected[id], i, i+1)
	}
}

// sent records that o is sent to some of its receivers.
func (m *windowModel) sent(t *rapid.T, o *outgoing, to positions) {
	if to == (positions{}) {
		return
	}
	for _, id := range sentIDs(o, to) {
		if m.expected[id][0] != o {
			t.Fatalf("receiver %d gets a batch out of order", id)
		}
		m.expected[id] = m.expected[id][1:]
	}
	m.underWay = append(m.underWay, under{o, to})
	if m.window.underWay > m.window.limit && len(m.underWay) > 1 {
		t.Fatalf("%d bytes are under way in %d batches", m.window.underWay, len(m.underWay))
	}
}

func (m *windowModel) confirm(t *rapid.T) {
	if len(m.underWay) > 0 {
		m.confirmAt(t, rapid.IntRange(0, len(m.underWay)-1).Draw(t, "at"))
	}
}

func (m *windowModel) confirmAt(t *rapid.T, i int) {
	u := m.underWay[i]
	m.underWay = slices.Delete(m.underWay, i, i+1)
	for _, id := range sentIDs(u.out, u.to) {
		m.window.release(u.out, id)
	}
	m.window.releaseSum(u.out)
	m.sendWaiting(t)
}

func (m *windowModel) sendWaiting(t *rapid.T) {
	var a admission
	for o := m.window.next(&a); o != nil; o = m.window.next(&a) {
		m.apply(t, o, &a)
	}
}

func (m *windowModel) remove(t *rapid.T) {
	if len(m.waiting) == 0 {
		return
	}
	o := rapid.SampledFrom(m.waiting).Draw(t, "batch")
	m.forget(o, m.window.remove(o))
	m.sendWaiting(t)
}

// removeAll removes all that waits, as when the link breaks.
func (m *windowModel) removeAll(t *rapid.T) {
	m.window.removeAll(func(o *outgoing, waited positions) { m.forget(o, waited) })
	for id, batches := range m.expected {
		if len(batches) > 0 {
			t.Fatalf("a batch still waits for receiver %d", id)
		}
	}
}

// check compares the sums of the window with what is under way.
func (m *windowModel) check(t *rapid.T) {
	sum, lanes := 0, make(map[uint64]int)
	for _, u := range m.underWay {
		sum += u.out.size
		for _, id := range sentIDs(u.out, u.to) {
			lanes[id] += u.out.size
		}
	}
	if sum != m.window.underWay {
		t.Fatalf("%d bytes are under way, the window says %d", sum, m.window.underWay)
	}
	for id, l := range m.window.lanes {
		if l.underWay != lanes[id] {
			t.Fatalf("%d bytes are under way to receiver %d, the window says %d", lanes[id], id, l.underWay)
		}
	}
	if len(m.underWay) == 0 {
		for id, batches := range m.expected {
			if len(batches) > 0 {
				t.Fatalf("a batch for receiver %d waits although nothing is under way", id)
			}
		}
	}
}

// TestWindow_Block_WaitsForAll offers batches for two receivers, of which one has no room. They
// cross once, for both, as long as the other has enough under way.
func TestWindow_Block_WaitsForAll(t *testing.T) {
	var w window
	w.init(minWindow)
	offer := func(size int, ids ...uint64) (*outgoing, admission) {
		to := make([]relay.TransferTo, len(ids))
		for i, id := range ids {
			to[i] = relay.TransferTo{ID: id, Index: i}
		}
		o := newOutgoing(&relay.Transfer{Batch: outbox.Batch{To: size, Frames: 1}, Receivers: to})
		return o, w.offer(o)
	}
	slow, _ := offer(minWindow/4, 1)
	fast, _ := offer(minWindow/8, 2)
	both, a := offer(minWindow/8, 1, 2)
	if a.send != (positions{}) {
		t.Fatalf("sent to %d receivers while one has no room, and the other has enough", a.send.len())
	}
	if o := w.next(&a); o != nil {
		t.Fatal("sent without a release")
	}
	w.releaseSum(slow)
	w.release(slow, 1)
	if o := w.next(&a); o != both || a.send.len() != 2 {
		t.Fatalf("sent to %d receivers, want both", a.send.len())
	}
	w.releaseSum(fast)
	w.release(fast, 2)
	if w.next(&a) != nil {
		t.Fatal("sent twice")
	}

	// Now the fast receiver has nothing else under way.
	w.releaseSum(both)
	w.release(both, 1)
	w.release(both, 2)
	offer(minWindow/4, 1)
	if _, a = offer(minWindow/4, 1, 2); a.send.len() != 1 || !a.send.has(1) {
		t.Errorf("sent to %d receivers, want the one that has nothing under way", a.send.len())
	}
}
