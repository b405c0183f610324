package relay

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// TestSender_Send_EachReceiverHasItsFate sends a batch to receivers of every kind at once.
func TestSender_Send_EachReceiverHasItsFate(t *testing.T) {
	const unknown, forbidden, closed, v2, v1, full, late = 1, 2, 3, 4, 5, 6, 7
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		open, old, gone, small := newOutboxDest(t, 2, 1000), newOutboxDest(t, 1, 1000), newOutboxDest(t, 2, 1000), newOutboxDest(t, 2, 1)
		gone.close()
		small.conn.block()
		small.fill(tr)
		expired := &stubDest{version: 2, onOffer: func(*outbox.Batch) outbox.Outcome { return outbox.AlreadyExpired }}
		tr.dests = map[uint64]Destination{forbidden: open, closed: gone, v2: open, v1: old, full: small, late: expired}
		tr.origin.canSend = func(to uint64) bool { return to != forbidden && to != forbidden+100 }

		frames := numbered(3)
		ids := []uint64{unknown, forbidden, closed, v2, forbidden + 100, v1, full, late}
		if tr.send(sendOptions(wire.LevelWritten, wire.OverflowReject), ids, frames...) {
			t.Error("the batch is blocked, want it rejected")
		}
		synctest.Wait()
		for seq := uint64(1); seq <= 3; seq++ {
			tr.origin.wantReport(seq, wire.FateUnknown, wire.FateRefused, wire.FateGone, wire.FateWritten,
				wire.FateRefused, wire.FateWritten, wire.FateFull, wire.FateExpired)
		}
		if want := map[wire.Fate]int{wire.FateUnknown: 3, wire.FateRefused: 6, wire.FateGone: 3}; !maps.Equal(tr.drops, want) || tr.dropCalls != 3 {
			t.Errorf("%d calls dropped %v, want one for each of %v", tr.dropCalls, tr.drops, want)
		}
		if want := []uint64{forbidden + 100}; !slices.Equal(tr.forbidden, want) {
			t.Errorf("forbidden are %v, want one call for %v", tr.forbidden, want)
		}
		open.conn.wantWritten(t, frames...)
		old.conn.wantWritten(t, bodiesOf(frames)...)
	})
}

// bodiesOf returns the deliveries of version 1 with the bodies of DELIVERs.
func bodiesOf(delivers [][]byte) (frames [][]byte) {
	for _, frame := range delivers {
		_, payload := wire.Split(frame)
		d, _ := wire.ParseDeliver(payload)
		frames = append(frames, wire.AppendRelayDelivery(nil, d.Body))
	}
	return frames
}

// TestSender_Send_TooLarge_PartsKeepOrder sends batches with too large messages at every position,
// to receivers of both versions. All other messages arrive in order, and each has its own fate.
func TestSender_Send_TooLarge_PartsKeepOrder(t *testing.T) {
	const n, maxBody = 7, 100
	for large := range 1 << n { // a bit for each message
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			v2, v1, unlimited := newOutboxDest(t, 2, 1<<20), newOutboxDest(t, 1, 1<<20), newOutboxDest(t, 2, 1<<20)
			v2.SetMaxFrame(wire.DeliverLen(maxBody))
			v1.SetMaxFrame(wire.RelayDeliveryLen(maxBody))
			tr.dests = map[uint64]Destination{1: v2, 2: v1, 3: unlimited}
			var all, fitting [][]byte
			for i := range n {
				size := maxBody - i
				if large>>i&1 == 1 {
					size = maxBody + 1 + i
				}
				frame := deliver(uint64(i+1), bytes.Repeat([]byte{byte(i)}, size))
				if all = append(all, frame); size <= maxBody {
					fitting = append(fitting, frame)
				}
			}
			tr.send(levelOptions(wire.LevelWritten), []uint64{1, 2, 3}, all...)
			synctest.Wait()
			for i := range n {
				want := wire.FateWritten
				if large>>i&1 == 1 {
					want = wire.FateTooLarge
				}
				tr.origin.wantReport(uint64(i+1), want, want, wire.FateWritten)
			}
			v2.conn.wantWritten(t, fitting...)
			v1.conn.wantWritten(t, bodiesOf(fitting)...)
			unlimited.conn.wantWritten(t, all...)
			if got, want := tr.drops[wire.FateTooLarge], 2*(len(all)-len(fitting)); got != want {
				t.Errorf("%d messages were counted as too large, want %d", got, want)
			}
		})
	}
}

// TestSender_Send_TooLarge_Untracked drops the too large messages alone, and without a Tracker.
func TestSender_Send_TooLarge_Untracked(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		dest := newOutboxDest(t, 2, 1<<20)
		dest.SetMaxFrame(wire.DeliverLen(12))
		tr.dests[1] = dest
		frames := numbered(5) // bodies of 10 to 14 bytes
		tr.send(levelOptions(wire.LevelNone), []uint64{1}, frames...)
		synctest.Wait()
		dest.conn.wantWritten(t, frames[:3]...)
		if tr.drops[wire.FateTooLarge] != 2 || len(tr.Fates()) != 0 {
			t.Errorf("dropped %v with the fates %v, want two that are not tracked", tr.drops, tr.Fates())
		}
	})
}

// TestSender_Send_Translates sends messages of either version to receivers of both. Each receiver
// gets frames of its own version, which only version 2 acknowledges. One translation serves all
// receivers, and its memory is charged to the account of the Sender.
func TestSender_Send_Translates(t *testing.T) {
	for _, fromVersion := range []int{1, 2} {
		for _, level := range allLevels[:fromVersion] {
			t.Run(fmt.Sprintf("from version %d, level %d", fromVersion, level), func(t *testing.T) {
				inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
					frames := map[int][][]byte{}
					var opts Options
					for i := range 3 {
						body := bytes.Repeat([]byte{byte(i)}, 300*i)
						d := wire.Deliver{Sender: originID, Time: uint64(time.Now().UnixMicro()), Body: body}
						if fromVersion == 2 {
							d.Seq, opts = uint64(i+1), levelOptions(level)
						}
						frames[1] = append(frames[1], wire.AppendRelayDelivery(nil, body))
						frames[2] = append(frames[2], wire.AppendDeliver(nil, &d))
					}
					var ids []uint64
					offered := map[int][]outbox.Batch{} // by version
					for i := range 6 {
						d := &stubDest{version: 1 + i%2}
						d.onOffer = func(b *outbox.Batch) outbox.Outcome {
							if b.Receiver != i || b.First != 0 || !b.Messages || b.Reliable != (d.version == 2) || b.Buffer.Account() != tr.account {
								t.Errorf("receiver %d is offered %+v", i, b)
							}
							wantBatch(t, *b, frames[d.version]...)
							offered[d.version] = append(offered[d.version], *b)
							return outbox.Full
						}
						ids = append(ids, uint64(i))
						tr.dests[uint64(i)] = d
					}
					tr.send(opts, ids, frames[fromVersion]...)
					for version, batches := range offered {
						for _, b := range batches {
							if b.Buffer != batches[0].Buffer || (b.Options == nil) != (level == wire.LevelNone) {
								t.Errorf("receivers of version %d get different buffers, or options %v", version, b.Options)
							}
						}
					}
				})
			})
		}
	}
}

// TestSender_Send_VersionStays sends to a receiver whose version changes between the tracking and
// the offer: it gets frames of the version that is tracked.
func TestSender_Send_VersionStays(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		dest := &stubDest{version: 1}
		dest.onOffer = func(b *outbox.Batch) outbox.Outcome {
			wantBatch(t, *b, bodiesOf(numbered(1))...)
			b.Options.Events.HandleEvent(b.Receiver, outbox.EventWritten, b.First, b.Frames)
			return outbox.Queued
		}
		changes := &stubDest{version: 2, onOffer: func(*outbox.Batch) outbox.Outcome {
			dest.version = 2
			return outbox.Closed
		}}
		tr.dests = map[uint64]Destination{1: changes, 2: dest}
		tr.send(levelOptions(wire.LevelReceived), []uint64{1, 2}, numbered(1)...)
		tr.origin.wantReport(1, wire.FateGone, wire.FateWritten)
	})
}

// TestSender_Send_ExpiresDuringOffer lets the time to live end while the batch is being offered to
// the second of three receivers. The events of the first two still count. The third, which is not
// offered it in time, does not get it.
func TestSender_Send_ExpiresDuringOffer(t *testing.T) {
	inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
		dests := make([]*stubDest, 3)
		for i := range dests {
			dests[i] = &stubDest{version: 2}
			tr.dests[uint64(i)] = dests[i]
		}
		var events outbox.EventHandler
		dests[1].onOffer = func(b *outbox.Batch) outbox.Outcome {
			sleep(time.Second)
			events = b.Options.Events
			return outbox.Queued
		}
		dests[2].onOffer = func(*outbox.Batch) outbox.Outcome { return outbox.AlreadyExpired }
		opts := levelOptions(wire.LevelWritten)
		opts.Expires = time.Now().Add(time.Second).UnixNano()
		tr.send(opts, []uint64{0, 1, 2}, numbered(1)...)
		tr.origin.wantReport(1)
		events.HandleEvent(0, outbox.EventExpired, 0, 1)
		events.HandleEvent(1, outbox.EventWritten, 0, 1)
		tr.origin.wantReport(1, wire.FateExpired, wire.FateWritten, wire.FateExpired)
	})
}

// TestSender_Send_ReportsBlocked sends to receivers of which one has a full queue: the batch, or a
// part of it, is blocked there alone. It is written after the receiver accepts data again.
func TestSender_Send_ReportsBlocked(t *testing.T) {
	for _, tooLarge := range []bool{false, true} {
		for at := range 3 { // index of the full receiver
			inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
				dests := make([]*outboxDest, 3)
				for i := range dests {
					dests[i] = newOutboxDest(t, 2, 1)
					tr.dests[uint64(i)] = dests[i]
				}
				frames := numbered(4)
				fitting := frames
				if tooLarge {
					dests[at].SetMaxFrame(len(frames[2]))
					fitting = frames[:3]
				}
				opts, ids := levelOptions(wire.LevelWritten), []uint64{0, 1, 2}
				if tr.send(levelOptions(wire.LevelNone), ids, deliver(9, nil)) {
					t.Error("a send to empty queues is blocked")
				}
				synctest.Wait()
				dests[at].conn.block()
				tr.send(levelOptions(wire.LevelNone), ids, deliver(10, nil))
				synctest.Wait()
				var s Sender
				s.Begin(tr.Relay, tr.account)
				if !tr.sendBy(&s, opts, ids, frames...) {
					t.Error("a send to a full queue is not blocked")
				}
				unblocked := false
				s.Flusher.OnUnblocked(func() { unblocked = true })
				s.Reset()
				synctest.Wait()
				if unblocked || tr.origin.report(1) != nil {
					t.Error("the send is not blocked any more")
				}
				dests[at].conn.resume()
				synctest.Wait()
				if !unblocked {
					t.Error("the send is still blocked")
				}
				tr.origin.wantReport(1, repeated(wire.FateWritten, 3)...)
				dests[at].conn.wantWritten(t, slices.Concat([][]byte{deliver(9, nil), deliver(10, nil)}, fitting)...)
			})
		}
	}
}

// TestSender_Send_Untracked_AllocatesNothing sends messages of either version to receivers of the
// same version, to unknown and to forbidden ones.
func TestSender_Send_Untracked_AllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop items under the race detector")
	}
	for version, opts := range map[int]Options{1: {}, 2: levelOptions(wire.LevelNone)} {
		tr := newTestRelay(t, func(c *Config) {
			c.OnDrop, c.OnForbidden = func(wire.Fate, int) {}, func(Origin, uint64) {}
		})
		tr.origin.canSend = func(to uint64) bool { return to != 100 }
		for id := range uint64(50) {
			tr.dests[id] = &stubDest{version: version}
		}
		to := wireIDs(1, 2, 3, 99, 100, 4)
		var s Sender
		batch := tr.newBatch(numbered(3)...)
		m := &Messages{Origin: tr.origin, Options: opts}
		if n := testing.AllocsPerRun(1000, func() {
			s.Begin(tr.Relay, tr.account)
			s.Send(m, to.AppendTo(s.IDBuf()), batch)
			s.Send(m, to.AppendTo(s.IDBuf()), batch)
			s.Reset()
		}); n != 0 {
			t.Errorf("version %d: two sends allocate %v times", version, n)
		}
		batch.Buffer.Release()
	}
}

// TestSender_Send_HoldsNoDestination checks that no Destination is left in the space for receivers,
// which goes back to a pool.
func TestSender_Send_HoldsNoDestination(t *testing.T) {
	tr := newTestRelay(t, nil)
	tr.origin.canSend = func(to uint64) bool { return to != 2 }
	for id := range uint64(4) {
		tr.dests[id] = &stubDest{version: 1}
	}
	var s Sender
	s.Begin(tr.Relay, tr.account)
	tr.sendBy(&s, Options{}, []uint64{0, 1, 2, 99, 3}, wire.AppendRelayDelivery(nil, nil))
	for i, dest := range s.recvBuf.dests {
		if dest != nil {
			t.Errorf("the destination of receiver %d is left", i)
		}
	}
	if s.batch != (outbox.Batch{}) {
		t.Error("the batch is left")
	}
	s.Reset()
	if s.recvBuf != nil || s.relay != nil || s.latency != nil || s.Flusher.CopyAccount != nil {
		t.Errorf("after Reset, the Sender holds %+v", s)
	}
}

// TestSender_Reset_CountsDropsOnce sends several times between two calls of Reset, to unknown
// receivers: each Reset passes on the drops since the last one.
func TestSender_Reset_CountsDropsOnce(t *testing.T) {
	tr := newTestRelay(t, nil)
	var s Sender
	for round := 1; round <= 3; round++ {
		s.Begin(tr.Relay, tr.account)
		for range round {
			tr.sendBy(&s, Options{}, []uint64{1, 2}, numbered(5)...)
		}
		if tr.dropCalls != round-1 {
			t.Errorf("drops were passed on %d times before Reset, want %d", tr.dropCalls, round-1)
		}
		s.Reset()
		if want := round * (round + 1) / 2 * 10; tr.dropCalls != round || tr.drops[wire.FateUnknown] != want {
			t.Errorf("%d calls passed on %v, want %d unknown", tr.dropCalls, tr.drops, want)
		}
	}
	s.Begin(tr.Relay, tr.account)
	s.Reset()
	if tr.dropCalls != 3 {
		t.Error("Reset passes drops on a second time")
	}
}

// TestSender_ReadAt_FirstCall checks that the first call sets the time, and that Reset forgets it.
// With traces, Begin sets the time.
func TestSender_ReadAt_FirstCall(t *testing.T) {
	for _, traced := range []bool{false, true} {
		inVirtualTime(t, nil, func(t *testing.T, tr *testRelay) {
			if traced {
				tr.traceAll(1)
			}
			var s Sender
			for range 2 {
				began := time.Now()
				s.Begin(tr.Relay, tr.account)
				sleep(time.Second)
				want := time.Now()
				if traced {
					want = began
				}
				for range 2 {
					if got := s.ReadAt(); !got.Equal(want) {
						t.Errorf("traced: %t: read at %v, want %v", traced, got, want)
					}
					sleep(time.Second)
				}
				s.Reset()
			}
		})
	}
}

// TestSender_IDBuf_ForAllReceivers checks that the space holds the maximum number of ids, and is
// the same until it is released.
func TestSender_IDBuf_ForAllReceivers(t *testing.T) {
	var s Sender
	s.ReleaseRecvBuf()
	ids := s.IDBuf()
	if len(ids) != 0 || cap(ids) < wire.MaxReceivers {
		t.Errorf("space for %d ids with %d in it, want %d and none", cap(ids), len(ids), wire.MaxReceivers)
	}
	ids = append(ids, 1)
	if again := append(s.IDBuf(), 2); &again[0] != &ids[0] {
		t.Error("another space is returned before the release")
	}
	s.ReleaseRecvBuf()
	if s.recvBuf != nil {
		t.Error("the space is not released")
	}
}

// BenchmarkSender_Send sends a batch of 16 small messages to 16 receivers.
func BenchmarkSender_Send(b *testing.B) {
	tr := newTestRelay(b, nil)
	for id := range uint64(16) {
		tr.dests[id] = &stubDest{version: 2}
	}
	ids := slices.Collect(maps.Keys(tr.dests))
	batch := tr.newBatch(numbered(16)...)
	defer batch.Buffer.Release()
	m := &Messages{Origin: tr.origin, Options: levelOptions(wire.LevelNone)}
	var s Sender
	b.ReportAllocs()
	for b.Loop() {
		s.Begin(tr.Relay, tr.account)
		s.Send(m, append(s.IDBuf(), ids...), batch)
		s.Reset()
	}
}
