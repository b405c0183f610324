package hub_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestSend_Expires_WhileBeingRead sends a SEND in two parts, with more time between them than
// its time to live.
func TestSend_Expires_WhileBeingRead(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		sender, receiver := h.connectV2(t), h.connectV2(t)
		for i, size := range []int{10, 100_000} {
			body := pattern(size, byte(i))
			sender.seq++
			stale := wire.AppendSend(nil, sender.seq, levelOptions(wire.LevelReceived), 1000, []uint64{receiver.id}, body)
			half := len(stale) - 5
			sender.send(stale[:half])
			<-time.After(time.Second)
			sender.send(stale[half:])
			sender.expectReport(sender.seq, wire.FateExpired)
			fresh := sender.sendMessage(body, levelOptions(wire.LevelReceived), 1000, receiver.id)
			receiver.expectDeliver(sender.id, fresh, body)
			sender.expectReport(fresh, wire.FateReceived)
		}
	})
}

// TestSend_Expires_WhileBlocked sends more than the credit to a detached session: the last
// SEND waits in the hub until the SENDs before it are queued.
func TestSend_Expires_WhileBlocked(t *testing.T) {
	onMemoryTransports(t, func(t *testing.T, start startFunc) {
		h := start(t, hub.Config{OutboxBytes: 4 << 10, Credit: 64 << 10, StallTimeout: time.Hour, ResumeWindow: time.Hour, KeepAlive: time.Hour})
		sender, detached := h.connectV2(t), h.connectV2(t)
		detached.Close()
		synctest.Wait()
		to := slices.Repeat([]uint64{detached.id}, 50)
		body := pattern(20, 1)
		cost := wire.SendCost(len(to), len(body), sender.ReceiverCost)
		// as many as the credit admits
		sends := (64<<10 + wire.SendCost(wire.MaxReceivers, 0, sender.ReceiverCost)) / cost
		for range sends {
			sender.sendMessage(body, 0, 0, to...)
			synctest.Wait() // each SEND is read alone and at once
		}
		expiring := sender.sendMessage(body, levelOptions(wire.LevelReceived), 1000, to...)
		<-time.After(time.Second)
		back := h.connectHello(t, wire.Hello{Version: wire.Version2, ID: detached.ID, Resume: detached.Resume})
		for seq := range uint64(sends) {
			for range to {
				back.expectDeliver(sender.id, seq+1, body)
			}
		}
		sender.expectReport(expiring, slices.Repeat([]wire.Fate{wire.FateExpired}, len(to))...)
		fresh := sender.sendMessage(nil, levelOptions(wire.LevelReceived), 1000, detached.id)
		back.expectDeliver(sender.id, fresh, nil)
		sender.expectReport(fresh, wire.FateReceived)
	})
}

func TestSend_Expired_IsNotWritten(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{ResumeWindow: time.Minute})
		sender, detached := h.connectV2(t), h.connectV2(t)
		detached.reset()
		h.waitDetached(t, detached)
		stale := sender.sendMessage([]byte("stale"), 0, 30, detached.id) // without a report
		reported := sender.sendMessage([]byte("stale"), levelOptions(wire.LevelReceived), 30, detached.id)
		sender.expectReport(reported, wire.FateExpired)
		base := h.Stats().Fates[wire.FateExpired]
		fresh := sender.sendMessage([]byte("fresh"), 0, 60_000, detached.id)
		sender.awaitPong()
		h.resume(t, detached).expectDeliver(sender.id, fresh, []byte("fresh"))
		if n := h.Stats().Fates[wire.FateExpired] - base; n != 1 {
			t.Errorf("%d messages without a report expired, want %d", n, stale)
		}
	})
}

func TestOverflow_FullQueue_RejectsOrDropsOldest(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{OutboxBytes: 64 << 10, ResumeWindow: time.Minute})
		sender, detached := h.connectV2(t), h.connectV2(t)
		detached.reset() // nothing is written to the client, and everything is queued
		sender.waitUnwritable(detached)
		body := pattern(20_000, 1)
		reject, dropOldest := wire.MakeOptions(wire.LevelWritten, wire.OverflowReject), wire.MakeOptions(wire.LevelWritten, wire.OverflowDropOldest)
		var kept []uint64
		for range 4 {
			kept = append(kept, sender.sendMessage(body, dropOldest, 0, detached.id))
		}
		full := sender.sendMessage(body, reject, 0, detached.id)
		sender.expectReport(full, wire.FateFull)
		last := sender.sendMessage(body, dropOldest, 0, detached.id)
		sender.expectReport(kept[0], wire.FateFull)
		kept = append(kept[1:], last)
		back := h.resume(t, detached)
		for _, seq := range kept {
			back.expectDeliver(sender.id, seq, body)
			sender.expectReport(seq, wire.FateWritten)
		}
	})
}

// TestOverflow_DropOldest_KeepsOrder checks that the space of a dropped message goes to the
// message that is blocked, and that the newer message comes after that one.
func TestOverflow_DropOldest_KeepsOrder(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{OutboxBytes: 4 << 10, ResumeWindow: time.Minute})
		sender, detached := h.connectV2(t), h.connectV2(t)
		detached.reset()
		sender.waitUnwritable(detached)
		body := pattern(5000, 1)
		dropOldest := wire.MakeOptions(wire.LevelWritten, wire.OverflowDropOldest)
		dropped := sender.sendMessage(body, dropOldest, 0, detached.id)
		blocked := sender.sendMessage(body, levelOptions(wire.LevelWritten), 0, detached.id)
		behind := sender.sendMessage(body, dropOldest, 0, detached.id)
		sender.expectReport(dropped, wire.FateFull)
		back := h.resume(t, detached)
		for _, seq := range []uint64{blocked, behind} {
			back.expectDeliver(sender.id, seq, body)
			sender.expectReport(seq, wire.FateWritten)
		}
	})
}

// TestStallTimeout_DetachedReceiver_UnblocksSenders checks that a detached receiver with a
// full queue blocks its senders for at most the stall timeout. Messages in a queue that blocks
// no sender wait until the resume window ends.
func TestStallTimeout_DetachedReceiver_UnblocksSenders(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{OutboxBytes: 4 << 10, StallTimeout: 500 * time.Millisecond, ResumeWindow: time.Minute})
		sender, detached := h.connectV2(t), h.connectV2(t)
		detached.reset()
		sender.waitUnwritable(detached)
		body := pattern(5000, 1)
		queued := sender.sendMessage(body, levelOptions(wire.LevelReceived), 0, detached.id)
		if sender.hasDataWithin(time.Second) {
			t.Error("reported although the receiver can resume and no sender is blocked")
		}
		blocked := sender.sendMessage(body, levelOptions(wire.LevelReceived), 0, detached.id)
		sender.expectReport(queued, wire.FateGone)
		sender.expectReport(blocked, wire.FateGone)
		h.waitDisconnected(t, hub.CloseStalled, 1)
	})
}

// TestCredit_Exceeded_SenderIsNotRead floods a detached receiver. The hub reads no more than
// the credit of the sender, and the bystanders are served.
func TestCredit_Exceeded_SenderIsNotRead(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{OutboxBytes: 64 << 10, StallTimeout: time.Hour, ResumeWindow: time.Hour})
		bystanders := h.startBystanders(t)
		sender, detached := h.connectV2(t), h.connectV2(t)
		detached.reset()
		h.waitDetached(t, detached)
		const messages = 400
		body := pattern(10_000, 1)
		background(t, func() error {
			for seq := uint64(1); seq <= messages; seq++ {
				if _, err := sender.Write(wire.AppendSend(nil, seq, 0, 0, []uint64{detached.id}, body)); err != nil {
					return err
				}
			}
			return nil
		})
		eventually(t, "the credit is used up", func() bool { return h.Stats().QueuedBytes > int64(sender.Credit) })
		bystanders.waitRounds(20)
		bystanders.end() // their messages are kept until they are acknowledged
		maxQueued := int64(64<<10 + sender.Credit + 512<<10)
		eventually(t, "the queued bytes are bounded", func() bool { return h.Stats().QueuedBytes <= maxQueued })
		back := h.resume(t, detached)
		for seq := uint64(1); seq <= messages; seq++ {
			back.expectDeliver(sender.id, seq, body)
		}
	})
}

// TestSend_SharedBody_IsHeldOnce sends one body to as many receivers as a message can have. Every
// second one is a WebSocket, and none of them reads. The hub holds the body once, and little for each
// receiver. Afterwards all of them get it.
func TestSend_SharedBody_IsHeldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, maxPerReceiver = 1_020_000, 256 // the SEND fits into a buffer of 1 MiB
		h := startWebSocketInMemory(t, hub.Config{})
		sender := h.connectV2(t)
		receivers, ids := make([]*clientV2, wire.MaxReceivers), make([]uint64, wire.MaxReceivers)
		for i := range receivers {
			if i%2 == 0 {
				receivers[i] = h.connectV2(t)
			} else {
				receivers[i] = handshakeV2(h.connect(t), wire.Hello{Version: wire.Version2})
			}
			ids[i] = receivers[i].id
		}
		synctest.Wait()
		before := h.Stats()
		if before.WebSockets != 1+(wire.MaxReceivers+1)/2 {
			t.Fatalf("%d WebSockets", before.WebSockets)
		}
		body := pattern(size, 1)
		seq := sender.sendMessage(body, 0, 0, ids...)
		synctest.Wait()
		stats := h.Stats()
		held, maxHeld := stats.QueuedBytes-before.QueuedBytes, int64(size+maxPerReceiver*wire.MaxReceivers)
		t.Logf("%d bytes held, %d of them besides the body", held, held-size)
		if held < size || held > maxHeld {
			t.Errorf("%d bytes held for one body of %d bytes, want at most %d", held, size, maxHeld)
		}
		if stats.PeakQueuedBytes-before.QueuedBytes > 2*size+maxPerReceiver*wire.MaxReceivers { // the sum of two peaks
			t.Errorf("a peak of %d bytes", stats.PeakQueuedBytes)
		}
		for _, r := range receivers {
			r.expectDeliver(sender.id, seq, body)
		}
	})
}
