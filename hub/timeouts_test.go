package hub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// The tests of this file run in virtual time. The hub waits exactly as long as its timeouts
// say, and these are mostly the defaults.

func TestConn_IdleBetweenFrames_NeverTimesOut(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
		c := connectPipe(t, ln)
		c.fencePromptly()
		for range 3 {
			<-time.After(1000 * time.Hour)
			c.fencePromptly()
		}
		if n := h.Stats().Clients; n != 1 {
			t.Errorf("%d clients, want the idle one", n)
		}
	})
}

// TestFrameTimeout_PartialFrame_IsExact sends a frame up to each of its parts. The hub closes
// the connection exactly after the frame timeout.
func TestFrameTimeout_PartialFrame_IsExact(t *testing.T) {
	for part, partial := range partialFrames(2) {
		t.Run(part, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
				c, other := connectPipe(t, ln), connectPipe(t, ln)
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
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
		c, other := connectPipe(t, ln), connectPipe(t, ln)
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
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
		c, other := connectPipe(t, ln), connectPipe(t, ln)
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
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
		c, other := connectPipe(t, ln), connectPipe(t, ln)
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
			inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
				sender, stalled := connectPipe(t, ln), connectPipe(t, ln)
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
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
		sender, slow := connectPipe(t, ln), connectPipe(t, ln)
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

// TestReplyQueue_UnreadReplies_HoldLittleMemory has many clients that send requests and read
// no reply. Little memory is used for them, a client with a large message gets memory at once,
// and the hub disconnects the clients that do not read.
func TestReplyQueue_UnreadReplies_HoldLittleMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20}, ln)
		const nonReaders = 200
		connectNonReaders(t, ln, nonReaders)
		honest := connectPipe(t, ln)
		<-time.After(time.Second)
		if n := h.Stats().QueuedBytes; n > 100_000 {
			t.Errorf("%d bytes are queued", n)
		}
		began := time.Now()
		honest.send(wire.AppendRelay(nil, []uint64{999}, make([]byte, wire.DefaultMaxBody)))
		honest.fence()
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("a message took %v", took)
		}
		<-time.After(hub.DefaultStallTimeout + time.Second)
		if n := h.Stats().Disconnected[hub.CloseStalled]; n != nonReaders {
			t.Errorf("%d of %d were disconnected", n, nonReaders)
		}
		honest.fence()
	})
}

// TestReplyQueue_LateReaders_GetAllReplies has clients that read their replies late and
// slowly, but within the stall timeout. They get every reply.
func TestReplyQueue_LateReaders_GetAllReplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		startOn(t, hub.Config{MaxQueuedBytes: 5 << 20}, ln)
		for _, c := range connectNonReaders(t, ln, 10) {
			background(t, func() error {
				reply := make([]byte, wire.IdentityLen)
				for n := range requestsPerNonReader {
					if n%(requestsPerNonReader/5) == 0 {
						<-time.After(hub.DefaultStallTimeout - time.Second)
					}
					if _, err := io.ReadFull(c, reply); err != nil {
						return fmt.Errorf("after %d replies: %w", n, err)
					}
				}
				return nil
			})
		}
	})
}

// TestReplyQueue_List_IsBuiltOnceMemoryIsFree has a client request the list and wait for
// memory while other clients leave. The hub must build the list after the wait. Otherwise each
// waiting client would hold its own version of the list: with thousands of clients that
// connect and leave, these use all memory of the machine.
func TestReplyQueue_List_IsBuiltOnceMemoryIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20}, ln)
		var clients []*clientV1
		for range 1000 {
			clients = append(clients, connectPipe(t, ln).requestID())
		}
		fillQueuesOfNonReaders(t, ln, 20, 25)
		<-time.After(time.Second)
		lister := connectPipe(t, ln).requestID()
		lister.send(wire.AppendListRequest(nil))
		<-time.After(time.Second)
		for _, c := range clients[:400] {
			c.Close()
		}
		<-time.After(time.Second)
		want := h.Stats().Clients - 1
		kind, payload := lister.mustReadFrame()
		if ids, err := wire.ParseList(payload); kind != wire.TypeList || err != nil || ids.Len() > want {
			t.Errorf("type %d, %d ids, and %v; want a list of at most %d ids", kind, ids.Len(), err, want)
		}
		<-time.After(time.Second) // the hub counts the disconnects after their memory is free
		if h.Stats().Disconnected[hub.CloseSlow] == 0 {
			t.Error("no client was disconnected, and the list did not wait")
		}
	})
}

// TestReplyQueue_FewRequests_DoNotBlock has a client that reads nothing, sends three requests
// and then relays. The relay is not delayed, and the client is disconnected only after a
// fourth request.
func TestReplyQueue_FewRequests_DoNotBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		h := startOn(t, hub.Config{}, ln)
		busy, from, to := connectPipe(t, ln).requestID(), connectPipe(t, ln), connectPipe(t, ln).requestID()
		for range 20 {
			from.send(wire.AppendRelay(nil, []uint64{busy.id}, make([]byte, 20_000)))
		}
		for range 3 {
			busy.send(wire.AppendIdentityRequest(nil))
		}
		began := time.Now()
		busy.relay([]byte("first"), to.id)
		to.expectRelay([]byte("first"))
		if took := time.Since(began); took != 0 {
			t.Errorf("a message took %v", took)
		}
		<-time.After(3 * hub.DefaultStallTimeout)
		if n := h.Stats().Clients; n != 3 {
			t.Errorf("%d clients are left", n)
		}
		busy.send(wire.AppendIdentityRequest(nil)) // one more than the hub allows
		<-time.After(hub.DefaultStallTimeout + time.Second)
		if n := h.Stats().Disconnected[hub.CloseStalled]; n != 1 {
			t.Errorf("%d clients have stalled", n)
		}
	})
}

// TestStallTimeout_UnreadList_IsDisconnected has a client request a long list and read
// nothing. The hub disconnects the client.
func TestStallTimeout_UnreadList_IsDisconnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		h := startOn(t, hub.Config{}, ln)
		for range 300 {
			connectPipe(t, ln)
		}
		<-time.After(registerDelay + registerSlack)
		synctest.Wait()
		connectPipe(t, ln).send(wire.AppendListRequest(nil))
		<-time.After(hub.DefaultStallTimeout + time.Second)
		if n := h.Stats().Disconnected[hub.CloseStalled]; n != 1 {
			t.Errorf("%d clients have stalled", n)
		}
	})
}

// TestReplyQueue_BusyReceiver_GetsItsList has a client request the list while others send to
// it all the time, such that its queue is never empty, and while memory is always short. The
// list arrives within 10 s.
func TestReplyQueue_BusyReceiver_GetsItsList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		h := startOn(t, hub.Config{MaxQueuedBytes: 1 << 20, MaxBody: 200_000, OutboxBytes: 64 << 10}, ln)
		for range 450 {
			connectPipe(t, ln)
		}
		busy := connectPipe(t, ln)
		busy.fencePromptly()
		const id = 451
		for i := range 14 { // pairs that keep memory short, slowly
			sender, receiver := connectPipe(t, ln), connectPipe(t, ln)
			receiver.fencePromptly()
			sendRepeatedly(t, sender, wire.AppendRelay(nil, []uint64{uint64(id + 2 + 2*i)}, make([]byte, 100_000)))
			readSlowly(t, receiver, 100_000)
		}
		for range 100 {
			sendRepeatedly(t, connectPipe(t, ln), wire.AppendRelay(nil, []uint64{id}, make([]byte, 700)))
		}
		listed := make(chan time.Time, 1)
		background(t, func() error {
			for bytesRead := 0; ; {
				kind, payload, err := busy.readFrame()
				if err != nil {
					return nil
				}
				if kind == wire.TypeList {
					listed <- time.Now()
				}
				if bytesRead += len(payload); bytesRead > 10_000 { // 100 kB a second
					bytesRead = 0
					<-time.After(100 * time.Millisecond)
				}
			}
		})
		t.Cleanup(func() { busy.Close() })
		<-time.After(15 * time.Second)
		if s := h.Stats(); s.Clients != 450+1+28+100 {
			t.Fatalf("%d clients are left: %v", s.Clients, s.Disconnected)
		}
		began := time.Now()
		busy.send(wire.AppendListRequest(nil))
		select {
		case at := <-listed:
			t.Logf("the list came after %v", at.Sub(began))
		case <-time.After(10 * time.Second):
			t.Error("no list in 10 s")
		}
	})
}

// TestShutdown_DoesNotWaitForNonReaders shuts down a hub with clients that do not read.
// Shutdown takes all the time of its context for their queued replies, and an idle client sees
// EOF at once.
func TestShutdown_DoesNotWaitForNonReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20}, ln)
		connectNonReaders(t, ln, 64)
		idle := connectPipe(t, ln)
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
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
		silent, partial, idle := connectPipe(t, ln), connectPipe(t, ln), connectPipe(t, ln)
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

// TestServe_AcceptErrors_BackOff has a listener whose Accept fails twelve times. The hub
// retries with growing delays.
func TestServe_AcceptErrors_BackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		began := time.Now()
		h := startOn(t, hub.Config{}, &failingListener{Listener: ln, failures: 12})
		c := connectPipe(t, ln)
		// The delays are 5 + 10 + … + 640 ms, and then four times 1 s.
		if took, want := time.Since(began), 1275*time.Millisecond+4*time.Second; took != want {
			t.Errorf("accepted after %v, want %v", took, want)
		}
		c.fencePromptly()
		if n := h.Stats().AcceptErrors; n != 12 {
			t.Errorf("%d accept errors counted", n)
		}
	})
}

// failingListener is a listener whose Accept fails the first times with errNoFiles.
type failingListener struct {
	net.Listener
	failures int
}

// Accept fails while failures is positive.
func (l *failingListener) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: errNoFiles}
	}
	return l.Listener.Accept()
}
