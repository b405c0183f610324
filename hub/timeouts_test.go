package hub_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// The tests of this file run in virtual time. The hub waits exactly as long as its timeouts
// say, and these are mostly the defaults.

// TestFrameTimeout_PartialFrame_IsExact sends a frame up to each of its parts. The hub closes
// the connection exactly after the frame timeout.
func TestFrameTimeout_PartialFrame_IsExact(t *testing.T) {
	for part, partial := range partialFrames(2) {
		t.Run(part, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, h *testHub) {
				c, other := h.connect(t), h.connect(t)
				c.fencePromptly()
				<-time.After(time.Hour) // the time between two frames does not count
				c.send(partial)
				began := time.Now()
				c.expectEOF()
				if took := time.Since(began); took != hub.DefaultFrameTimeout {
					t.Errorf("disconnected after %v, want %v", took, hub.DefaultFrameTimeout)
				}
				other.fencePromptly()
			})
		})
	}
}

// TestFrameTimeout_TricklingFrame_TimesOut sends a byte a second. The deadline applies to the
// whole rest of the frame.
func TestFrameTimeout_TricklingFrame_TimesOut(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		c, other := h.connect(t), h.connect(t)
		frame := wire.AppendRelay(nil, []uint64{2}, make([]byte, 1000))
		began := time.Now()
		var err error
		for i := 0; err == nil; i++ {
			_, err = c.Write(frame[i : i+1])
			<-time.After(time.Second)
		}
		if took := time.Since(began); took < hub.DefaultFrameTimeout || took > hub.DefaultFrameTimeout+2*time.Second {
			t.Errorf("disconnected after %v, want %v", took, hub.DefaultFrameTimeout)
		}
		if n := h.Stats().Disconnected[hub.CloseFrameTimeout]; n != 1 {
			t.Errorf("%d counted", n)
		}
		other.fencePromptly()
	})
}

// TestFrameTimeout_SlowFrames_AreServed sends frames that each take almost the frame timeout.
// The deadline starts anew with each frame.
func TestFrameTimeout_SlowFrames_AreServed(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		c, other := h.connect(t), h.connect(t)
		frame := wire.AppendRelay(nil, []uint64{2}, make([]byte, 20))
		for range 5 {
			for i := range frame {
				c.send(frame[i : i+1])
				<-time.After(hub.DefaultFrameTimeout / time.Duration(len(frame)+1))
			}
			other.expectRelay(make([]byte, 20))
		}
		c.fencePromptly()
	})
}

// TestFrameTimeout_ProgressingFrame_IsDelivered sends a body that takes many times the frame
// timeout, at 2 KiB a second.
func TestFrameTimeout_ProgressingFrame_IsDelivered(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		c, other := h.connect(t), h.connect(t)
		body := pattern(1<<20, 1)
		background(t, func() error { return other.readRelay(body) })
		frame := wire.AppendRelay(nil, []uint64{2}, body)
		for ; len(frame) > 0; frame = frame[min(len(frame), 2<<10):] {
			c.send(frame[:min(len(frame), 2<<10)])
			<-time.After(time.Second)
		}
		c.fencePromptly()
		if n := h.Stats().Delivered; n != 1 {
			t.Errorf("%d delivered", n)
		}
	})
}

// TestStallTimeout_StalledReceiver_IsExact has a receiver that reads nothing, or one byte a
// second. Its sender is blocked for exactly the stall timeout.
func TestStallTimeout_StalledReceiver_IsExact(t *testing.T) {
	for name, perSecond := range map[string]int{"nothing": 0, "a byte a second": 1} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, h *testHub) {
				sender, stalled := h.connect(t), h.connect(t).withoutReadBuffer()
				stalled.fencePromptly() // registers the client
				background(t, func() error { return stalled.readAtRate(perSecond) })
				began := time.Now()
				if err := sender.sendNumbered([]uint64{2}, 20, 64<<10); err != nil {
					t.Fatal(err)
				}
				sender.fence()
				if took := time.Since(began); took != hub.DefaultStallTimeout {
					t.Errorf("the sender was blocked for %v, want %v", took, hub.DefaultStallTimeout)
				}
				if n := h.Stats().Disconnected[hub.CloseStalled]; n != 1 {
					t.Errorf("%d counted", n)
				}
			})
		})
	}
}

// readAtRate reads perSecond bytes a second until the hub ends the connection.
func (c *clientV1) readAtRate(perSecond int) error {
	for perSecond > 0 {
		<-time.After(time.Second)
		if _, err := io.ReadFull(c, make([]byte, perSecond)); err != nil {
			return nil
		}
	}
	return nil
}

// TestStallTimeout_SlowReceiver_IsServed has a receiver that reads one message within each
// stall timeout. The sender is blocked for as long as this takes, and no message is lost.
func TestStallTimeout_SlowReceiver_IsServed(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		sender, slow := h.connect(t), h.connect(t)
		const messages, size = 30, 30_000
		slow.fencePromptly() // registers the client
		background(t, func() error { return sender.sendNumbered([]uint64{2}, messages, size) })
		for n := range messages {
			<-time.After(hub.DefaultStallTimeout * 9 / 10)
			slow.expectRelay(numberedBody(0, n, size))
		}
		slow.fence()
		sender.fence()
	})
}

// TestStallTimeout_UnreadList_IsDisconnected has a client request a long list and read
// nothing. The hub disconnects the client.
func TestStallTimeout_UnreadList_IsDisconnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startInMemory(t, hub.Config{})
		for range 300 {
			h.connect(t)
		}
		<-time.After(registerDelay + registerSlack)
		synctest.Wait()
		h.connect(t).withoutReadBuffer().send(wire.AppendListRequest(nil))
		<-time.After(hub.DefaultStallTimeout + time.Second)
		if n := h.Stats().Disconnected[hub.CloseStalled]; n != 1 {
			t.Errorf("%d clients have stalled", n)
		}
	})
}
