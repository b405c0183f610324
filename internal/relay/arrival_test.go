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

// blocks records which receivers block a batch, and which of them do not any more.
type blocks struct {
	mu                 sync.Mutex
	blocked, unblocked []int
}

func (b *blocks) onBlocked(receiver int) func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blocked = append(b.blocked, receiver)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.unblocked = append(b.unblocked, receiver)
	}
}

// want checks the receivers that have blocked, and those that do not any more.
func (b *blocks) want(t *testing.T, blocked, unblocked []int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Equal(b.blocked, blocked) || !slices.Equal(b.unblocked, unblocked) {
		t.Errorf("receivers %v have blocked and %v do not any more, want %v and %v", b.blocked, b.unblocked, blocked, unblocked)
	}
}

// arrive sends frames that have come from another hub.
func (tr *testRelay) arrive(s *Sender, m Messages, ids []uint64, frames ...[]byte) (blocked bool) {
	m.Origin, m.FirstSeq, m.FromHub = tr.origin, 1, true
	batch := tr.newBatch(frames...)
	defer batch.Buffer.Release()
	s.Begin(tr.Relay, tr.account)
	defer s.Flusher.Flush()
	blocked, underWay := s.Send(&m, append(s.IDBuf(), ids...), batch)
	return blocked || underWay
}

// TestArrival_RemoteReceiversAreAbsent sends an arrival to receivers of every kind. None of them is
// passed on to a third hub.
func TestArrival_RemoteReceiversAreAbsent(t *testing.T) {
	outcomes := []outbox.Outcome{outbox.Queued, outbox.Closed, outbox.Full, outbox.AlreadyExpired}
	const gone, elsewhere, lost = 5, 6, 7
	for _, level := range allLevels {
		inVirtualTime(t, func(c *Config) { c.IsLost = func(id uint64) bool { return id == lost } }, func(t *testing.T, tr *testRelay) {
			peer := new(testPeer)
			tr.dests = map[uint64]Destination{elsewhere: &Remote{peer}, lost: &Remote{peer}}
			for id, outcome := range outcomes {
				tr.dests[uint64(id)] = &stubDest{version: 2, onOffer: func(*outbox.Batch) outbox.Outcome { return outcome }}
			}
			s := new(Sender)
			if tr.arrive(s, Messages{Options: levelOptions(level)}, []uint64{0, 1, 2, 3, gone, elsewhere, lost, 0}, numbered(2)...) {
				t.Error("the batch is blocked")
			}
			s.Reset()
			if len(peer.transfers) != 0 {
				t.Errorf("%d transfers to a third hub", len(peer.transfers))
			}
			sleep(testReportTimeout)
			if level != wire.LevelNone {
				tr.origin.wantReport(2, wire.FateQueued, wire.FateGone, wire.FateFull, wire.FateExpired,
					wire.FateUnknown, wire.FateGone, wire.FateGone, wire.FateQueued)
			}
			if len(tr.Fates()) != 0 {
				t.Errorf("fates %v are counted, which the hub of the sender counts", tr.Fates())
			}
			if wantDrops := map[wire.Fate]int{wire.FateGone: 6, wire.FateUnknown: 2}; !maps.Equal(tr.drops, wantDrops) {
				t.Errorf("dropped %v, want %v", tr.drops, wantDrops)
			}
		})
	}
}

// TestArrival_OnBlocked_EachReceiverAlone sends to one receiver that is ready and two that are
// full. The end of each wait is told alone, and the batch does not count as blocked.
func TestArrival_OnBlocked_EachReceiverAlone(t *testing.T) {
	for _, version := range []int{1, 2} {
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			ready, first, second := newOutboxDest(t, 2, 1<<20), newOutboxDest(t, version, 1), newOutboxDest(t, version, 1)
			for _, dest := range []*outboxDest{first, second} {
				dest.conn.block()
				dest.fill(tr)
			}
			tr.dests = map[uint64]Destination{1: second, 2: ready, 3: first}
			var b blocks
			var s Sender
			if tr.arrive(&s, Messages{Options: levelOptions(wire.LevelWritten), OnBlocked: b.onBlocked}, []uint64{1, 2, 3}, numbered(2)...) {
				t.Error("the batch counts as blocked")
			}
			s.Reset()
			synctest.Wait()
			b.want(t, []int{0, 2}, nil)
			first.conn.resume()
			synctest.Wait()
			b.want(t, []int{0, 2}, []int{2})
			second.conn.resume()
			synctest.Wait()
			b.want(t, []int{0, 2}, []int{2, 0})
			tr.origin.wantReport(2, wire.FateWritten, wire.FateWritten, wire.FateWritten)
		})
	}
}

// TestArrival_OnBlocked_TooLargeParts sends batches with too large messages at every position to a
// receiver that is full. It blocks the batch once, until all parts are queued.
func TestArrival_OnBlocked_TooLargeParts(t *testing.T) {
	const n, maxBody = 5, 100
	for large := range 1 << n { // a bit for each message
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			full := newOutboxDest(t, 2, 1)
			full.SetMaxFrame(wire.DeliverLen(maxBody))
			full.conn.block()
			full.fill(tr)
			tr.dests = map[uint64]Destination{1: full}
			var frames [][]byte
			for i := range n {
				frames = append(frames, deliver(uint64(i+1), bytes.Repeat([]byte{byte(i)}, maxBody+large>>i&1)))
			}
			blocked := []int{0}
			if large == 1<<n-1 {
				blocked = nil
			}
			var b blocks
			var s Sender
			tr.arrive(&s, Messages{Options: levelOptions(wire.LevelNone), OnBlocked: b.onBlocked}, []uint64{1}, frames...)
			s.Reset()
			synctest.Wait()
			b.want(t, blocked, nil)
			full.conn.resume()
			synctest.Wait()
			b.want(t, blocked, blocked)
		})
	}
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
			m := Messages{ReadAt: readAt}
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
		tr.arrive(&s, Messages{Options: levelOptions(wire.LevelReceived), ReportTimeout: timeout}, ids, numbered(2)...)
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
		tr.arrive(&s, Messages{Options: levelOptions(wire.LevelProcessed)}, []uint64{1}, numbered(1)...)
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
		for len(latencies) == 0 {
			var s Sender
			tr.arrive(&s, Messages{}, []uint64{1}, wire.AppendRelayDelivery(nil, nil))
			s.Reset()
			synctest.Wait()
			if traces := tr.takeTraces(); len(traces) != 1 || traces[0].Receivers[0].Fate != wire.FateWritten {
				t.Fatalf("traced %+v", traces)
			}
		}
	})
}
