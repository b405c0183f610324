package hub_test

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestReclaimer_UnackedReports_AreDropped has clients read reports and acknowledge hardly any.
// Each stays just below its window, but together they would hold more memory than there is.
// While others wait for memory, the hub drops unacknowledged frames.
func TestReclaimer_UnackedReports_AreDropped(t *testing.T) {
	const maxQueued, hoarders, messages = 1 << 20, 8, 2250
	unknown := []uint64{59: 1 << 62}                                // 60 fates make a REPORT of 74 bytes: all have 1.3 MB in total
	onAllTransportsInTurn(t, func(t *testing.T, tr testTransport) { // all reply within the stall timeout
		h := tr.start(t, hub.Config{MaxBody: 128 << 10, MaxQueuedBytes: maxQueued, StallTimeout: time.Second, Window: 512 << 10})
		bystanders := h.startBystanders(t)
		stop := make(chan struct{})
		for range hoarders {
			c := h.connectV2(t)
			background(t, func() error {
				var frames []byte
				for seq := uint64(1); seq <= messages; seq++ {
					frames = wire.AppendSend(frames, seq, levelOptions(wire.LevelWritten), 0, unknown, nil)
				}
				_, err := c.Write(frames)
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for n := uint64(1); err == nil; n++ {
					select {
					case <-tick.C:
						_, err = c.Write(wire.AppendAck(nil, n))
					case <-stop:
						return nil
					}
				}
				return err
			})
			background(t, func() error {
				for reports := 0; reports < messages; {
					kind, _, err := c.readFrame()
					if err != nil {
						return err
					}
					if kind == wire.TypeReport {
						reports++
					}
				}
				return nil
			})
		}
		eventually(t, "every message is reported", func() bool {
			bystanders.waitRounds(5)
			return h.Stats().MessagesOut >= hoarders*messages
		})
		close(stop)
		bystanders.waitRounds(20)
	})
}

// TestReclaimer_LargeUnacked_RequestsAcks sends a client more than the memory share of the
// sender. The client acknowledges only when it gets a PING.
func TestReclaimer_LargeUnacked_RequestsAcks(t *testing.T) {
	const messages = 64
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{MaxQueuedBytes: 5 << 20, StallTimeout: time.Hour})
		sender, receiver := h.connectV2(t), h.connectV2(t)
		body := pattern(60_000, 1)
		background(t, func() error {
			for range messages {
				sender.sendMessage(body, 0, 0, receiver.id)
			}
			return nil
		})
		pings := 0
		for received := uint64(0); received < messages; {
			switch kind, _ := receiver.mustReadFrame(); kind {
			case wire.TypeDeliver:
				received++
			case wire.TypePing:
				pings++
				receiver.send(wire.AppendAck(nil, received))
			}
		}
		if pings < 3 {
			t.Errorf("%d PINGs, want one each time that the share of the sender is full", pings)
		}
	})
}

// TestReclaimer_MemoryWaiter_DropsUnacked has two clients send much to each other at a hub
// that is short of memory. They acknowledge when they get a PING. While a client waits for the
// memory of frames that the other has not acknowledged, the hub does not read its ACKs. The
// hub must drop these frames soon, and not after half a second each time.
func TestReclaimer_MemoryWaiter_DropsUnacked(t *testing.T) {
	const maxDuration = 30 * time.Second
	onAllTransportsInTurn(t, func(t *testing.T, tr testTransport) {
		messages := tr.count(800) // 96 times the memory share of one client; in memory 24 times
		h := tr.start(t, hub.Config{MaxQueuedBytes: 5 << 20, StallTimeout: time.Hour})
		clients := []*clientV2{h.connectV2(t), h.connectV2(t)}
		body := pattern(60_000, 1)
		begin := time.Now()
		parallel(t, len(clients), func(i int) error {
			c, other := clients[i], clients[1-i]
			background(t, func() error {
				for range messages {
					c.sendMessage(body, 0, 0, other.id)
				}
				return nil
			})
			return c.ackWhenPinged(uint64(messages))
		})
		if took := time.Since(begin); took > maxDuration {
			t.Errorf("took %v, want at most %v", took, maxDuration)
		}
	})
}

// ackWhenPinged reads this number of messages and acknowledges when it gets a PING. It
// continues to read while the ACK is blocked.
func (c *clientV2) ackWhenPinged(messages uint64) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for received := uint64(0); received < messages; {
		kind, payload, err := c.readFrame()
		switch {
		case err != nil:
			return err
		case kind == wire.TypeDeliver:
			received++
		case kind == wire.TypePing:
			n, _ := wire.ParseUint64(payload)
			reply := wire.AppendPong(wire.AppendAck(nil, received), n)
			wg.Go(func() { _, _ = c.Write(reply) }) // ends when the hub has read the earlier frames
		}
	}
	return nil
}

// TestReclaimer_UnreadSubscription_DelaysNobody has senders wait for memory that a message in the
// inbox of a Subscription holds. The inbox has a copy, and the senders soon go on.
func TestReclaimer_UnreadSubscription_DelaysNobody(t *testing.T) {
	const maxWait = 10 * time.Millisecond // the reclaimer looks every 5 ms
	config := hub.Config{MaxQueuedBytes: hub.MinQueuedBytes(1 << 20)}
	inVirtualTimeWith(t, config, func(t *testing.T, h *testHub) {
		body := pattern(1<<20, 1) // above the quota of a sender
		client, options := h.connectV2(t), levelOptions(wire.LevelWritten)
		for from, send := range map[uint64]func(to uint64){
			7: func(to uint64) { h.mustSend(t, 7, []uint64{to}, body, &hub.SendOptions{Level: wire.LevelWritten}) },
			client.id: func(to uint64) {
				client.expectReport(client.sendMessage(body, options, 0, to), wire.FateWritten)
			},
		} {
			first, second := h.subscribe(t, 0), h.subscribe(t, 0)
			begin := time.Now()
			send(first.ID())
			send(second.ID())
			if took := time.Since(begin); took > maxWait {
				t.Errorf("sender %d has waited for %v", from, took)
			}
			expectMessage(t, first, from, body)
			expectMessage(t, second, from, body)
		}
	})
}

// TestReclaimer_UnrelatedUnacked_IsKept has a client wait for memory that is held by the queue
// of a slow receiver. The frames that this client has not acknowledged come from another sender
// and hold none of that memory. The hub must keep these frames, and the session can resume.
func TestReclaimer_UnrelatedUnacked_IsKept(t *testing.T) {
	const messages = 200
	h := start(t, hub.Config{MaxQueuedBytes: 16 << 20, OutboxBytes: 8 << 20})
	busy, slow, other := h.connectV2(t), h.connectV2(t), h.connectV2(t)
	busy.withholdsAcks = true
	seq := other.sendMessage([]byte("hello"), 0, 0, busy.ID)
	busy.expectDeliver(other.ID, seq, []byte("hello"))
	body := pattern(60_000, 1)
	sent := make(chan struct{})
	background(t, func() error {
		defer close(sent)
		for range messages {
			busy.sendMessage(body, 0, 0, slow.ID)
		}
		return nil
	})
	const share = 14 << 20 / 8 // the memory share of busy
	eventually(t, "busy waits for memory", func() bool { return h.Stats().QueuedBytes > share-2*64<<10 })
	for seq := uint64(1); seq <= messages; seq++ {
		slow.expectDeliver(busy.ID, seq, body)
	}
	<-sent
	stale := *busy
	stale.received = 0 // as if the message had not arrived
	busy.reset()
	if back := h.resume(t, &stale); !back.Resumed {
		t.Errorf("resumed as %+v", back.Welcome)
	}
}

// TestReclaimer_PartialBodies_AreDisconnected has clients that get memory by sending a part of
// a large body, and stop there. A client that waits for memory gets it when the hub
// disconnects them after the stall timeout.
func TestReclaimer_PartialBodies_AreDisconnected(t *testing.T) {
	for name, body := range map[string]int{"large": wire.DefaultMaxBody, "small": 100} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onTransports(t, func(t *testing.T, tr testTransport) {
				h := tr.startOpaque(t, hub.Config{MaxQueuedBytes: 5 << 20, StallTimeout: 2 * time.Second})
				a, b := h.connectV1(t), h.connectV1(t)
				frame := wire.AppendRelay(nil, []uint64{1}, make([]byte, wire.DefaultMaxBody))
				for range 12 {
					c := h.connect(t)
					c.send(tr.partOfLargeFrame(frame))
				}
				eventually(t, "memory is used up", func() bool { return h.Stats().QueuedBytes > 3<<20 })
				a.relay(pattern(body, 3), b.id)
				b.expectRelay(pattern(body, 3))
				h.waitDisconnected(t, hub.CloseSlow, 1)
				for reason, n := range h.Stats().Disconnected {
					if reason != hub.CloseSlow {
						t.Errorf("%d × %q", n, reason)
					}
				}
				a.fence()
				b.fence()
			})
		})
	}
}

// TestReclaimer_SlowReceiver_IsDisconnected has a sender whose whole share is queued for a
// receiver that reads nothing and whose queue is not full.
func TestReclaimer_SlowReceiver_IsDisconnected(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{MaxQueuedBytes: 5 << 20, OutboxBytes: 16 << 20, StallTimeout: 2 * time.Second})
		bystanders := h.startBystanders(t)
		sender, greedy, other := h.connectV1(t), h.connectV1(t).shrinkReadBuffer(), h.connectV1(t)
		const messages, size = 30, 300_000
		background(t, func() error { return sender.sendNumbered([]uint64{greedy.id, other.id}, messages, size) })
		if err := other.readNumbered(sender.id, messages, size); err != nil {
			t.Fatal(err)
		}
		h.waitDisconnected(t, hub.CloseSlow, 1)
		sender.fence()
		bystanders.waitRounds(3)
	})
}

// TestReclaimer_PartialBody_IsEvictedAfterStallTimeout uses up the memory with parts of
// bodies. When a client begins to wait for memory, the hub gives the clients that hold memory
// one stall timeout to send the rest. Then the hub disconnects one of them.
func TestReclaimer_PartialBody_IsEvictedAfterStallTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startInMemory(t, hub.Config{MaxQueuedBytes: 5 << 20})
		frame := wire.AppendRelay(nil, []uint64{99}, make([]byte, wire.DefaultMaxBody))
		for range 3 { // as many as there is memory for
			h.connect(t).send(frame[:100_000])
		}
		honest := h.connect(t)
		<-time.After(hub.DefaultFrameTimeout / 2) // no client waits for memory, and none is disconnected
		if n := h.Stats().Clients; n != 4 {
			t.Fatalf("%d clients, want 4", n)
		}
		began := time.Now()
		honest.send(frame)
		honest.fence()
		if took, want := time.Since(began), hub.DefaultStallTimeout; took != want {
			t.Errorf("waited %v for memory, want %v", took, want)
		}
		<-time.After(time.Second)
		if n := h.Stats().Disconnected[hub.CloseSlow]; n != 1 {
			t.Errorf("%d clients that hold memory were disconnected, want 1", n)
		}
	})
}

// TestReclaimer_UnreadReplies_AreEvictedForOthers has clients that read just enough replies
// not to stall, and send more requests than they read replies. They can hold memory while no
// other client waits for it. Then the hub disconnects only as many as necessary.
func TestReclaimer_UnreadReplies_AreEvictedForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startInMemory(t, hub.Config{MaxQueuedBytes: 5 << 20})
		const nonReaders = 60
		// The hub uses a large read buffer for a client that also sends messages.
		message := wire.AppendRelay(nil, nil, make([]byte, 2000))
		requests := append(message, bytes.Repeat(wire.AppendIdentityRequest(nil), 20_000)...)
		for range nonReaders {
			c := h.connect(t).withoutReadBuffer()
			for range 2 { // the large buffer is used from the second message on
				c.send(message)
				synctest.Wait() // the hub has read this message, and no part of the next
			}
			// The goroutine ends when the hub disconnects the client.
			background(t, func() error { _, _ = c.Write(requests); return nil })
			readSlowly(t, c, 20*wire.IdentityLen)
		}
		<-time.After(3 * hub.DefaultStallTimeout)
		if s := h.Stats(); s.Clients != nonReaders || s.QueuedBytes < 3<<20 {
			t.Fatalf("%d clients are left and hold %d bytes; %v", s.Clients, s.QueuedBytes, s.Disconnected)
		}
		honest := h.connect(t)
		began := time.Now()
		honest.send(wire.AppendRelay(nil, []uint64{999}, make([]byte, wire.DefaultMaxBody)))
		honest.fence()
		if took := time.Since(began); took > hub.DefaultStallTimeout+time.Second {
			t.Errorf("a message took %v", took)
		}
		<-time.After(time.Second)
		if n := h.Stats().Disconnected[hub.CloseSlow]; n == 0 || n > nonReaders/2 {
			t.Errorf("%d of %d were disconnected", n, nonReaders)
		}
	})
}

// TestReclaimer_LaterWaits_AreShort sends large messages at intervals, and each needs memory
// held by clients that read nothing. The first message waits for the stall timeout, in which
// the hub finds the slow clients. Each later message waits for at most a second.
func TestReclaimer_LaterWaits_AreShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startInMemory(t, hub.Config{MaxQueuedBytes: 5 << 20})
		fillQueuesOfNonReaders(t, h, 50, 5)
		honest := h.connect(t)
		<-time.After(time.Second)
		for i := range 10 {
			began := time.Now()
			honest.send(wire.AppendRelay(nil, []uint64{999}, make([]byte, 500_000)))
			honest.fence()
			maxWait := time.Second
			if i == 0 {
				maxWait += hub.DefaultStallTimeout
			}
			if took := time.Since(began); took > maxWait {
				t.Errorf("message %d waited for %v", i, took)
			}
			fillQueuesOfNonReaders(t, h, 1, 25) // the freed memory is held again
			<-time.After(3 * time.Second)
		}
		if h.Stats().Disconnected[hub.CloseSlow] == 0 {
			t.Error("no client was disconnected, and the test proves nothing")
		}
	})
}

// TestReclaimer_SmallHolders_AreSpared has a thousand clients that are as slow as those that
// hold the memory, but hold little. The hub disconnects one that holds much.
func TestReclaimer_SmallHolders_AreSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startInMemory(t, hub.Config{MaxQueuedBytes: 5 << 20})
		frame := wire.AppendRelay(nil, []uint64{999_999}, make([]byte, wire.DefaultMaxBody))
		for range 3 { // as many as there is memory for
			h.connect(t).send(frame[:100_000])
		}
		other, honest := h.connect(t), h.connect(t)
		for range 5 {
			var to []uint64
			for range 200 {
				to = append(to, h.connect(t).requestID().id)
			}
			other.send(wire.AppendRelay(nil, to, make([]byte, 2000))) // the queues share one body
		}
		<-time.After(time.Second)
		honest.send(frame)
		honest.fence()
		<-time.After(time.Second)
		if n := h.Stats().Disconnected[hub.CloseSlow]; n != 1 {
			t.Errorf("%d were disconnected, want 1", n)
		}
	})
}
