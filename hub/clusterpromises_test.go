package hub_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/cluster/membus"
	"github.com/sechlol/go-message-hub/wire"
)

// The tests of this file show that promises of docs/PROTOCOL.md hold between clients of different
// hubs. Each is that of a lone hub, with the receiver at another hub.

// inCluster runs a test over all transports with a cluster of n hubs.
func inCluster(t *testing.T, n int, config hub.Config, test func(t *testing.T, tc *testCluster)) {
	t.Helper()
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		test(t, startClusterOn(t, tr.start, n, config))
	})
}

// connectPair connects a client to each of the first two hubs, and waits until all hubs know both.
func (tc *testCluster) connectPair(t testing.TB) (a, b *clientV2) {
	t.Helper()
	a, b = tc.hubs[0].connectV2(t), tc.hubs[1].connectV2(t)
	tc.waitKnown(t, 2)
	return a, b
}

// detach cuts the connection of c, a client of the second hub, and waits until that hub has
// noticed. From then on the hub writes nothing to c.
func (tc *testCluster) detach(t testing.TB, c *clientV2) {
	t.Helper()
	c.reset()
	tc.hubs[1].waitDetached(t, c)
}

func TestCluster_UnknownReceiver_IsReportedAndCounted(t *testing.T) {
	inCluster(t, 2, hub.Config{}, func(t *testing.T, tc *testCluster) {
		a, b := tc.connectPair(t)
		gone := tc.hubs[1].connectV2(t)
		tc.waitKnown(t, 3)
		gone.send(wire.AppendBye(nil))
		gone.expectEOF()
		tc.waitKnown(t, 2)
		seq := a.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, gone.ID, b.ID, 12345)
		b.expectDeliver(a.ID, seq, []byte("x"))
		a.expectReport(seq, wire.FateUnknown, wire.FateReceived, wire.FateUnknown)
		n := uint64(0)
		for _, h := range tc.hubs { // an id names its hub, which counts
			n += h.Stats().Dropped[hub.DropUnknown]
		}
		if n != 2 {
			t.Errorf("%d unknown receivers, want 2", n)
		}
	})
}

func TestCluster_DuplicateReceiver_GetsTwoCopies(t *testing.T) {
	inCluster(t, 2, hub.Config{}, func(t *testing.T, tc *testCluster) {
		a, b := tc.connectPair(t)
		for range 3 {
			seq := a.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, b.ID, a.ID, b.ID)
			a.expectDeliver(a.ID, seq, []byte("x"))
			b.expectDeliver(a.ID, seq, []byte("x"))
			b.expectDeliver(a.ID, seq, []byte("x"))
			a.expectReport(seq, wire.FateReceived, wire.FateReceived, wire.FateReceived)
		}
		seq := a.sendMessage([]byte("x"), levelOptions(wire.LevelProcessed), 0, b.ID, b.ID)
		b.expectDeliver(a.ID, seq, []byte("x"))
		b.expectDeliver(a.ID, seq, []byte("x"))
		b.send(wire.AppendVerdicts(nil, []wire.Verdict{{Sender: a.ID, Seq: seq, Fate: wire.FateProcessed}}))
		a.expectReport(seq, wire.FateProcessed, wire.FateProcessed) // the first verdict counts for both
	})
}

// TestCluster_PipelinedMessages_KeepOrder sends in both directions at the same time, with bodies of
// all sizes up to some that need several frames between the hubs.
func TestCluster_PipelinedMessages_KeepOrder(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		for _, size := range []int{16, 1000, 100_000} {
			messages := tr.count(min(8000, 20_000_000/size))
			tc := startClusterOn(t, tr.start, 2, hub.Config{})
			a, b := tc.hubs[0].connectV1(t), tc.hubs[1].connectV1(t)
			tc.waitKnown(t, 2)
			parallel(t, 4, func(i int) error {
				from, to := a, b
				if i%2 == 1 {
					from, to = b, a
				}
				if i < 2 {
					return from.sendNumbered([]uint64{to.id}, messages, size)
				}
				return to.readNumbered(from.id, messages, size)
			})
		}
	})
}

// TestCluster_ManySenders_KeepOrderPerSender has senders at three hubs and one receiver.
func TestCluster_ManySenders_KeepOrderPerSender(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		const perHub, size = 10, 500
		messages := tr.count(100)
		tc := startClusterOn(t, tr.start, 3, hub.Config{})
		receiver := tc.hubs[1].connectV1(t)
		var senders []*clientV1
		for _, h := range tc.hubs {
			for range perHub {
				senders = append(senders, h.connectV1(t))
			}
		}
		tc.waitKnown(t, len(senders)+1)
		parallel(t, len(senders)+1, func(i int) error {
			if i < len(senders) {
				return senders[i].sendNumbered([]uint64{receiver.id}, messages, size)
			}
			return receiver.readAllNumbered(len(senders), messages, size)
		})
	})
}

// TestCluster_LargestBodyTo255_CrossesOnce sends the largest body to as many receivers as a message
// can have. It crosses between the hubs once, and each hub holds it once.
func TestCluster_LargestBodyTo255_CrossesOnce(t *testing.T) {
	inCluster(t, 2, hub.Config{}, func(t *testing.T, tc *testCluster) {
		sender := tc.hubs[0].connectV2(t)
		receivers, ids := make([]*clientV2, wire.MaxReceivers), make([]uint64, wire.MaxReceivers)
		for i := range receivers {
			receivers[i] = tc.hubs[1].connectV2(t)
			ids[i] = receivers[i].ID
		}
		tc.waitKnown(t, 1+len(ids))
		body := pattern(wire.DefaultMaxBody, 1)
		before := tc.bus.Counts().Bytes
		seq := sender.sendMessage(body, levelOptions(wire.LevelReceived), 0, ids...)
		for _, r := range receivers {
			r.expectDeliver(sender.ID, seq, body)
		}
		sender.expectReport(seq, slices.Repeat([]wire.Fate{wire.FateReceived}, len(ids))...)
		if crossed := tc.bus.Counts().Bytes - before; crossed > uint64(len(body)*3/2) { // and what is said meanwhile
			t.Errorf("%d bytes crossed for a body of %d", crossed, len(body))
		}
		for i, h := range tc.hubs {
			if peak := h.Stats().PeakQueuedBytes; peak > 3*int64(len(body)) {
				t.Errorf("hub %d has held %d bytes for a body of %d", i+1, peak, len(body))
			}
		}
	})
}

// TestCluster_BodyAboveWindow_IsDelivered sends bodies above what is under way between hubs with
// the default limit, through hubs with as little memory as they accept.
func TestCluster_BodyAboveWindow_IsDelivered(t *testing.T) {
	const size = 6 << 20
	config := hub.Config{MaxBody: size, MaxQueuedBytes: hub.MinQueuedBytes(size)}
	inCluster(t, 2, config, func(t *testing.T, tc *testCluster) {
		a, b := tc.connectPair(t)
		for i := range 3 {
			body := pattern(size, byte(i))
			seq := a.sendMessage(body, levelOptions(wire.LevelReceived), 0, b.ID)
			b.expectDeliver(a.ID, seq, body)
			a.expectReport(seq, wire.FateReceived)
		}
	})
}

func TestCluster_RelayThenClose_IsDelivered(t *testing.T) {
	inCluster(t, 2, hub.Config{}, func(t *testing.T, tc *testCluster) {
		receiver := tc.hubs[1].connectV1(t)
		for i := range 10 {
			sender := tc.hubs[0].connectV1(t)
			tc.waitKnown(t, 2)
			body := pattern(100_000, byte(i))
			sender.relay(body, receiver.id)
			sender.Close()
			receiver.expectRelay(body)
			tc.waitKnown(t, 1)
		}
	})
}

func TestCluster_OverflowPolicies(t *testing.T) {
	inCluster(t, 2, hub.Config{OutboxBytes: 64 << 10, ResumeWindow: time.Minute}, func(t *testing.T, tc *testCluster) {
		sender, detached := tc.connectPair(t)
		tc.detach(t, detached)
		body := pattern(20_000, 1)
		reject, dropOldest := wire.MakeOptions(wire.LevelWritten, wire.OverflowReject), wire.MakeOptions(wire.LevelWritten, wire.OverflowDropOldest)
		var kept []uint64
		for range 4 {
			kept = append(kept, sender.sendMessage(body, dropOldest, 0, detached.ID))
		}
		full := sender.sendMessage(body, reject, 0, detached.ID)
		sender.expectReport(full, wire.FateFull)
		last := sender.sendMessage(body, dropOldest, 0, detached.ID)
		sender.expectReport(kept[0], wire.FateFull)
		kept = append(kept[1:], last)
		back := tc.hubs[1].resume(t, detached)
		for _, seq := range kept {
			back.expectDeliver(sender.ID, seq, body)
			sender.expectReport(seq, wire.FateWritten)
		}
	})
}

// TestCluster_Credit_SenderIsNotRead floods a detached receiver at another hub. Both hubs hold
// little of it, and the receiver gets everything when it is back.
func TestCluster_Credit_SenderIsNotRead(t *testing.T) {
	config := hub.Config{OutboxBytes: 64 << 10, StallTimeout: time.Hour, ResumeWindow: time.Hour}
	inCluster(t, 2, config, func(t *testing.T, tc *testCluster) {
		sender, detached := tc.connectPair(t)
		tc.detach(t, detached)
		const messages = 400
		body := pattern(10_000, 1)
		background(t, func() error {
			for seq := uint64(1); seq <= messages; seq++ {
				if _, err := sender.Write(wire.AppendSend(nil, seq, 0, 0, []uint64{detached.ID}, body)); err != nil {
					return err
				}
			}
			return nil
		})
		eventually(t, "the credit is used up", func() bool {
			return tc.hubs[0].Stats().QueuedBytes+tc.hubs[1].Stats().QueuedBytes >= int64(sender.Credit)
		})
		other := tc.hubs[0].connectV2(t) // to see that its messages pass
		for range 10 {
			seq := other.sendMessage(body, levelOptions(wire.LevelReceived), 0, other.ID)
			other.expectDeliver(other.ID, seq, body)
			other.expectReport(seq, wire.FateReceived)
		}
		maxQueued := int64(64<<10 + sender.Credit + 512<<10)
		for i, h := range tc.hubs {
			if queued := h.Stats().QueuedBytes; queued > maxQueued {
				t.Errorf("hub %d holds %d bytes", i+1, queued)
			}
		}
		back := tc.hubs[1].resume(t, detached)
		for seq := uint64(1); seq <= messages; seq++ {
			back.expectDeliver(sender.ID, seq, body)
		}
	})
}

func TestCluster_BodyTooLargeForAReceiver(t *testing.T) {
	inCluster(t, 2, hub.Config{}, func(t *testing.T, tc *testCluster) {
		sender, large := tc.connectPair(t)
		small := tc.hubs[1].connectMaxBody(t, 1000)
		tc.waitKnown(t, 3)
		body := pattern(1001, 1)
		seq := sender.sendMessage(body, levelOptions(wire.LevelReceived), 0, small.ID, large.ID)
		large.expectDeliver(sender.ID, seq, body)
		sender.expectReport(seq, wire.FateTooLarge, wire.FateReceived)
		small.fenceV2()
	})
}

func TestCluster_Expired_IsNotWritten(t *testing.T) {
	inCluster(t, 2, hub.Config{ResumeWindow: time.Minute}, func(t *testing.T, tc *testCluster) {
		sender, detached := tc.connectPair(t)
		tc.detach(t, detached)
		stale := sender.sendMessage([]byte("stale"), levelOptions(wire.LevelReceived), 30, detached.ID)
		sender.expectReport(stale, wire.FateExpired)
		fresh := sender.sendMessage([]byte("fresh"), levelOptions(wire.LevelReceived), 60_000, detached.ID)
		tc.hubs[1].resume(t, detached).expectDeliver(sender.ID, fresh, []byte("fresh"))
		sender.expectReport(fresh, wire.FateReceived)
	})
}

// TestCluster_Expired_BetweenHubs has frames that need longer between the hubs than the time to
// live.
func TestCluster_Expired_BetweenHubs(t *testing.T) {
	inCluster(t, 2, hub.Config{}, func(t *testing.T, tc *testCluster) {
		sender, receiver := tc.connectPair(t)
		for range 3 { // the hubs learn how little a frame needs
			seq := sender.sendMessage([]byte("first"), levelOptions(wire.LevelReceived), 0, receiver.ID)
			receiver.expectDeliver(sender.ID, seq, []byte("first"))
			sender.expectReport(seq, wire.FateReceived)
		}
		tc.bus.SetFaults(membus.Faults{MinDelay: 500 * time.Millisecond, MaxDelay: 500 * time.Millisecond})
		seq := sender.sendMessage([]byte("stale"), levelOptions(wire.LevelReceived), 100, receiver.ID)
		sender.expectReport(seq, wire.FateExpired)
		receiver.fenceV2()
	})
}

// TestCluster_ReportTimeout reports that a message is queued at the other hub.
func TestCluster_ReportTimeout(t *testing.T) {
	inCluster(t, 2, hub.Config{ReportTimeout: 200 * time.Millisecond, ResumeWindow: time.Minute}, func(t *testing.T, tc *testCluster) {
		sender, detached := tc.connectPair(t)
		tc.detach(t, detached)
		seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, detached.ID)
		sender.expectReport(seq, wire.FateQueued)
		tc.hubs[1].resume(t, detached).expectDeliver(sender.ID, seq, []byte("x"))
	})
}

func TestCluster_ReceiverLeaves_FatesAreTrue(t *testing.T) {
	inCluster(t, 2, hub.Config{}, func(t *testing.T, tc *testCluster) {
		sender, receiver := tc.connectPair(t)
		receiver.withholdsAcks = true
		seq := sender.sendMessage([]byte("x"), levelOptions(wire.LevelProcessed), 0, receiver.ID)
		receiver.expectDeliver(sender.ID, seq, []byte("x"))
		receiver.send(wire.AppendBye(nil))
		receiver.expectEOF()
		sender.expectReport(seq, wire.FateUncertain)
	})
}

// TestCluster_StalledReceiver_UnblocksSenders checks that a detached receiver at another hub blocks
// its senders for at most the stall timeout.
func TestCluster_StalledReceiver_UnblocksSenders(t *testing.T) {
	config := hub.Config{OutboxBytes: 4 << 10, StallTimeout: 500 * time.Millisecond, ResumeWindow: time.Minute}
	inCluster(t, 2, config, func(t *testing.T, tc *testCluster) {
		sender, detached := tc.connectPair(t)
		tc.detach(t, detached)
		body := pattern(5000, 1)
		queued := sender.sendMessage(body, levelOptions(wire.LevelReceived), 0, detached.ID)
		blocked := sender.sendMessage(body, levelOptions(wire.LevelReceived), 0, detached.ID)
		sender.expectReport(queued, wire.FateGone)
		sender.expectReport(blocked, wire.FateGone)
		tc.hubs[1].waitDisconnected(t, hub.CloseStalled, 1)
	})
}

// TestCluster_Resume_LosesNothing cuts the connection of the receiver again and again.
func TestCluster_Resume_LosesNothing(t *testing.T) {
	inCluster(t, 2, hub.Config{ResumeWindow: time.Minute}, func(t *testing.T, tc *testCluster) {
		sender, receiver := tc.connectPair(t)
		const rounds, perRound = 10, 20
		for round := range rounds {
			var sent []uint64
			for range perRound {
				sent = append(sent, sender.sendMessage(pattern(5000, byte(round)), levelOptions(wire.LevelReceived), 0, receiver.ID))
			}
			for i, seq := range sent {
				if i == perRound/2 {
					receiver.reset()
					receiver = tc.hubs[1].resume(t, receiver)
				}
				receiver.expectDeliver(sender.ID, seq, pattern(5000, byte(round)))
			}
			for _, seq := range sent {
				sender.expectReport(seq, wire.FateReceived)
			}
		}
	})
}

// TestCluster_SlowReceivers_MemoryIsBounded floods many receivers at another hub that do not read,
// with little memory at both hubs. Others are still served, and the receivers are disconnected,
// after which their senders go on: the memory of the link is not theirs for ever.
func TestCluster_SlowReceivers_MemoryIsBounded(t *testing.T) {
	const maxQueued, pairs, size = 8 << 20, 20, 50_000
	config := hub.Config{MaxQueuedBytes: maxQueued, StallTimeout: time.Second}
	tc := startCluster(t, 2, config)
	bystander, echoer := tc.connectPair(t)
	for range pairs {
		slow, sender := tc.hubs[1].connectV1(t).withoutReadBuffer(), tc.hubs[0].connectV1(t)
		background(t, func() error { return sender.sendNumbered([]uint64{slow.id}, 400, size) })
	}
	for range 20 {
		seq := bystander.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, echoer.ID)
		echoer.expectDeliver(bystander.ID, seq, []byte("x"))
		bystander.expectReport(seq, wire.FateReceived)
	}
	eventually(t, "a receiver is disconnected", func() bool {
		disconnected := tc.hubs[1].Stats().Disconnected
		return disconnected[hub.CloseStalled]+disconnected[hub.CloseSlow] > 0
	})
	for i, h := range tc.hubs {
		if peak := h.Stats().PeakQueuedBytes; peak > maxQueued+64<<10 {
			t.Errorf("hub %d has held %d bytes", i+1, peak)
		}
	}
}

// TestCluster_Presence_ShowsAllHubs watches clients of all hubs, reads the list in pages, and
// continues a watch from a revision.
func TestCluster_Presence_ShowsAllHubs(t *testing.T) {
	inCluster(t, 3, hub.Config{ResumeWindow: time.Minute}, func(t *testing.T, tc *testCluster) {
		w := tc.hubs[0].connectV2(t).startWatch(0)
		ids := []uint64{w.ID}
		var others []*clientV2
		for _, h := range tc.hubs {
			for range 3 {
				c := h.connectV2(t)
				others, ids = append(others, c), append(ids, c.ID)
			}
		}
		slices.Sort(ids)
		w.readUntil(func() bool { return len(w.present) == len(ids) })
		tc.waitKnown(t, len(ids))
		for i, h := range tc.hubs {
			c := others[3*i]
			var listed []uint64
			for page := c.requestPage(0, 4); len(page) > 0; page = c.requestPage(page[len(page)-1], 4) {
				listed = append(listed, page...)
			}
			if !slices.Equal(listed, ids) {
				t.Errorf("hub %s lists %d, want %d", h.addr, listed, ids)
			}
		}
		since := w.revision
		w.send(wire.AppendWatch(nil, wire.Watch{}))
		last := others[len(others)-1]
		last.send(wire.AppendBye(nil))
		last.expectEOF()
		tc.waitKnown(t, len(ids)-1)
		w.send(wire.AppendWatch(nil, wire.Watch{On: true, Since: since}))
		w.readUntil(func() bool { return len(w.present) == len(ids)-1 && !w.present[last.ID] })
	})
}

// TestCluster_Presence_ResumeIsNotAnnounced resumes a session while a client of another hub
// watches.
func TestCluster_Presence_ResumeIsNotAnnounced(t *testing.T) {
	inCluster(t, 2, hub.Config{ResumeWindow: time.Minute}, func(t *testing.T, tc *testCluster) {
		a, b := tc.connectPair(t)
		w := a.startWatch(0)
		w.readUntil(func() bool { return len(w.present) == 2 })
		b.reset()
		b = tc.hubs[1].resume(t, b)
		seq := b.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, a.ID)
		a.expectDeliver(b.ID, seq, []byte("x")) // and no PRESENCE before it
		late := tc.hubs[1].connectV2(t)
		w.readUntil(func() bool { return w.present[late.ID] })
		if !w.present[b.ID] {
			t.Error("the resumed client is not present")
		}
	})
}

// TestCluster_Watch_RevisionOfOtherHub_GetsSnapshot continues a watch at another hub, as a client
// does that has moved there.
func TestCluster_Watch_RevisionOfOtherHub_GetsSnapshot(t *testing.T) {
	inCluster(t, 2, hub.Config{}, func(t *testing.T, tc *testCluster) {
		a, b := tc.connectPair(t)
		w := a.startWatch(0)
		w.readUntil(func() bool { return len(w.present) == 2 })
		b.send(wire.AppendWatch(nil, wire.Watch{On: true, Since: w.revision}))
		kind, payload := b.nextFrame()
		p, err := wire.ParsePresence(payload)
		if kind != wire.TypePresence || err != nil || p.Flags&wire.PresenceSnapshot == 0 {
			t.Errorf("frame of type %#x: %+v, %v", kind, p, err)
		}
	})
}

func TestCluster_Permissions_LimitReceivers(t *testing.T) {
	config := hub.Config{Authenticate: tokenAuthenticator(map[string]*hub.Permissions{
		"alice": {ID: 7, CanSend: func(id uint64) bool { return id == 8 }}, "bob": {ID: 8}, "carol": {ID: 9},
	})}
	inCluster(t, 2, config, func(t *testing.T, tc *testCluster) {
		alice, bob, carol := tc.hubs[0].connectToken(t, "alice"), tc.hubs[1].connectToken(t, "bob"), tc.hubs[1].connectToken(t, "carol")
		tc.waitKnown(t, 3)
		seq := alice.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, 8, 9)
		bob.expectDeliver(7, seq, []byte("x"))
		alice.expectReport(seq, wire.FateReceived, wire.FateRefused)
		carol.fenceV2()
		seq = carol.sendMessage([]byte("y"), levelOptions(wire.LevelReceived), 0, 7)
		alice.expectDeliver(9, seq, []byte("y"))
		carol.expectReport(seq, wire.FateReceived)
	})
}

func TestCluster_RateLimiter_SlowsOnlyTheSender(t *testing.T) {
	inCluster(t, 2, hub.Config{MessageRate: 50}, func(t *testing.T, tc *testCluster) {
		sender, receiver := tc.connectPair(t)
		other := tc.hubs[0].connectV2(t)
		tc.waitKnown(t, 3)
		const messages = 75 // the burst is 50
		begun := time.Now()
		for range 2 { // the frames of one read are handled, and the next read has to wait
			first := sender.seq + 1
			for range messages {
				sender.sendMessage([]byte("x"), 0, 0, receiver.ID)
			}
			seq := other.sendMessage([]byte("y"), levelOptions(wire.LevelWritten), 0, other.ID)
			other.expectDeliver(other.ID, seq, []byte("y"))
			other.expectReport(seq, wire.FateWritten)
			for seq := first; seq < first+messages; seq++ {
				receiver.expectDeliver(sender.ID, seq, []byte("x"))
			}
		}
		if took := time.Since(begun); took < 300*time.Millisecond {
			t.Errorf("%d messages took %v", 2*messages, took)
		}
	})
}

// TestCluster_Shutdown_DeliversQueued ends a hub of which a client has just sent.
func TestCluster_Shutdown_DeliversQueued(t *testing.T) {
	inCluster(t, 2, hub.Config{}, func(t *testing.T, tc *testCluster) {
		sender, receiver := tc.connectPair(t)
		const messages = 50 // which fit the outbox
		body := pattern(2000, 1)
		for range messages {
			sender.sendMessage(body, 0, 0, receiver.ID)
		}
		sender.awaitPong() // the hub has read them
		ctx := context.WithoutCancel(t.Context())
		background(t, func() error { return tc.hubs[0].Shutdown(ctx) })
		for seq := range uint64(messages) {
			receiver.expectDeliver(sender.ID, seq+1, body)
		}
		eventually(t, "the hub has left", func() bool { return len(tc.hubs[1].Hubs()) == 1 })
		seq := receiver.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, sender.ID)
		receiver.expectReport(seq, wire.FateUnknown)
	})
}
