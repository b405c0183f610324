package relay

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// testArrival is an Arrival that records its calls.
type testArrival struct {
	t       *testing.T
	onEvent func(first int) // nil: nothing is done

	mu      sync.Mutex // guards the fields below
	offered map[int]outbox.Outcome
	recordedEvents
}

func (a *testArrival) Offered(receiver int, outcome outbox.Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.offered[receiver]; ok {
		a.t.Errorf("Offered is called twice for receiver %d", receiver)
	}
	if a.offered == nil {
		a.offered = make(map[int]outbox.Outcome)
	}
	a.offered[receiver] = outcome
}

func (a *testArrival) HandleEvent(receiver int, event outbox.Event, first, frames int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.recordedEvents.HandleEvent(receiver, event, first, frames)
	if a.onEvent != nil {
		a.onEvent(first)
	}
}

// takeEvents returns the events of one receiver by message, and forgets them.
func (a *testArrival) takeEvents(receiver int) map[int][]outbox.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := make(map[int][]outbox.Event)
	a.events = slices.DeleteFunc(a.events, func(e recordedEvent) bool {
		if e.receiver != receiver {
			return false
		}
		for j := e.first; j < e.first+e.frames; j++ {
			taken[j] = append(taken[j], e.event)
		}
		return true
	})
	return taken
}

// wantEvents checks the events of one receiver since the last call, by message.
func (a *testArrival) wantEvents(receiver int, want map[int][]outbox.Event) {
	a.t.Helper()
	if got := a.takeEvents(receiver); !maps.EqualFunc(got, want, slices.Equal) {
		a.t.Errorf("receiver %d has the events %v, want %v", receiver, got, want)
	}
}

// arrive sends frames that have come from another hub.
func (tr *testRelay) arrive(s *Sender, m Messages, ids []uint64, frames ...[]byte) (blocked bool) {
	m.Origin, m.FirstSeq = tr.origin, 1
	batch := tr.newBatch(frames...)
	defer batch.Buffer.Release()
	s.Begin(tr.Relay, tr.account)
	defer s.Flusher.Flush()
	return s.Send(&m, append(s.IDBuf(), ids...), batch)
}

// TestArrival_Offered_OncePerReceiver sends an arrival to receivers of every kind. None of them is
// passed on to a third hub.
func TestArrival_Offered_OncePerReceiver(t *testing.T) {
	outcomes := []outbox.Outcome{outbox.Queued, outbox.Blocked, outbox.Closed, outbox.Full, outbox.AlreadyExpired}
	const gone, elsewhere, lost = 5, 6, 7
	for _, level := range allLevels {
		inVirtualTime(t, func(c *Config) { c.IsLost = func(id uint64) bool { return id == lost } }, func(t *testing.T, tr *testRelay) {
			peer := new(testPeer)
			tr.dests = map[uint64]Destination{elsewhere: &Remote{peer}, lost: &Remote{peer}}
			for id, outcome := range outcomes {
				tr.dests[uint64(id)] = &stubDest{version: 2, onOffer: func(*outbox.Batch) outbox.Outcome { return outcome }}
			}
			arrival, s := &testArrival{t: t}, new(Sender)
			if !tr.arrive(s, Messages{Options: levelOptions(level), Arrival: arrival}, []uint64{0, 1, 2, 3, 4, gone, elsewhere, lost, 0}, numbered(2)...) {
				t.Error("the batch is not blocked")
			}
			s.Reset()
			want := map[int]outbox.Outcome{5: outbox.Closed, 6: outbox.Closed, 7: outbox.Closed, 8: outbox.Queued}
			for id, outcome := range outcomes {
				want[id] = outcome
			}
			if !maps.Equal(arrival.offered, want) || len(arrival.events) != 0 || len(peer.transfers) != 0 {
				t.Errorf("offered %v with the events %v, want %v without any, and no transfer", arrival.offered, arrival.events, want)
			}
			sleep(testReportTimeout)
			if level != wire.LevelNone {
				tr.origin.wantReport(2, wire.FateQueued, wire.FatePending, wire.FateGone, wire.FateFull, wire.FateExpired,
					wire.FateUnknown, wire.FateUnknown, wire.FateUnreachable, wire.FateQueued)
			}
			if len(tr.Fates()) != 0 {
				t.Errorf("fates %v are counted, which the hub of the sender counts", tr.Fates())
			}
			if wantDrops := map[wire.Fate]int{wire.FateGone: 2, wire.FateUnknown: 4, wire.FateUnreachable: 2}; !maps.Equal(tr.drops, wantDrops) {
				t.Errorf("dropped %v, want %v", tr.drops, wantDrops)
			}
		})
	}
}

// TestArrival_Blocked_HasLaterEvents sends to a full queue. Every later event reaches the arrival,
// before the report of the message.
func TestArrival_Blocked_HasLaterEvents(t *testing.T) {
	for _, version := range []int{1, 2} {
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			dest := newOutboxDest(t, version, 1)
			dest.conn.block()
			dest.fill(tr)
			tr.dests[1] = dest
			arrival := &testArrival{t: t, onEvent: func(first int) { tr.origin.wantReport(uint64(first + 1)) }}
			var s Sender
			if !tr.arrive(&s, Messages{Options: levelOptions(wire.LevelWritten), Arrival: arrival}, []uint64{1}, numbered(2)...) {
				t.Error("the batch is not blocked")
			}
			unblocked := false
			s.Flusher.OnUnblocked(func() { unblocked = true })
			s.Reset()
			synctest.Wait()
			arrival.wantEvents(0, map[int][]outbox.Event{})
			dest.conn.resume()
			synctest.Wait()
			want := []outbox.Event{outbox.EventQueued, outbox.EventWritten}
			arrival.wantEvents(0, map[int][]outbox.Event{0: want, 1: want})
			if !maps.Equal(arrival.offered, map[int]outbox.Outcome{0: outbox.Blocked}) || !unblocked {
				t.Errorf("offered %v, unblocked %t", arrival.offered, unblocked)
			}
			tr.origin.wantReport(2, wire.FateWritten)
			arrival.onEvent = nil // the end of the test has events as well
		})
	}
}

// TestArrival_TooLarge_EachMessageHasItsEvent sends batches with too large messages at every
// position, to a receiver that is ready and to one that is full. Either the whole batch has an
// outcome, or each of its messages is queued or lost once.
func TestArrival_TooLarge_EachMessageHasItsEvent(t *testing.T) {
	const n, maxBody = 5, 100
	for large := range 1 << n { // a bit for each message
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			ready, full := newOutboxDest(t, 2, 1<<20), newOutboxDest(t, 2, 1)
			ready.SetMaxFrame(wire.DeliverLen(maxBody))
			full.SetMaxFrame(wire.DeliverLen(maxBody))
			full.conn.block()
			full.fill(tr)
			ready.conn.block() // no event before the batch is offered
			tr.dests = map[uint64]Destination{0: ready, 1: full}
			var frames [][]byte
			parts := map[int][]outbox.Event{} // of the ready receiver
			later := map[int][]outbox.Event{} // of the full one
			for i := range n {
				size, event := maxBody, outbox.EventQueued
				if large>>i&1 == 1 {
					size, event = maxBody+1, outbox.EventTooLarge
				}
				frames = append(frames, deliver(uint64(i+1), bytes.Repeat([]byte{byte(i)}, size)))
				parts[i], later[i] = []outbox.Event{event}, []outbox.Event{event}
			}
			want := map[int]outbox.Outcome{0: outbox.Blocked, 1: outbox.Blocked}
			if large == 0 {
				want[0] = outbox.Queued
				clear(parts)
			}
			arrival, s := &testArrival{t: t}, new(Sender)
			if blocked := tr.arrive(s, Messages{Options: levelOptions(wire.LevelNone), Arrival: arrival}, []uint64{0, 1}, frames...); blocked != (large != 1<<n-1) {
				t.Errorf("messages %b are too large: blocked %t", large, blocked)
			}
			s.Reset()
			if !maps.Equal(arrival.offered, want) {
				t.Errorf("offered %v, want %v", arrival.offered, want)
			}
			arrival.wantEvents(0, parts)
			ready.conn.resume()
			full.conn.resume()
			synctest.Wait()
			got := arrival.takeEvents(1)
			for i, events := range got {
				got[i] = slices.DeleteFunc(events, func(e outbox.Event) bool { return e == outbox.EventWritten })
			}
			if !maps.EqualFunc(got, later, slices.Equal) {
				t.Errorf("the full receiver has the events %v, want %v", got, later)
			}
		})
	}
}

// TestArrival_Parts_HaveTheirEvent sends two messages, of which the second one is too large, to
// receivers with each outcome for the first.
func TestArrival_Parts_HaveTheirEvent(t *testing.T) {
	for outcome, want := range map[outbox.Outcome][]outbox.Event{
		outbox.Queued: {outbox.EventQueued}, outbox.Blocked: nil, outbox.Closed: {outbox.EventLost},
		outbox.Full: {outbox.EventDropped}, outbox.AlreadyExpired: {outbox.EventExpired},
	} {
		tr := newTestRelay(t, nil)
		tr.dests[1] = &stubDest{version: 2, onOffer: func(b *outbox.Batch) outbox.Outcome {
			if b.First+b.Frames == 2 {
				return outbox.TooLarge
			}
			return outcome
		}}
		arrival, s := &testArrival{t: t}, new(Sender)
		tr.arrive(s, Messages{Options: levelOptions(wire.LevelNone), Arrival: arrival}, []uint64{1}, numbered(2)...)
		s.Reset()
		events := map[int][]outbox.Event{1: {outbox.EventTooLarge}}
		if want != nil {
			events[0] = want
		}
		arrival.wantEvents(0, events)
		if !maps.Equal(arrival.offered, map[int]outbox.Outcome{0: outbox.Blocked}) {
			t.Errorf("offered %v", arrival.offered)
		}
	}
}

// TestArrival_TooLarge_Alone sends a single message that is too large.
func TestArrival_TooLarge_Alone(t *testing.T) {
	tr := newTestRelay(t, nil)
	tr.dests[1] = &stubDest{version: 2, onOffer: func(*outbox.Batch) outbox.Outcome { return outbox.TooLarge }}
	arrival, s := &testArrival{t: t}, new(Sender)
	tr.arrive(s, Messages{Options: levelOptions(wire.LevelWritten), Arrival: arrival}, []uint64{1}, numbered(1)...)
	s.Reset()
	if !maps.Equal(arrival.offered, map[int]outbox.Outcome{0: outbox.TooLarge}) || len(arrival.events) != 0 {
		t.Errorf("offered %v with the events %v", arrival.offered, arrival.events)
	}
	tr.origin.wantReport(1, wire.FateTooLarge)
}

// TestArrival_Translated_KeepsTime sends arrivals of both versions to receivers of both: a message
// of version 1 has the time at which the other hub has read it.
func TestArrival_Translated_KeepsTime(t *testing.T) {
	const readAt = 123_456
	for _, version := range []int{1, 2} {
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			v1, v2 := newOutboxDest(t, 1, 1<<20), newOutboxDest(t, 2, 1<<20)
			tr.dests = map[uint64]Destination{1: v1, 2: v2}
			d := wire.Deliver{Sender: originID, Time: readAt, Body: []byte("body")}
			m := Messages{Arrival: &testArrival{t: t}, ReadAt: readAt}
			frame := wire.AppendRelayDelivery(nil, d.Body)
			if version == 2 {
				d.Seq = 1
				m.Options, frame = levelOptions(wire.LevelNone), wire.AppendDeliver(nil, &d)
			}
			var s Sender
			tr.arrive(&s, m, []uint64{1, 2}, frame)
			s.Reset()
			synctest.Wait()
			v1.conn.wantWritten(t, wire.AppendRelayDelivery(nil, d.Body))
			v2.conn.wantWritten(t, wire.AppendDeliver(nil, &d))
		})
	}
}

// TestMessages_reportTimeout_OfArrival compares the report timeout that another hub names with the
// time to live.
func TestMessages_reportTimeout_OfArrival(t *testing.T) {
	config := &Config{ReportTimeout: time.Minute, MaxReportTimeout: time.Minute}
	for name, tt := range map[string]struct{ named, ttl, want time.Duration }{
		"none":                       {0, 0, time.Minute},
		"none, with a time to live":  {0, time.Second, time.Second},
		"above the maximum":          {time.Hour, 0, time.Hour}, // that of the hub of the sender counts
		"a shorter time to live":     {time.Hour, time.Second, time.Second},
		"expires just after it":      {time.Minute, time.Minute + remoteGrace/2, time.Minute + remoteGrace/2},
		"expires much later":         {time.Minute, time.Minute + remoteGrace, time.Minute},
		"a time to live of the past": {time.Minute, -time.Second, -time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := Messages{ReportTimeout: tt.named}
			if tt.ttl != 0 {
				m.Options.Expires = time.Now().Add(tt.ttl).UnixNano()
			}
			if got := m.reportTimeout(config); got != tt.want {
				t.Errorf("%s: a report timeout of %v, want %v", name, got, tt.want)
			}
		})
	}
}

// TestArrival_Report_InOrder sends messages to many receivers, whose events come in the reverse
// order. Reports wait as long as the other hub says, and name the fates in the order of the ids.
func TestArrival_Report_InOrder(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		const receivers, timeout = 5, 3 * time.Second
		var ids []uint64
		var events outbox.EventHandler
		for i := range receivers {
			id := uint64(100 - i)
			ids = append(ids, id)
			tr.dests[id] = &stubDest{version: 2, onOffer: func(b *outbox.Batch) outbox.Outcome { events = b.Options.Events; return outbox.Queued }}
		}
		delete(tr.dests, ids[2])
		var s Sender
		tr.arrive(&s, Messages{Options: levelOptions(wire.LevelReceived), Arrival: &testArrival{t: t}, ReportTimeout: timeout}, ids, numbered(2)...)
		s.Reset()
		events.HandleEvent(4, outbox.EventLost, 0, 2)
		events.HandleEvent(3, outbox.EventUnacked, 0, 2)
		events.HandleEvent(1, outbox.EventDropped, 0, 2)
		events.HandleEvent(0, outbox.EventAcked, 0, 1)
		tr.origin.wantReport(1, wire.FateReceived, wire.FateFull, wire.FateUnknown, wire.FateUncertain, wire.FateGone)
		sleep(timeout - 1)
		tr.origin.wantReport(2)
		sleep(1)
		tr.origin.wantReport(2, wire.FateQueued, wire.FateFull, wire.FateUnknown, wire.FateUncertain, wire.FateGone)
	})
}

// TestArrival_Verdict_Decides sends a message that waits for a verdict of its receiver here.
func TestArrival_Verdict_Decides(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		dest := newOutboxDest(t, 2, 1<<20)
		tr.dests[1] = dest
		var s Sender
		tr.arrive(&s, Messages{Options: levelOptions(wire.LevelProcessed), Arrival: &testArrival{t: t}}, []uint64{1}, numbered(1)...)
		s.Reset()
		synctest.Wait()
		if !dest.verdicts.Apply(wire.Verdict{Sender: originID, Seq: 1, Fate: wire.FateRejected}) {
			t.Error("no message waits for the verdict")
		}
		tr.origin.wantReport(1, wire.FateRejected)
	})
}

// TestArrival_Observed_AsOthers samples the latency and the trace of an arrival.
func TestArrival_Observed_AsOthers(t *testing.T) {
	var latencies []time.Duration
	inVirtualTime(t, func(c *Config) { c.OnLatency = func(d time.Duration) { latencies = append(latencies, d) } }, func(t *testing.T, tr *testRelay) {
		tr.traceAll(1)
		dest := newOutboxDest(t, 2, 1<<20)
		tr.dests[1] = dest
		arrival := &testArrival{t: t}
		for len(latencies) == 0 {
			var s Sender
			tr.arrive(&s, Messages{Arrival: arrival}, []uint64{1}, wire.AppendRelayDelivery(nil, nil))
			s.Reset()
			synctest.Wait()
			arrival.wantEvents(0, map[int][]outbox.Event{0: {outbox.EventWritten}})
			arrival.offered = nil
			if traces := tr.takeTraces(); len(traces) != 1 || traces[0].Receivers[0].Fate != wire.FateWritten {
				t.Fatalf("traced %+v", traces)
			}
		}
	})
}
