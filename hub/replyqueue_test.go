package hub_test

import (
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestReplyQueue_UnreadReplies_HoldLittleMemory has many clients that send requests and read
// no reply. Little memory is used for them, a client with a large message gets memory at once,
// and the hub disconnects the clients that do not read.
func TestReplyQueue_UnreadReplies_HoldLittleMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startInMemory(t, hub.Config{MaxQueuedBytes: 5 << 20})
		const nonReaders = 200
		connectNonReaders(t, h, nonReaders)
		honest := h.connect(t)
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
		h := startInMemory(t, hub.Config{MaxQueuedBytes: 5 << 20})
		for _, c := range connectNonReaders(t, h, 10) {
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
		h := startInMemory(t, hub.Config{MaxQueuedBytes: 5 << 20})
		var clients []*clientV1
		for range 1000 {
			clients = append(clients, h.connect(t).requestID())
		}
		fillQueuesOfNonReaders(t, h, 20, 25)
		<-time.After(time.Second)
		lister := h.connect(t).requestID()
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
		h := startInMemory(t, hub.Config{})
		busy, from, to := h.connect(t).requestID(), h.connect(t), h.connect(t).requestID()
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

// TestReplyQueue_BusyReceiver_GetsItsList has a client request the list while others send to
// it all the time, such that its queue is never empty, and while memory is always short. The
// list arrives within 10 s.
func TestReplyQueue_BusyReceiver_GetsItsList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startInMemory(t, hub.Config{MaxQueuedBytes: 1 << 20, MaxBody: 200_000, OutboxBytes: 64 << 10})
		for range 450 {
			h.connect(t)
		}
		busy := h.connect(t)
		busy.fencePromptly()
		const id = 451
		for i := range 14 { // pairs that keep memory short, slowly
			sender, receiver := h.connect(t), h.connect(t)
			receiver.fencePromptly()
			sendRepeatedly(t, sender, wire.AppendRelay(nil, []uint64{uint64(id + 2 + 2*i)}, make([]byte, 100_000)))
			readSlowly(t, receiver, 100_000)
		}
		for range 100 {
			sendRepeatedly(t, h.connect(t), wire.AppendRelay(nil, []uint64{id}, make([]byte, 700)))
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

// TestReplyQueue_FullWindow_AcksAreRead sends PINGs while the send window of the client is
// full. The hub must read on, because the ACK comes after the PINGs.
func TestReplyQueue_FullWindow_AcksAreRead(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{OutboxBytes: 4 << 10, Window: 2 << 20})
		sender, receiver := h.connectV2(t), h.connectV2(t)
		receiver.withholdsAcks = true
		body := pattern(1<<20, 1)
		background(t, func() error {
			var frames []byte
			for seq := uint64(1); seq <= 4; seq++ {
				frames = wire.AppendSend(frames, seq, 0, 0, []uint64{receiver.id}, body)
			}
			_, err := sender.Write(frames)
			return err
		})
		receiver.expectDeliver(sender.id, 1, body)
		receiver.expectDeliver(sender.id, 2, body) // the window is full
		const pings = 10
		for n := range uint64(pings) {
			receiver.send(wire.AppendPing(nil, n))
			// The frames are the HELLOs, the SENDs, and the PINGs so far.
			eventually(t, "the PING is read", func() bool { return h.Stats().MessagesIn >= 2+2+n })
		}
		receiver.send(wire.AppendAck(nil, receiver.received))
		messages, pongs := uint64(2), 0
		for messages < 4 || pongs < pings {
			kind, payload := receiver.nextFrame()
			switch kind {
			case wire.TypePong:
				pongs++
			case wire.TypeDeliver:
				messages++
				if d, err := wire.ParseDeliver(payload); err != nil || d.Seq != messages {
					t.Fatalf("message %d, want %d: %v", d.Seq, messages, err)
				}
				receiver.send(wire.AppendAck(nil, receiver.received))
			default:
				t.Fatalf("a frame of type %#x", kind)
			}
		}
	})
}
