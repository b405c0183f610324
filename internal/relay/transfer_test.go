package relay

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// TestSender_Transfer_OnePerHub sends a batch to receivers at two other hubs, at this one, and to
// some that cannot get it. Each hub gets it once, untranslated, with all of its receivers.
func TestSender_Transfer_OnePerHub(t *testing.T) {
	const a1, local, b1, unknown, a2, forbidden, b2, old = 1, 2, 3, 4, 5, 6, 7, 8
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		a, b := new(testPeer), new(testPeer)
		atA, atB := &Remote{a}, &Remote{b}
		var options *outbox.Options
		here := &stubDest{version: 2, onOffer: func(b *outbox.Batch) outbox.Outcome { options = b.Options; return outbox.Queued }}
		tr.dests = map[uint64]Destination{a1: atA, a2: atA, b1: atB, b2: atB, forbidden: atA, local: here, old: &stubDest{version: 1}}
		tr.origin.canSend = func(to uint64) bool { return to != forbidden }
		frames, opts := numbered(3), levelOptions(wire.LevelWritten)
		var s Sender
		s.Begin(tr.Relay, tr.account)
		begun := time.Now()
		if !tr.sendBy(&s, opts, []uint64{a1, local, b1, unknown, a2, forbidden, b2, old, a1}, frames...) {
			t.Error("the batch is not blocked, want it blocked until the other hubs have queued it")
		}
		for i, dest := range s.recvBuf.dests {
			if dest != nil {
				t.Errorf("the destination of receiver %d is left", i)
			}
		}
		s.Reset()
		for peer, want := range map[*testPeer][]TransferTo{a: {{a1, 0}, {a2, 4}, {a1, 8}}, b: {{b1, 2}, {b2, 6}}} {
			got := peer.take(t)
			wantBatch(t, got.Batch, frames...)
			if !slices.Equal(got.Receivers, want) || cap(got.Receivers) != len(want) {
				t.Errorf("receivers %v, want %v", got.Receivers, want)
			}
			if got.Batch.Options != options || got.Batch.Receiver != 0 || !got.Batch.Messages || !got.Batch.Reliable {
				t.Errorf("the batch is %+v, want one of reliable messages with the options %p of the others", got.Batch, options)
			}
			if got.Origin != originID || got.Options != opts || got.FirstSeq != 1 || got.ReadAt != begun.UnixMicro() {
				t.Errorf("the transfer is %+v", got)
			}
			if want := begun.Add(testReportTimeout); !got.ReportBy.Equal(want) {
				t.Errorf("reports wait until %v, want %v", got.ReportBy, want)
			}
			for _, to := range got.Receivers {
				got.Events.Decide(to.Index, 0, 3, wire.FateReceived)
			}
			got.Queued.Done()
		}
		options.Events.HandleEvent(1, outbox.EventWritten, 0, 3)
		options.Events.HandleEvent(7, outbox.EventWritten, 0, 3)
		for seq := range uint64(3) {
			tr.origin.wantReport(seq+1, wire.FateReceived, wire.FateWritten, wire.FateReceived, wire.FateUnknown, wire.FateReceived,
				wire.FateRefused, wire.FateReceived, wire.FateWritten, wire.FateReceived)
		}
		if want := map[wire.Fate]int{wire.FateUnknown: 3, wire.FateRefused: 3}; !maps.Equal(tr.drops, want) {
			t.Errorf("dropped %v, want %v", tr.drops, want)
		}
	})
}

// TestSender_Transfer_Untracked_HasNoEvents sends messages that need no events. They keep the
// version of their sender.
func TestSender_Transfer_Untracked_HasNoEvents(t *testing.T) {
	for version, opts := range map[int]Options{1: {}, 2: levelOptions(wire.LevelNone)} {
		tr, peer := newTestRelay(t, nil), new(testPeer)
		tr.dests[1] = &Remote{peer}
		frames := numbered(3)
		if version == 1 {
			frames = bodiesOf(frames)
		}
		tr.send(opts, []uint64{1}, frames...)
		got := peer.take(t)
		wantBatch(t, got.Batch, frames...)
		if got.Events != nil || got.Batch.Options != nil || !got.ReportBy.IsZero() || got.Batch.Reliable != (version == 2) {
			t.Errorf("version %d: %+v, want it without events", version, got)
		}
	}
}

// TestSender_Transfer_WithoutReport_CountsFailures sends messages that are tracked only because
// they can be rejected or expire: no REPORT waits for them, and failures alone are counted.
func TestSender_Transfer_WithoutReport_CountsFailures(t *testing.T) {
	tr, peer := newTestRelay(t, nil), new(testPeer)
	tr.dests[1] = &Remote{peer}
	tr.send(sendOptions(wire.LevelNone, wire.OverflowReject), []uint64{1}, numbered(3)...)
	got := peer.take(t)
	if got.Batch.Options.Overflow != outbox.OverflowReject || got.Batch.Options.Sender != originID || !got.ReportBy.IsZero() {
		t.Errorf("options %+v, reports wait until %v", got.Batch.Options, got.ReportBy)
	}
	got.Events.Decide(0, 0, 1, wire.FateWritten)
	got.Events.Decide(0, 1, 2, wire.FateFull)
	if want := map[wire.Fate]uint64{wire.FateFull: 2}; !maps.Equal(tr.Fates(), want) {
		t.Errorf("fates %v, want %v", tr.Fates(), want)
	}
}

// TestSender_Transfer_BlocksFlusher sends to two other hubs: the batch is blocked until the last of
// them has queued it.
func TestSender_Transfer_BlocksFlusher(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		a, b := new(testPeer), new(testPeer)
		tr.dests = map[uint64]Destination{1: &Remote{a}, 2: &Remote{b}, 3: &stubDest{version: 1}}
		var s Sender
		s.Begin(tr.Relay, tr.account)
		unblocked := false
		for range 2 {
			tr.sendBy(&s, Options{}, []uint64{1, 2, 3}, wire.AppendRelayDelivery(nil, nil))
			s.Flusher.OnUnblocked(func() { unblocked = true })
			a.take(t).Queued.Done()
			if unblocked {
				t.Error("the batch is not blocked any more, while one hub has not queued it")
			}
			b.take(t).Queued.Done()
			if !unblocked {
				t.Error("the batch is blocked")
			}
			unblocked = false
		}
		tr.sendBy(&s, Options{}, []uint64{1}, wire.AppendRelayDelivery(nil, nil))
		go func() { // ends when the hub has queued the batch
			s.Flusher.Wait(nil)
			unblocked = true
		}()
		synctest.Wait()
		if unblocked {
			t.Error("Wait does not wait")
		}
		a.take(t).Queued.Done()
		synctest.Wait()
		if !unblocked {
			t.Error("Wait waits for a batch that is queued")
		}
		s.Reset()
	})
}

// TestSender_Transfer_ManyHubs sends to 255 receivers at 64 hubs, in random order.
func TestSender_Transfer_ManyHubs(t *testing.T) {
	tr := newTestRelay(t, nil)
	peers := make([]*testPeer, 64)
	remotes := make([]*Remote, len(peers))
	for i := range peers {
		peers[i] = new(testPeer)
		remotes[i] = &Remote{peers[i]}
	}
	want := make(map[*testPeer][]TransferTo)
	var ids []uint64
	for i := range wire.MaxReceivers {
		id, hub := uint64(1000-i), i%len(peers)
		if i >= len(peers) {
			hub = rand.IntN(len(peers))
		}
		tr.dests[id] = remotes[hub]
		want[peers[hub]] = append(want[peers[hub]], TransferTo{id, i})
		ids = append(ids, id)
	}
	tr.send(Options{}, ids, wire.AppendRelayDelivery(nil, nil))
	for _, peer := range peers {
		if got := peer.take(t).Receivers; !slices.Equal(got, want[peer]) {
			t.Errorf("receivers %v, want %v", got, want[peer])
		}
	}
}

// TestSender_Transfer_AlreadyExpired lets the time to live end while a receiver of this hub is
// being offered the batch: no other hub gets it.
func TestSender_Transfer_AlreadyExpired(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		peer := new(testPeer)
		here := &stubDest{version: 2, onOffer: func(*outbox.Batch) outbox.Outcome { sleep(time.Second); return outbox.Full }}
		tr.dests = map[uint64]Destination{1: &Remote{peer}, 2: here}
		opts := levelOptions(wire.LevelWritten)
		opts.Expires = time.Now().Add(time.Second).UnixNano()
		if tr.send(opts, []uint64{1, 2, 1}, numbered(1)...) || len(peer.transfers) != 0 {
			t.Errorf("blocked, or %d transfers", len(peer.transfers))
		}
		tr.origin.wantReport(1, wire.FateExpired, wire.FateFull, wire.FateExpired)
	})
}

// TestSender_Send_LostHub_IsUnreachable sends to ids without a destination, some of which belong to
// a hub that is lost. A receiver that is forbidden is refused wherever it is.
func TestSender_Send_LostHub_IsUnreachable(t *testing.T) {
	const lost, unknown, forbidden = 1, 2, 3
	tr := newTestRelay(t, func(c *Config) { c.IsLost = func(id uint64) bool { return id != unknown } })
	tr.origin.canSend = func(to uint64) bool { return to != forbidden }
	tr.send(levelOptions(wire.LevelWritten), []uint64{lost, unknown, forbidden}, numbered(2)...)
	tr.origin.wantReport(1, wire.FateUnreachable, wire.FateUnknown, wire.FateRefused)
	if want := map[wire.Fate]int{wire.FateUnreachable: 2, wire.FateUnknown: 2, wire.FateRefused: 2}; !maps.Equal(tr.drops, want) {
		t.Errorf("dropped %v, want %v", tr.drops, want)
	}
}

// TestTransferEvents_Event_DecidesFate reports every event at every level, and then a fate that
// another hub has decided: it counts unless the event has decided one.
func TestTransferEvents_Event_DecidesFate(t *testing.T) {
	for event, want := range map[outbox.Event][4]wire.Fate{ // by level
		outbox.EventQueued:      {noFate, noFate, noFate, noFate},
		outbox.EventWritten:     {noFate, wire.FateWritten, noFate, noFate},
		outbox.EventAcked:       {noFate, noFate, wire.FateReceived, noFate},
		outbox.EventExpired:     {wire.FateExpired, wire.FateExpired, wire.FateExpired, wire.FateExpired},
		outbox.EventUnacked:     {wire.FateUncertain, wire.FateUncertain, wire.FateUncertain, wire.FateUncertain},
		outbox.EventUnreachable: {wire.FateUnreachable, wire.FateUnreachable, wire.FateUnreachable, wire.FateUnreachable},
	} {
		for _, level := range allLevels {
			t.Run(fmt.Sprintf("event %d, level %d", event, level), func(t *testing.T) {
				tr, peer := newTestRelay(t, nil), new(testPeer)
				tr.dests[1] = &Remote{peer}
				tr.send(sendOptions(level, wire.OverflowReject), []uint64{1}, numbered(1)...)
				transfer := peer.take(t)
				transfer.Events.HandleEvent(0, event, 0, 1)
				tr.wantFate(t, level, want[level])
				if want[level] == noFate {
					transfer.Events.Decide(0, 0, 1, wire.FateGone)
					tr.wantFate(t, level, wire.FateGone)
				} else if level != wire.LevelNone {
					transfer.Events.Decide(0, 0, 1, wire.FateGone)
					tr.wantFate(t, level, want[level])
				}
			})
		}
	}
}

// TestTransferEvents_Decide_AnyFate decides every number of a fate. The fates of a later version of
// the hub are uncertain.
func TestTransferEvents_Decide_AnyFate(t *testing.T) {
	for fate := range 256 {
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			peer := new(testPeer)
			tr.dests[1] = &Remote{peer}
			tr.traceAll(1)
			tr.send(levelOptions(wire.LevelProcessed), []uint64{1}, numbered(1)...)
			peer.take(t).Events.Decide(0, 0, 1, wire.Fate(fate))
			want := wire.Fate(fate)
			if want > wire.MaxFate {
				want = wire.FateUncertain
			}
			tr.wantFate(t, wire.LevelProcessed, want)
			if ended := len(tr.takeTraces()) == 1; ended == (want <= wire.FateQueued) {
				t.Errorf("the trace of a message with the fate %v has ended: %t", want, ended)
			}
			sleep(testReportTimeout)
		})
	}
}

// TestTransferEvents_Concurrent_OneReport has events and fates of many messages to receivers at two
// hubs come in any order, from several goroutines. Each message is reported once, by the origin's
// own check, and no fate is left out.
func TestTransferEvents_Concurrent_OneReport(t *testing.T) {
	const messages, perHub, workers = 20, 10, 4
	tr := newTestRelay(t, nil)
	tr.traceAll(1)
	peers := []*testPeer{{}, {}}
	var ids []uint64
	for hub, peer := range peers {
		remote := &Remote{peer}
		for i := range perHub {
			id := uint64(i*len(peers) + hub)
			tr.dests[id] = remote
			ids = append(ids, id)
		}
	}
	tr.send(levelOptions(wire.LevelReceived), ids, numbered(messages)...)
	var wg sync.WaitGroup
	for _, peer := range peers {
		transfer := peer.take(t)
		for range workers {
			wg.Go(func() {
				for _, n := range rand.Perm(messages * perHub) {
					receiver, message := transfer.Receivers[n/messages].Index, n%messages
					transfer.Events.HandleEvent(receiver, outbox.EventQueued, message, 1)
					transfer.Events.HandleEvent(receiver, outbox.EventWritten, message, 1)
					if n%2 == 0 {
						transfer.Events.HandleEvent(receiver, outbox.EventAcked, message, 1)
					} else {
						transfer.Events.Decide(receiver, message, 1, wire.FateReceived)
					}
				}
			})
		}
	}
	wg.Wait()
	for seq := range uint64(messages) {
		tr.origin.wantReport(seq+1, repeated(wire.FateReceived, len(ids))...)
	}
	if got := len(tr.takeTraces()); got != messages {
		t.Errorf("%d messages were traced, want %d", got, messages)
	}
}

// TestTransferEvents_ReachObservers checks the latency and the traces of messages to another hub.
func TestTransferEvents_ReachObservers(t *testing.T) {
	const written, received, rejected, lost, full, pending = 0, 1, 2, 3, 4, 5
	var latencies []time.Duration
	config := func(c *Config) { c.OnLatency = func(d time.Duration) { latencies = append(latencies, d) } }
	inVirtualTime(t, config, func(t *testing.T, tr *testRelay) {
		tr.traceAll(1)
		peer := new(testPeer)
		remote := &Remote{peer}
		ids := []uint64{written, received, rejected, lost, full, pending}
		for _, id := range ids {
			tr.dests[id] = remote
		}
		var s Sender
		for s.latency == nil {
			s.Reset()
			s.Begin(tr.Relay, tr.account)
		}
		begun := time.Now()
		tr.sendBy(&s, Options{}, ids, wire.AppendRelayDelivery(nil, []byte("body")))
		s.Reset()
		events := peer.take(t).Events
		sleep(time.Second)
		events.HandleEvent(written, outbox.EventQueued, 0, 1)
		events.Decide(pending, 0, 1, wire.FatePending)
		events.Decide(pending, 0, 1, wire.FateQueued)
		sleep(time.Second)
		events.HandleEvent(written, outbox.EventWritten, 0, 1)
		events.Decide(received, 0, 1, wire.FateReceived)
		events.Decide(rejected, 0, 1, wire.FateRejected)
		events.HandleEvent(lost, outbox.EventUnacked, 0, 1)
		events.Decide(full, 0, 1, wire.FateFull)
		sleep(testReportTimeout)
		const two = 2 * time.Second
		if !slices.Equal(latencies, []time.Duration{two}) {
			t.Errorf("latencies %v, want %v once", latencies, two)
		}
		tr.wantTraces(t, Trace{Version: 1, Sender: originID, BodyLen: 4, ReadAt: begun, Receivers: []ReceiverTrace{
			{ID: written, Fate: wire.FateWritten, Queued: time.Second, Decided: two},
			{ID: received, Fate: wire.FateWritten, Queued: two, Decided: two},
			{ID: rejected, Fate: wire.FateWritten, Queued: two, Decided: two},
			{ID: lost, Fate: wire.FateUncertain, Decided: two},
			{ID: full, Fate: wire.FateFull, Decided: two},
			{ID: pending, Fate: wire.FateQueued, Queued: time.Second},
		}})
	})
}
