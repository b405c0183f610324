package local

import (
	"runtime"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/sechlol/go-message-hub/wire"
)

// TestPump_Batches_Join checks which of two messages form a batch that are sent while the pump is
// busy.
func TestPump_Batches_Join(t *testing.T) {
	received, written := wire.MakeOptions(wire.LevelReceived, wire.OverflowBlock), wire.MakeOptions(wire.LevelWritten, wire.OverflowBlock)
	for name, test := range map[string]struct {
		first, second Send
		batches       int
	}{
		"same receivers":        {Send{To: []uint64{5}}, Send{To: []uint64{5}}, 1},
		"same options":          {Send{To: []uint64{5}, Options: received}, Send{To: []uint64{5}, Options: received}, 1},
		"same end":              {Send{To: []uint64{5}, Expires: 1 << 62}, Send{To: []uint64{5}, Expires: 1 << 62}, 1},
		"several receivers":     {Send{To: []uint64{5, 6}}, Send{To: []uint64{5, 6}}, 1},
		"another receiver":      {Send{To: []uint64{5, 6}}, Send{To: []uint64{5, 7}}, 2},
		"one more receiver":     {Send{To: []uint64{5}}, Send{To: []uint64{5, 6}}, 2},
		"another order":         {Send{To: []uint64{5, 6}}, Send{To: []uint64{6, 5}}, 2},
		"duplicates":            {Send{To: []uint64{5, 6, 6}}, Send{To: []uint64{5, 6, 6}}, 2},
		"another level":         {Send{To: []uint64{5}, Options: received}, Send{To: []uint64{5}, Options: written}, 2},
		"another end":           {Send{To: []uint64{5}, Expires: 1 << 62}, Send{To: []uint64{5}, Expires: 1<<62 + 1}, 2},
		"verdicts":              {Send{To: []uint64{5}, Options: wire.MakeOptions(wire.LevelProcessed, 0)}, Send{To: []uint64{5}, Options: wire.MakeOptions(wire.LevelProcessed, 0)}, 2},
		"drops the oldest":      {Send{To: []uint64{5}, Options: wire.MakeOptions(0, wire.OverflowDropOldest)}, Send{To: []uint64{5}, Options: wire.MakeOptions(0, wire.OverflowDropOldest)}, 2},
		"rejected":              {Send{To: []uint64{5}, Options: wire.MakeOptions(0, wire.OverflowReject)}, Send{To: []uint64{5}, Options: wire.MakeOptions(0, wire.OverflowReject)}, 1},
		"more than one buffer":  {Send{To: []uint64{5}, Body: make([]byte, 20_000)}, Send{To: []uint64{5}, Body: make([]byte, 20_000)}, 2},
		"large, the same again": {Send{To: []uint64{5}, Body: make([]byte, 200_000)}, Send{To: []uint64{5}, Body: make([]byte, 200_000)}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newTestHub(t, limits{})
				g := newGate()
				h.add(5, g)
				seq := h.sendTo(t, 1, nil, 5)
				synctest.Wait() // the pump offers it
				test.first.From, test.second.From = 1, 1
				h.start(t, test.first)
				h.start(t, test.second)
				close(g.open)
				synctest.Wait()
				want := [][]uint64{{seq}, {seq + 1, seq + 2}}
				if test.batches == 2 {
					want = [][]uint64{{seq}, {seq + 1}, {seq + 2}}
				}
				if got := g.taken(); !slices.EqualFunc(got, want, slices.Equal) {
					t.Errorf("the batches are %v, want %v", got, want)
				}
			})
		})
	}
}

// TestPump_Duplicates_KeepOrder sends several messages, each of them twice to the same receiver.
func TestPump_Duplicates_KeepOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{})
		r := h.addReceiver(5, 4<<10)
		for i := range 10 {
			h.sendTo(t, 1, numbered(i, 8), 5, 5)
		}
		for i := range 10 {
			expectNumbered(t, r, i, 8)
			expectNumbered(t, r, i, 8)
		}
	})
}

// TestPump_BusyPump_AllocatesNothing counts the allocations of a message that joins a batch.
func TestPump_BusyPump_AllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop items under the race detector")
	}
	h := newTestHub(t, limits{})
	g := newGate()
	h.add(5, g)
	send := Send{From: 1, To: []uint64{5, 6}, Body: make([]byte, 100)}
	ctx := t.Context()
	if _, err := h.Send(ctx, &Send{From: 1, To: []uint64{5}}); err != nil { // the pump offers it
		t.Fatal(err)
	}
	got := testing.AllocsPerRun(200, func() {
		if _, err := h.Send(ctx, &send); err != nil {
			t.Fatal(err)
		}
	})
	if got > 0 {
		t.Errorf("a message of a batch costs %v allocations", got)
	}
	close(g.open)
}

// TestPump_Idle_HoldsNothing checks that a sender whose messages are received has no goroutine, no
// buffer, and little memory.
func TestPump_Idle_HoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{})
		g := newGate()
		h.add(5, g)
		h.add(6, g)
		for i := range 1000 { // each a batch of its own
			h.sendTo(t, 1, nil, 5+uint64(i%2))
		}
		close(g.open)
		synctest.Wait()
		if n := len(g.taken()); n != 1000 {
			t.Errorf("%d batches, want 1000", n)
		}
		o := h.sender(1)
		if !o.unused() || o.builder.HasRoom(0) || o.unsent != 0 || len(o.queue) != 0 {
			t.Errorf("an idle sender holds %d bytes, %d batches, or a buffer", o.unsent, len(o.queue))
		}
		if n := cap(o.queue); n > maxIdleQueue {
			t.Errorf("an idle sender has room for %d batches", n)
		}
	})
}

// TestPump_IdlePump_AllocatesLittle counts the allocations of a message that is sent alone.
func TestPump_IdlePump_AllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop items under the race detector")
	}
	h := newTestHub(t, limits{})
	h.add(5, discard{})
	h.add(6, discard{})
	send := Send{From: 1, To: []uint64{5, 6}, Body: make([]byte, 100)}
	ctx := t.Context()
	const maxAllocs = 2 // the receivers, and the goroutine of the pump
	got := testing.AllocsPerRun(2000, func() {
		if _, err := h.Send(ctx, &send); err != nil {
			t.Fatal(err)
		}
		for !h.sender(1).unused() {
			runtime.Gosched()
		}
	})
	if got > maxAllocs {
		t.Errorf("a message alone costs %v allocations, want at most %v", got, maxAllocs)
	}
}
