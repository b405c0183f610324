package hub_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// The tests of this file are the rows of the table of decided cases in docs/PROTOCOL.md, in
// the order of the table.

func TestProtocolV1_UnknownReceiver_IsSkippedAndCounted(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		a, b, left := h.connectV1(t), h.connectV1(t), h.connectV1(t)
		left.Close()
		h.waitDisconnected(t, hub.CloseLeft, 1)

		a.relay([]byte("x"), left.id, 999, b.id, math.MaxUint64, 0)
		b.expectRelay([]byte("x"))
		a.fence()
		eventually(t, "counted", func() bool { return h.Stats().Dropped[hub.DropUnknown] == 4 })
		bystanders.waitRounds(3)
	})
}

func TestProtocolV1_SenderAsReceiver_GetsItsMessage(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		a, b := h.connectV1(t), h.connectV1(t)
		for _, size := range []int{2, 100_000} { // copied, and queued by reference
			body := pattern(size, 1)
			a.relay(body, b.id, a.id)
			a.expectRelay(body)
			b.expectRelay(body)
		}
		a.fence()
		b.fence()
		bystanders.waitRounds(3)
	})
}

func TestProtocolV1_DuplicateReceiver_GetsTwoCopies(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		a, b := h.connectV1(t), h.connectV1(t)
		for _, size := range []int{2, 100_000} {
			body := pattern(size, 1)
			a.relay(body, b.id, b.id)
			b.expectRelay(body)
			b.expectRelay(body)
		}
		a.fence()
		b.fence()
		bystanders.waitRounds(3)
	})
}

// TestProtocolV1_DuplicateReceiver_KeepsOrder sends many messages at once. Both copies of a
// message arrive before the first copy of the next.
func TestProtocolV1_DuplicateReceiver_KeepsOrder(t *testing.T) {
	const messages = 100
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		a, b, c := h.connectV1(t), h.connectV1(t), h.connectV1(t)
		var frames []byte
		for n := range messages {
			frames = wire.AppendRelay(frames, []uint64{b.id, c.id, b.id}, numberedBody(a.id, n, 200))
		}
		a.send(frames)
		for n := range messages {
			b.expectRelay(numberedBody(a.id, n, 200))
			b.expectRelay(numberedBody(a.id, n, 200))
			c.expectRelay(numberedBody(a.id, n, 200))
		}
		bystanders.waitRounds(3)
	})
}

func TestProtocolV1_NoReceivers_IsCounted(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		a, b := h.connectV1(t), h.connectV1(t)
		a.relay([]byte("x"))
		a.relay(make([]byte, 100_000))
		a.relay(nil)
		a.fence()
		b.fence()
		eventually(t, "counted", func() bool { return h.Stats().NoReceivers == 3 })
		bystanders.waitRounds(3)
	})
}

func TestProtocolV1_EmptyBody_IsDelivered(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		a, b := h.connectV1(t), h.connectV1(t)
		a.relay(nil, b.id, a.id)
		b.expectRelay(nil)
		a.expectRelay(nil)
		a.fence()
		b.fence()
		bystanders.waitRounds(3)
	})
}

// TestProtocolV1_LargestBodyTo255_IsHeldOnce sends the largest body to the maximum number of
// receivers, and checks that the hub holds one copy, not 255.
func TestProtocolV1_LargestBodyTo255_IsHeldOnce(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		sender := h.connectV1(t)
		receivers := make([]*clientV1, wire.MaxReceivers)
		ids := make([]uint64, len(receivers))
		for i := range receivers {
			receivers[i] = h.connectV1(t)
			ids[i] = receivers[i].id
		}
		body := pattern(wire.DefaultMaxBody, 7)
		background(t, func() error {
			_, err := sender.Write(wire.AppendRelay(nil, ids, body))
			return err
		})
		parallel(t, len(receivers), func(i int) error { return receivers[i].readRelay(body) })
		sender.fence()
		if peak := h.Stats().PeakQueuedBytes; peak > 5<<20 {
			t.Errorf("a body of 1 MiB to 255 receivers took %d bytes", peak)
		}
		eventually(t, "counted", func() bool { return h.Stats().Delivered >= wire.MaxReceivers })
		bystanders.waitRounds(3)
	})
}

// TestProtocolV1_FrameTooLong_IsRefusedFromHeader sends a length that is too large, and no
// byte more.
func TestProtocolV1_FrameTooLong_IsRefusedFromHeader(t *testing.T) {
	for _, length := range []uint32{uint32(wire.MaxRequestLength(wire.DefaultMaxBody)) + 1, math.MaxInt32, 1 << 31, math.MaxUint32} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			onTransports(t, func(t *testing.T, tr testTransport) {
				log := &logBuffer{}
				h := tr.start(t, hub.Config{Logger: log.logger()})
				bystanders := h.startBystanders(t)
				c := h.connectV1(t)
				c.send([]byte{byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length)})
				c.expectEOF()
				h.waitDisconnected(t, hub.CloseTooLong, 1)
				log.waitFor(t, fmt.Sprintf(`"client":%d,"address":"%v","reason":"frame too long"`, c.id, c.LocalAddr()))
				bystanders.waitRounds(3)
			})
		})
	}
}

// TestProtocolV1_BodyTooLarge_ClosesConn sends a body above the limit in a frame whose length
// is allowed because the frame names few receivers.
func TestProtocolV1_BodyTooLarge_ClosesConn(t *testing.T) {
	for _, limit := range []int{1, 1000, wire.DefaultMaxBody} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			onTransports(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, hub.Config{MaxBody: limit})
				c, b := h.connectV1(t), h.connectV1(t)
				c.relay(pattern(limit, 1), b.id)
				b.expectRelay(pattern(limit, 1))
				_, err := c.Write(wire.AppendRelay(nil, []uint64{b.id}, make([]byte, limit+1)))
				t.Log("the write of the body that is too large:", err)
				c.expectEOF()
				h.waitDisconnected(t, hub.CloseTooLong, 1)
				b.fence()
			})
		})
	}
}

// TestProtocolV1_MalformedRelay_ClosesOnlySender sends each malformed relay after a valid one,
// which must be delivered.
func TestProtocolV1_MalformedRelay_ClosesOnlySender(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		b := h.connectV1(t)
		cases := []string{"\x03", "\x03\x01", "\x03\x01\x00\x00\x00\x00\x00\x00\x00", "\x03\xff\x00\x00\x00\x00\x00\x00\x00\x01"}
		for i, payload := range cases {
			c := h.connectV1(t)
			good := wire.AppendRelay(nil, []uint64{b.id}, []byte("good"))
			c.send(append(append(good, 0, 0, 0, byte(len(payload))), payload...))
			c.expectEOF()
			b.expectRelay([]byte("good"))
			h.waitDisconnected(t, hub.CloseMalformed, uint64(i+1))
		}
		b.fence()
		bystanders.waitRounds(3)
	})
}

func TestProtocolV1_PartialFrameThenSilence_TimesOut(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{FrameTimeout: 200 * time.Millisecond})
		bystanders := h.startBystanders(t)
		idle, b := h.connectV1(t), h.connectV1(t)
		n := uint64(0)
		for part, partial := range partialFrames(b.id) {
			n++
			c := h.connectV1(t)
			began := time.Now()
			c.send(partial)
			c.expectEOF()
			if took := time.Since(began); took < h.config.FrameTimeout {
				t.Errorf("%s: disconnected after %v, want at least %v", part, took, h.config.FrameTimeout)
			}
			h.waitDisconnected(t, hub.CloseFrameTimeout, n)
		}
		idle.fence() // has sent nothing between two frames for longer
		b.fence()    // got no message
		bystanders.waitRounds(3)
	})
}

func TestProtocolV1_PartialFrameThenClose_DeliversNothing(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		a, b := h.connectV1(t), h.connectV1(t)
		n := uint64(0)
		for part, partial := range partialFrames(b.id) {
			t.Log(part)
			n++
			c := h.connectV1(t)
			c.send(partial)
			c.Close()
			h.waitDisconnected(t, hub.CloseHalfFrame, n)
		}
		a.relay([]byte("whole"), b.id)
		b.expectRelay([]byte("whole"))
		b.fence()
		bystanders.waitRounds(3)
	})
}

// TestProtocolV1_RequestsThenCloseWrite_AreAnswered sends requests whose replies the hub
// cannot send at once, closes its side for writing, and then starts to read.
func TestProtocolV1_RequestsThenCloseWrite_AreAnswered(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		c := h.connectV1(t)
		const times = 500
		body := pattern(30_000, 1)
		var requests []byte
		for range times {
			requests = wire.AppendIdentityRequest(requests)
			requests = wire.AppendRelay(requests, []uint64{c.id}, body)
		}
		background(t, func() error {
			_, err := c.Write(requests)
			return errors.Join(err, c.closeWrite())
		})
		for range times {
			c.readIdentity()
			c.expectRelay(body)
		}
		c.expectEOF()
		h.waitDisconnected(t, hub.CloseLeft, 1)
		bystanders.waitRounds(3)
	})
}

// TestProtocolV1_RelayThenClose_IsDelivered has senders close or reset their connection right
// after their last message.
func TestProtocolV1_RelayThenClose_IsDelivered(t *testing.T) {
	for name, end := range map[string]func(*clientV1){"close": func(c *clientV1) { c.Close() }, "reset": (*clientV1).reset} {
		t.Run(name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, hub.Config{})
				bystanders := h.startBystanders(t)
				b := h.connectV1(t)
				for i := range 20 {
					c := h.connectV1(t)
					// The frame leaves at once because the hub's receive buffer is empty.
					c.relay(numberedBody(c.id, i, i*500), b.id)
					end(c)
					b.expectRelay(numberedBody(c.id, i, i*500))
				}
				bystanders.waitRounds(3)
			})
		})
	}
}

// TestProtocolV1_RelayThenCloseBehindStalledReceiver_IsDelivered has a sender leave while the
// hub does not read from it, because its previous message is blocked at a stalled receiver.
// The hub finds out by writing to the sender. The last message must still be delivered.
func TestProtocolV1_RelayThenCloseBehindStalledReceiver_IsDelivered(t *testing.T) {
	for name, end := range map[string]func(*clientV1){"close": func(c *clientV1) { c.Close() }, "reset": (*clientV1).reset} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onTransports(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, hub.Config{StallTimeout: 2 * time.Second})
				bystanders := h.startBystanders(t)
				a, b, other, stalled := h.connectV1(t), h.connectV1(t), h.connectV1(t), h.connectV1(t)
				a.fillQueue(h, stalled.id)
				c := h.connectV1(t)
				c.relay([]byte("first"), other.id, stalled.id)
				// The message is offered to both receivers. From now on the hub does not read from c.
				other.expectRelay([]byte("first"))
				c.relay([]byte("last message"), b.id)
				end(c)
				eventually(t, "c is disconnected", func() bool {
					other.relay([]byte("are you there?"), c.id)
					other.fence()
					return h.Stats().Dropped[hub.DropUnknown] > 0
				})
				b.expectRelay([]byte("last message"))
				bystanders.waitRounds(3)
			})
		})
	}
}

// TestProtocolV1_UnreadReplies_AreBounded sends requests and never reads. The hub stops
// reading, holds little memory, and disconnects the client after the stall timeout.
func TestProtocolV1_UnreadReplies_AreBounded(t *testing.T) {
	requests := map[string][]byte{
		"identity": wire.AppendIdentityRequest(nil),
		"list":     wire.AppendListRequest(nil),
	}
	for name, request := range requests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onTransports(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, hub.Config{StallTimeout: time.Second, OutboxBytes: 64 << 10})
				bystanders := h.startBystanders(t)
				c := h.connectV1(t).shrinkReadBuffer()
				block := bytes.Repeat(request, 10_000)
				began := time.Now()
				var err error
				for sent := 0; err == nil; sent += len(block) {
					if sent > 64<<20 {
						t.Fatal("the hub still reads")
					}
					_, err = c.Write(block)
				}
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal("the hub does not disconnect the client")
				}
				if took := time.Since(began); took < h.config.StallTimeout {
					t.Errorf("disconnected after %v, the stall timeout is %v", took, h.config.StallTimeout)
				}
				h.waitDisconnected(t, hub.CloseStalled, 1)
				if peak := h.Stats().PeakQueuedBytes; peak > 2<<20 {
					t.Errorf("%d bytes queued for a client that does not read", peak)
				}
				bystanders.waitRounds(3)
			})
		})
	}
}
