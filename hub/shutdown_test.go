package hub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// promptTimeout is the time limit for something that has nothing to wait for. It is this long
// because the machine can be busy with other work.
const promptTimeout = 5 * time.Second

// TestShutdown_SilentClients_IsFast has silent clients in each state: no byte sent, a part of
// a frame sent, idle between frames.
func TestShutdown_SilentClients_IsFast(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{MaxQueuedBytes: 96 << 20}) // memory for every partial frame
		times := tr.count(20)
		for range times {
			h.connect(t)
			h.connectV1(t)
			for _, part := range partialFrames(1) {
				h.connect(t).send(part)
			}
		}
		eventually(t, "all connected", func() bool { return h.Stats().Clients == times*(2+len(partialFrames(1))) })
		took, err := h.shutdownTimed(t, testTimeout)
		if err != nil || took > promptTimeout {
			t.Errorf("Shutdown took %v: %v", took, err)
		}
		if n := h.Stats().Disconnected[hub.CloseShutdown]; n != h.Stats().Connected {
			t.Errorf("%d of %d disconnected by the shutdown", n, h.Stats().Connected)
		}
	})
}

// TestShutdown_FullQueue_WaitsUntilDeadline has a receiver that reads nothing, and a sender
// that is blocked by it.
func TestShutdown_FullQueue_WaitsUntilDeadline(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{StallTimeout: time.Hour})
		sender, stalled := h.connectV1(t), h.connectV1(t)
		sender.fillQueue(h, stalled.id)
		const given = 500 * time.Millisecond
		took, err := h.shutdownTimed(t, given)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown returned %v, want %v", err, context.DeadlineExceeded)
		}
		if took < given || took > given+promptTimeout {
			t.Errorf("Shutdown took %v, was given %v", took, given)
		}
		if h.Stats().Dropped[hub.DropGone] == 0 {
			t.Error("dropped messages are not counted")
		}
	})
}

// TestShutdown_FullQueue_WaitsAtMostStallTimeout gives Shutdown a long deadline. The stalled
// receiver delays it only for the stall timeout.
func TestShutdown_FullQueue_WaitsAtMostStallTimeout(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{StallTimeout: time.Second})
		sender, stalled, quick := h.connectV1(t), h.connectV1(t), h.connectV1(t)
		sender.relay(make([]byte, 16<<10), quick.id)
		sender.fillQueue(h, stalled.id)
		took, _ := h.shutdownTimed(t, testTimeout)
		if took > 3*h.config.StallTimeout+promptTimeout {
			t.Errorf("Shutdown took %v", took)
		}
		quick.expectRelay(make([]byte, 16<<10))
	})
}

// TestShutdown_Queued_IsDelivered has receivers that start to read during Shutdown.
func TestShutdown_Queued_IsDelivered(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		// The messages fit into a queue and do not block the sender.
		const receivers, messages, size = 10, 12, 16 << 10
		h := tr.start(t, hub.Config{})
		sender := h.connectV1(t)
		var clients []*clientV1
		var ids []uint64
		for range receivers {
			clients = append(clients, h.connectV1(t))
			ids = append(ids, clients[len(clients)-1].id)
		}
		if err := sender.sendNumbered(ids, messages, size); err != nil {
			t.Fatal(err)
		}
		sender.fence()
		background(t, func() error {
			_, err := h.shutdownTimed(t, testTimeout)
			return err
		})
		parallel(t, receivers, func(i int) error {
			err := clients[i].readNumbered(sender.id, messages, size)
			if n, readErr := clients[i].readToEnd(); n != 0 || readErr != nil {
				err = errors.Join(err, readErr, errors.New("received more than was sent"))
			}
			return err
		})
	})
}

func TestShutdown_TwiceAndConcurrently(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		for range 10 {
			h.connectV1(t)
		}
		bystanders.waitRounds(1)
		bystanders.end()
		parallel(t, 8, func(int) error {
			_, err := h.shutdownTimed(t, testTimeout)
			return err
		})
		if took, err := h.shutdownTimed(t, testTimeout); err != nil || took > promptTimeout {
			t.Errorf("the last Shutdown: %v, after %v", err, took)
		}
	})
}

// TestShutdown_Immediate_WhileClientsConnect shuts down with a context that is done, while
// clients connect. Each client must be disconnected and unregistered.
func TestShutdown_Immediate_WhileClientsConnect(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for n := range 300 {
		h := startInMemory(t, hub.Config{})
		background(t, func() error {
			for {
				nc, err := h.dial()
				if err != nil {
					return nil
				}
				defer nc.Close()
			}
		})
		for deadline := time.Now().Add(testTimeout); h.Stats().Connected < uint64(n%20) && time.Now().Before(deadline); {
			runtime.Gosched() // varies the moment of the shutdown
		}
		if err := h.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		h.checkEnd(t)
	}
}

// TestShutdown_WhileClientsWaitForMemory has silent clients that hold all memory with parts of
// frames, and others that wait for memory.
func TestShutdown_WhileClientsWaitForMemory(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.startOpaque(t, hub.Config{MaxQueuedBytes: 5 << 20, StallTimeout: time.Hour})
		frame := wire.AppendRelay(nil, []uint64{1}, make([]byte, wire.DefaultMaxBody))
		for range 12 {
			h.connect(t).send(tr.partOfLargeFrame(frame))
		}
		eventually(t, "memory is used up", func() bool { return h.Stats().QueuedBytes > 7<<19 })
		if took, err := h.shutdownTimed(t, 2*promptTimeout); err != nil || took > promptTimeout {
			t.Errorf("Shutdown took %v: %v", took, err)
		}
	})
}

// TestShutdown_WhileStalledReceiverHoldsMemory has a sender that waits for the memory of its
// messages to a receiver that reads nothing and whose queue is not full.
func TestShutdown_WhileStalledReceiverHoldsMemory(t *testing.T) {
	h := start(t, hub.Config{MaxQueuedBytes: 5 << 20, OutboxBytes: 16 << 20, StallTimeout: time.Second})
	sender, stalled := h.connectV1(t), h.connectV1(t)
	sender.fillQueue(h, stalled.id)
	if took, _ := h.shutdownTimed(t, 4*promptTimeout); took > 5*h.config.StallTimeout+promptTimeout {
		t.Errorf("Shutdown took %v", took)
	}
}

func TestShutdown_UnderLoad(t *testing.T) {
	test := func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		const clients = 20
		var conns []*client.Client
		var ids []uint64
		for range clients {
			conns = append(conns, h.dialClient(t))
			ids = append(ids, conns[len(conns)-1].ID())
		}
		ctx := t.Context()
		for _, c := range conns {
			background(t, func() error {
				for c.Send(ctx, ids, make([]byte, 1000)) == nil { // ends with Shutdown
				}
				return nil
			})
			background(t, func() error {
				for _, err := range c.Messages(ctx) {
					if err != nil {
						break
					}
				}
				return nil
			})
		}
		eventually(t, "under load", func() bool { return h.Stats().Delivered > 10_000 })
		if took, err := h.shutdownTimed(t, testTimeout); err != nil || took > 2*promptTimeout {
			t.Errorf("Shutdown took %v: %v", took, err)
		}
	}
	overTCP.test(t, test)
	inMemoryRealTime.test(t, test)
}

// TestShutdown_Client_SeesEOF checks that a client that has read its reply sees EOF at
// Shutdown, not a reset.
func TestShutdown_Client_SeesEOF(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		c := h.connectV1(t)
		c.send(wire.AppendIdentityRequest(nil))
		c.readIdentity()
		background(t, func() error {
			_, err := h.shutdownTimed(t, testTimeout)
			return err
		})
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%v, want EOF", err)
		}
	})
}

// TestShutdown_DoesNotWaitForNonReaders shuts down a hub with clients that do not read.
// Shutdown takes all the time of its context for their queued replies, and an idle client sees
// EOF at once.
func TestShutdown_DoesNotWaitForNonReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startInMemory(t, hub.Config{MaxQueuedBytes: 5 << 20})
		connectNonReaders(t, h, 64)
		idle := h.connect(t)
		idle.fencePromptly()
		<-time.After(time.Second)
		began := time.Now()
		background(t, func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("Shutdown: %w, although replies are left", err)
			}
			return nil
		})
		if _, err := idle.Read(make([]byte, 1)); err != io.EOF || time.Since(began) > time.Second {
			t.Errorf("%v after %v, want EOF at once", err, time.Since(began))
		}
	})
}

// TestShutdown_DoesNotWaitForSilentClients shuts down a hub with a client that never sent a
// byte, one in the middle of a frame, and an idle one.
func TestShutdown_DoesNotWaitForSilentClients(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		silent, partial, idle := h.connect(t), h.connect(t), h.connect(t)
		idle.fencePromptly()
		partial.send([]byte{0, 0})
		began := time.Now()
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("Shutdown took %v", took)
		}
		for _, c := range []*clientV1{silent, partial, idle} {
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%v, want EOF", err)
			}
		}
	})
}

func TestShutdown_GoAway_AsksToReconnect(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		receiver, sender := h.connectV2(t), h.connectV2(t)
		seq := sender.sendMessage([]byte("last message"), 0, 0, receiver.id)
		sender.awaitPong()
		background(t, func() error { return h.Shutdown(context.WithoutCancel(t.Context())) })
		receiver.expectDeliver(sender.id, seq, []byte("last message"))
		if away := receiver.expectGoAway(wire.GoAwayShutdown); !away.Reconnect {
			t.Error("GOAWAY at shutdown does not ask to reconnect")
		}
		sender.expectGoAway(wire.GoAwayShutdown)
	})
}
