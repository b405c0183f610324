package hub_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestRelay_BodyTooLargeForAReceiver sends bodies of many sizes together, to receivers with
// different limits. Each receiver gets the bodies that it accepts, in order, and the reports
// say so.
func TestRelay_BodyTooLargeForAReceiver(t *testing.T) {
	for _, level := range []wire.Level{wire.LevelNone, wire.LevelWritten, wire.LevelReceived, wire.LevelProcessed} {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			onAllTransports(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, hub.Config{MaxBody: 2 << 20, MaxQueuedBytes: 64 << 20})
				sender := h.connectV2(t)
				limits := []int{1, 100, 1000, 70_000, 2 << 20, 3 << 20}
				sizes := []int{0, 1, 100, 101, 1, 1001, 1000, 70_000, 70_001, 2, 2 << 20, 100}
				var to []uint64
				var receivers []*clientV2
				for _, limit := range limits {
					receivers = append(receivers, h.connectMaxBody(t, limit))
					to = append(to, receivers[len(receivers)-1].id)
				}
				receivers = append(receivers, h.connectV2(t)) // names no limit and accepts all
				limits, to = append(limits, 2<<20), append(to, receivers[len(receivers)-1].id)
				var block []byte
				for i, size := range sizes {
					block = wire.AppendSend(block, uint64(i+1), levelOptions(level), 0, to, pattern(size, byte(i)))
				}
				background(t, func() error { _, err := sender.Write(block); return err })
				tooLarge := uint64(0)
				for r, c := range receivers {
					for i, size := range sizes {
						if size > limits[r] {
							tooLarge++
							continue
						}
						c.expectDeliver(sender.id, uint64(i+1), pattern(size, byte(i)))
						if level == wire.LevelProcessed {
							c.send(wire.AppendVerdicts(nil, []wire.Verdict{{Sender: sender.id, Seq: uint64(i + 1), Fate: wire.FateProcessed}}))
						}
					}
					c.fenceV2()
				}
				eventually(t, "all drops counted", func() bool { return h.Stats().Dropped[hub.DropTooLarge] == tooLarge })
				if level == wire.LevelNone {
					return
				}
				got := make(map[uint64][]byte)
				for range sizes {
					kind, payload := sender.nextFrame()
					report, err := wire.ParseReport(payload)
					if kind != wire.TypeReport || err != nil {
						t.Fatalf("got frame type %#x, want REPORT: %v", kind, err)
					}
					got[report.Seq] = report.Fates
				}
				for i, size := range sizes {
					var want []byte
					for _, limit := range limits {
						fate := wire.FateQueued + wire.Fate(level)
						if size > limit {
							fate = wire.FateTooLarge
						}
						want = append(want, byte(fate))
					}
					if !slices.Equal(got[uint64(i+1)], want) {
						t.Errorf("%d bytes: fates %v, want %v", size, got[uint64(i+1)], want)
					}
				}
			})
		})
	}
}

// TestRelay_BodyTooLargeFromVersion1 sends from version 1, which has no reports. A receiver
// of version 1 gets every body, because it cannot name a limit.
func TestRelay_BodyTooLargeFromVersion1(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{MaxBody: 2 << 20, MaxQueuedBytes: 64 << 20})
		sender, v1, limited := h.connectV1(t), h.connectV1(t), h.connectMaxBody(t, 1000)
		sizes := []int{10, 1001, 1000, 1_500_000, 20}
		background(t, func() error {
			for i, size := range sizes {
				if _, err := sender.Write(wire.AppendRelay(nil, []uint64{limited.id, v1.id, limited.id}, pattern(size, byte(i)))); err != nil {
					return err
				}
			}
			return nil
		})
		for i, size := range sizes {
			v1.expectRelay(pattern(size, byte(i)))
			if size <= 1000 {
				limited.expectDeliver(sender.id, 0, pattern(size, byte(i)))
				limited.expectDeliver(sender.id, 0, pattern(size, byte(i)))
			}
		}
		limited.fenceV2()
		if n := h.Stats().Dropped[hub.DropTooLarge]; n != 4 {
			t.Errorf("%d counted as too large, want 4", n)
		}
	})
}

// TestRelay_BodyTooLargeIsTraced checks that the trace has the fate that a report has.
func TestRelay_BodyTooLargeIsTraced(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h, traces := startTraced(t, tr, hub.Config{})
		sender, limited := h.connectV2(t), h.connectMaxBody(t, 10)
		began := time.Now()
		var block []byte
		for seq, size := range []int{10, 11} {
			block = wire.AppendSend(block, uint64(seq+1), 0, 0, []uint64{limited.id, sender.id}, pattern(size, 1))
		}
		sender.send(block)
		for range 2 {
			trace := <-traces
			fate := wire.FateWritten
			if trace.BodyLen > 10 {
				fate = wire.FateTooLarge
			}
			checkTrace(t, trace, hub.Trace{Version: 2, Sender: sender.id, Seq: uint64(trace.BodyLen - 9), BodyLen: trace.BodyLen,
				Receivers: []hub.ReceiverTrace{{ID: limited.id, Fate: fate}, {ID: sender.id, Fate: wire.FateWritten}}}, began)
		}
	})
}

// TestHello_MaxBody checks which limit the hub makes of the one that the client names.
func TestHello_MaxBody(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{MaxBody: 1000})
		for maxBody, want := range map[int]int{0: 1000, 1: 1, 999: 999, 1000: 1000, 1 << 30: 1000} {
			if c := h.connectMaxBody(t, maxBody); c.MaxDeliver != want || c.MaxBody != 1000 {
				t.Errorf("after max_body %d: max_deliver %d and max_body %d, want %d and 1000", maxBody, c.MaxDeliver, c.MaxBody, want)
			}
		}
	})
}

// TestRelay_PipelinedMessages_KeepOrder sends 20,000 messages without waiting for anything.
func TestRelay_PipelinedMessages_KeepOrder(t *testing.T) {
	const messages = 20_000
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		a, b := h.connectV1(t), h.connectV1(t)
		background(t, func() error { return a.sendNumbered([]uint64{b.id}, messages, 100) })
		if err := b.readNumbered(a.id, messages, 100); err != nil {
			t.Fatal(err)
		}
		b.fence()
		bystanders.waitRounds(3)
	})
}

// mixedSize is the length of the body of message n. Bodies that are copied, queued by
// reference, and held in a buffer of their own follow each other.
func mixedSize(n int) int {
	return []int{0, 20, 5000, 1, 70_000, 300, 60_000, 4090, 4096, 200_000, 16, 65_530}[n%12]
}

// TestRelay_MixedSizes_KeepOrder mixes bodies that the hub handles in different ways with
// messages to both receivers and to one of them.
func TestRelay_MixedSizes_KeepOrder(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		messages := tr.count(600)
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		a, b, c := h.connectV1(t), h.connectV1(t), h.connectV1(t)
		lists := [][]uint64{{b.id, c.id}, {b.id}, {c.id}, {c.id, b.id}, {b.id, c.id}}
		background(t, func() error {
			for n := range messages {
				if _, err := a.Write(wire.AppendRelay(nil, lists[n%len(lists)], numberedBody(a.id, n, mixedSize(n)))); err != nil {
					return err
				}
			}
			return nil
		})
		receivers := []*clientV1{b, c}
		parallel(t, len(receivers), func(i int) error {
			for n := range messages {
				if !slices.Contains(lists[n%len(lists)], receivers[i].id) {
					continue
				}
				if err := receivers[i].readRelay(numberedBody(a.id, n, mixedSize(n))); err != nil {
					return fmt.Errorf("message %d: %w", n, err)
				}
			}
			return nil
		})
		a.fence()
		bystanders.waitRounds(3)
	})
}

// TestRelay_Replies_KeepRequestOrder has a client send messages to itself and requests in
// turn. Deliveries and replies must arrive in that order.
func TestRelay_Replies_KeepRequestOrder(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		c := h.connectV1(t)
		const rounds = 300
		background(t, func() error {
			for n := range rounds {
				frames := wire.AppendRelay(nil, []uint64{c.id}, numberedBody(c.id, n, mixedSize(n)))
				frames = wire.AppendListRequest(wire.AppendIdentityRequest(frames))
				if _, err := c.Write(frames); err != nil {
					return err
				}
			}
			return nil
		})
		for n := range rounds {
			c.expectRelay(numberedBody(c.id, n, mixedSize(n)))
			c.readIdentity()
			if kind, _ := c.mustReadFrame(); kind != wire.TypeList {
				t.Fatalf("round %d: got type %d, want a list", n, kind)
			}
		}
		c.fence()
		bystanders.waitRounds(3)
	})
}

// TestRelay_HundredSenders_KeepOrderPerSender checks that a receiver gets the messages of each
// of 100 senders in order.
func TestRelay_HundredSenders_KeepOrderPerSender(t *testing.T) {
	const senders, messages, size = 100, 300, 200
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		receiver := h.connectV1(t)
		for range senders {
			c := h.connectV1(t)
			background(t, func() error { return c.sendNumbered([]uint64{receiver.id}, messages, size) })
		}
		next := map[uint64]int{}
		for range senders * messages {
			_, body := receiver.mustReadFrame()
			sender := binary.BigEndian.Uint64(body)
			if n := int(binary.BigEndian.Uint64(body[8:])); n != next[sender] || len(body) != size {
				t.Fatalf("sender %d: message %d, %d bytes, want message %d", sender, n, len(body), next[sender])
			}
			next[sender]++
		}
		receiver.fence()
		bystanders.waitRounds(3)
	})
}
