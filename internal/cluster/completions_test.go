package cluster

import (
	"maps"
	"testing"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// completionsTest is a batch of two messages to three receivers.
type completionsTest struct {
	*testEvents
	out       *outgoing
	unblocked int
	drops     map[wire.Fate]int
}

func newCompletionsTest() *completionsTest {
	ct := &completionsTest{testEvents: new(testEvents), drops: make(map[wire.Fate]int)}
	var fl outbox.Flusher
	t := &relay.Transfer{Batch: outbox.Batch{Frames: 2}, Queued: fl.AddBlocked(), Events: ct.testEvents}
	fl.OnUnblocked(func() { ct.unblocked++ })
	for i := range 3 {
		t.Receivers = append(t.Receivers, relay.TransferTo{ID: uint64(i), Index: 10 + i})
	}
	ct.out = newOutgoing(t)
	return ct
}

func (ct *completionsTest) run(c *completions) {
	c.run(func(fate wire.Fate, n int) { ct.drops[fate] += n })
	*c = completions{}
}

func (ct *completionsTest) wantDrops(t *testing.T, want map[wire.Fate]int) {
	t.Helper()
	if !maps.Equal(ct.drops, want) {
		t.Errorf("dropped %v, want %v", ct.drops, want)
	}
	clear(ct.drops)
}

// TestCompletions_UnblockOnce ends the wait for each receiver in another way. The last one unblocks
// the sender.
func TestCompletions_UnblockOnce(t *testing.T) {
	ct := newCompletionsTest()
	var c completions
	c.failOne(ct.out, 0, outbox.EventUnreachable)
	ct.run(&c)
	ct.want(t, testEvent{receiver: 10, event: outbox.EventUnreachable, frames: 2})
	ct.wantDrops(t, map[wire.Fate]int{wire.FateUnreachable: 2})
	var second positions
	second.set(1)
	c.decide(ct.out, second, wire.FateFull)
	ct.run(&c)
	ct.want(t, testEvent{receiver: 11, fate: wire.FateFull, isFate: true, frames: 2})
	ct.wantDrops(t, map[wire.Fate]int{}) // the overflow policy wants it
	if ct.unblocked != 0 {
		t.Error("unblocked before the last receiver")
	}
	c.unblock(ct.out)
	ct.run(&c)
	ct.want(t)
	if ct.unblocked != 1 {
		t.Errorf("unblocked %d times", ct.unblocked)
	}
}

// TestCompletions_FailCrossing has a report outstanding, or none. Only receivers for which it is
// not queued count as drops.
func TestCompletions_FailCrossing(t *testing.T) {
	for _, reports := range []bool{true, false} {
		ct := newCompletionsTest()
		x := &crossing{out: ct.out, to: firstPositions(3)}
		x.unqueued.set(2)
		if reports {
			x.undecided = 4
		}
		var c completions
		c.failCrossing(x, outbox.EventUnreachable)
		ct.run(&c)
		want := []testEvent{{receiver: 12, event: outbox.EventUnreachable, frames: 2}}
		if reports {
			for i := range 2 {
				want = append(want, testEvent{receiver: 10 + i, event: outbox.EventUnreachable, frames: 2})
			}
		}
		ct.want(t, want...)
		ct.wantDrops(t, map[wire.Fate]int{wire.FateUnreachable: 2})
	}
}

// TestCompletions_WithoutEvents has nothing that needs the events of the batch.
func TestCompletions_WithoutEvents(t *testing.T) {
	ct := newCompletionsTest()
	ct.out.Events = nil
	buffer := body.Get(1)
	buffer.Retain()
	c := completions{buffers: []*body.Buffer{buffer}}
	c.fail(ct.out, firstPositions(2), outbox.EventUnreachable)
	var last positions
	last.set(2)
	c.decide(ct.out, last, wire.FateTooLarge)
	ct.run(&c)
	ct.want(t)
	ct.wantDrops(t, map[wire.Fate]int{wire.FateUnreachable: 4, wire.FateTooLarge: 2})
	if ct.unblocked != 1 || buffer.Shared() {
		t.Errorf("unblocked %d times; the buffer is released: %v", ct.unblocked, !buffer.Shared())
	}
	buffer.Release()
}
