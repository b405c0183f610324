package hub_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestHub_GiantLengths_TakeNoMemory has 1,000 clients announce a frame of 4 GiB each.
func TestHub_GiantLengths_TakeNoMemory(t *testing.T) {
	const clients = 1000
	onAllTransportsInTurn(t, func(t *testing.T, tr testTransport) { // because of totalAlloc
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		before := totalAlloc()
		for range clients {
			c := h.connect(t)
			c.send([]byte{0xff, 0xff, 0xff, 0xff})
			c.expectEOF()
			c.Close()
		}
		h.waitDisconnected(t, hub.CloseTooLong, clients)
		// The limit is two read buffers because pools drop entries under the race detector.
		if each := (totalAlloc() - before) / clients; each > 128<<10 {
			t.Errorf("%d bytes allocated per client", each)
		}
		bystanders.waitRounds(3)
	})
}

// totalAlloc returns the number of bytes that this process has allocated in all.
func totalAlloc() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestHub_EmptyFrames_AreIgnored(t *testing.T) {
	const frames = 1_000_000
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		c := h.connectV1(t)
		block := make([]byte, 1000*wire.LengthSize)
		for range frames / 1000 {
			c.send(block)
		}
		c.fence()
		eventually(t, "counted", func() bool { return h.Stats().Ignored == frames })
		bystanders.waitRounds(3)
	})
}

// TestHub_RequestsWithoutReading_AreBounded has a client send requests without reading the
// replies. The hub stops reading, and TCP stops the client before it has written every
// request.
func TestHub_RequestsWithoutReading_AreBounded(t *testing.T) {
	const requests = 2_000_000
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{StallTimeout: 2 * time.Second})
		bystanders := h.startBystanders(t)
		c := h.connectV1(t).shrinkReadBuffer()
		n, err := c.Write(bytes.Repeat(wire.AppendIdentityRequest(nil), requests))
		if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d bytes of requests, then %v", n, err)
		}
		h.waitDisconnected(t, hub.CloseStalled, 1)
		if peak := h.Stats().PeakQueuedBytes; peak > 4<<20 {
			t.Errorf("%d bytes queued", peak)
		}
		bystanders.waitRounds(3)
	})
}

// TestHub_StalledReceiver_OthersGetEverything has a stalled receiver first, in the middle and
// last in a list of ten. The other nine get every message, and the sender goes on.
func TestHub_StalledReceiver_OthersGetEverything(t *testing.T) {
	for name, stalled := range map[string]int{"first": 0, "middle": 5, "last": 9} {
		t.Run(name, func(t *testing.T) {
			const messages = 60
			onAllTransports(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, hub.Config{StallTimeout: 3 * time.Second})
				bystanders := h.startBystandersWithin(t, h.config.StallTimeout)
				sender := h.connectV1(t)
				var receivers []*clientV1
				var ids []uint64
				for range 10 {
					receivers = append(receivers, h.connectV1(t))
					ids = append(ids, receivers[len(receivers)-1].id)
				}
				receivers[stalled].shrinkReadBuffer()
				began := time.Now()
				background(t, func() error {
					return sender.sendNumbered(ids, messages, 64<<10)
				})
				parallel(t, len(receivers), func(i int) error {
					if i == stalled {
						return nil
					}
					return receivers[i].readNumbered(sender.id, messages, 64<<10)
				})
				sender.fence()
				if took := time.Since(began); took > 5*h.config.StallTimeout {
					t.Errorf("the sender was blocked for %v, the stall timeout is %v", took, h.config.StallTimeout)
				}
				h.waitDisconnected(t, hub.CloseStalled, 1)
				bystanders.waitRounds(3)
			})
		})
	}
}

// TestHub_FullQueue_DelaysOnlyItsSenders has a receiver that reads nothing at first, and
// starts before the stall timeout. The other receiver of the same messages gets them at once,
// the sender is blocked, and no message is lost.
func TestHub_FullQueue_DelaysOnlyItsSenders(t *testing.T) {
	const messages, size = 200, 64 << 10
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{StallTimeout: time.Hour})
		bystanders := h.startBystanders(t)
		filler, sender, slow, quick := h.connectV1(t), h.connectV1(t), h.connectV1(t), h.connectV1(t)
		background(t, func() error { return filler.sendNumbered([]uint64{slow.id}, messages, size) })

		sent := 0
		for blocked := false; !blocked; sent++ {
			sender.relay([]byte("to both"), slow.id, quick.id)
			quick.expectRelay([]byte("to both"))
			sender.send(wire.AppendIdentityRequest(nil))
			blocked = !sender.hasDataWithin(200 * time.Millisecond)
			if blocked {
				bystanders.waitRounds(20)
				blocked = !sender.hasDataWithin(pollInterval)
			}
		}
		for range messages + sent { // the order of the two senders is open
			_, body := slow.mustReadFrame()
			switch {
			case bytes.Equal(body, []byte("to both")):
				sent--
			case !bytes.Equal(body, numberedBody(filler.id, slow.messagesRead, size)):
				t.Fatalf("got %d bytes %.16x, want message %d", len(body), body, slow.messagesRead)
			default:
				slow.messagesRead++
			}
		}
		if slow.messagesRead != messages || sent != 0 {
			t.Errorf("%d messages arrived from filler, %d are missing from sender", slow.messagesRead, sent)
		}
		slow.fence()
		sender.readIdentity()
		bystanders.waitRounds(3)
	})
}

// TestHub_TricklingReceiver_IsDisconnected has a receiver read one byte every 50 ms. The hub
// disconnects that receiver as it does one that reads nothing.
func TestHub_TricklingReceiver_IsDisconnected(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{StallTimeout: time.Second})
		bystanders := h.startBystanders(t)
		sender, trickling, other := h.connectV1(t), h.connectV1(t).shrinkReadBuffer(), h.connectV1(t)
		ctx := t.Context()
		background(t, func() error {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return nil // the disconnect is checked below: there can still be bytes to read
				case <-tick.C:
				}
				if _, err := trickling.Read(make([]byte, 1)); err != nil {
					return nil
				}
			}
		})
		background(t, func() error { return sender.sendNumbered([]uint64{trickling.id, other.id}, 100, 64<<10) })
		if err := other.readNumbered(sender.id, 100, 64<<10); err != nil {
			t.Fatal(err)
		}
		sender.fence()
		h.waitDisconnected(t, hub.CloseStalled, 1)
		bystanders.waitRounds(3)
	})
}

// TestHub_StalledReceiversVanish_SenderContinues blocks a sender at 100 stalled receivers. The
// sender goes on when they disconnect, long before the stall timeout.
func TestHub_StalledReceiversVanish_SenderContinues(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{StallTimeout: time.Hour})
		bystanders := h.startBystanders(t)
		sender := h.connectV1(t)
		var stalled []*clientV1
		var ids []uint64
		for range 100 {
			stalled = append(stalled, h.connectV1(t).shrinkReadBuffer())
			ids = append(ids, stalled[len(stalled)-1].id)
		}
		const messages, size = 200, 64 << 10
		background(t, func() error { return sender.sendNumbered(ids, messages, size) })
		eventually(t, "messages are queued", func() bool { return h.Stats().QueuedBytes > 4*size })
		bystanders.waitRounds(10)
		for i, c := range stalled {
			if i%2 == 0 {
				c.reset()
			} else {
				c.Close()
			}
		}
		eventually(t, "the sender goes on", func() bool {
			stats := h.Stats()
			return stats.Dropped[hub.DropGone] > 0 && stats.Relays >= messages && stats.Disconnected[hub.CloseStalled] == 0
		})
		bystanders.waitRounds(3)
	})
}

// TestHub_DisconnectsMidFrame_LoseNothing ends many connections in each part of a frame, by
// EOF and by a reset. A stream between two other clients must not lose a message.
func TestHub_DisconnectsMidFrame_LoseNothing(t *testing.T) {
	const messages, size, times = 500, 5000, 10
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		sender, receiver := h.connectV1(t), h.connectV1(t)
		background(t, func() error { return sender.sendNumbered([]uint64{receiver.id}, messages, size) })
		parts := partialFrames(receiver.id)
		for range times {
			for _, part := range parts {
				for _, end := range []func(*clientV1){func(c *clientV1) { c.Close() }, (*clientV1).reset} {
					c := h.connect(t)
					c.send(part)
					end(c)
				}
			}
		}
		if err := receiver.readNumbered(sender.id, messages, size); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all are disconnected", func() bool { return h.Stats().Clients == 4 })
		receiver.fence()
		bystanders.waitRounds(3)
	})
}

// TestHub_Garbage_ClosesConn sends bytes to the hub that are not its protocol.
func TestHub_Garbage_ClosesConn(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 1<<20)
	_, _ = random.Read(noise) // never fails
	garbage := map[string]func(net.Conn){
		"random bytes": func(nc net.Conn) { _, _ = nc.Write(noise) },
		"http":         func(nc net.Conn) { _, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nHost: hub\r\n\r\n") },
		"tls":          func(nc net.Conn) { _ = tls.Client(nc, &tls.Config{ServerName: "hub"}).Handshake() },
		"ssh":          func(nc net.Conn) { _, _ = io.WriteString(nc, "SSH-2.0-OpenSSH_9.9\r\n") },
		"zeros":        func(nc net.Conn) { _, _ = nc.Write(make([]byte, 1<<20)) },
	}
	for name, send := range garbage {
		t.Run(name, func(t *testing.T) {
			onAllTransports(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, hub.Config{FrameTimeout: 300 * time.Millisecond})
				bystanders := h.startBystanders(t)
				c := h.connect(t)
				send(c)
				if name == "zeros" { // 1 MiB of empty frames
					c.fence()
				} else if _, err := c.readToEnd(); err != nil {
					t.Errorf("the hub still reads: %v", err)
				}
				bystanders.waitRounds(3)
			})
		})
	}
}

// TestHub_Churn_ListsStayConsistent connects and disconnects thousands of clients while others
// request lists and relay messages. The lists stay ascending, and always contain the clients
// that stay.
func TestHub_Churn_ListsStayConsistent(t *testing.T) {
	const churners = 8
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		times := 1250
		if tr.web {
			times /= 5 // of all clients only the bystanders are WebSockets
		}
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		lister, sender, receiver := h.connectV1(t), h.connectV1(t), h.connectV1(t)
		staying := []uint64{bystanders.sender.ID(), bystanders.echoer.ID(), sender.id, receiver.id}
		stop := make(chan struct{})
		background(t, func() error { return lister.checkListsUntil(staying, stop) })
		background(t, func() error { return sender.sendNumbered([]uint64{receiver.id}, 2000, 2000) })
		background(t, func() error { return receiver.readNumbered(sender.id, 2000, 2000) })
		parallel(t, churners, func(i int) error {
			defer func() {
				if i == 0 {
					close(stop)
				}
			}()
			return h.churn(i, times)
		})
		wantConnected := uint64(churners*(times+times/awaitReplyEvery) + 5)
		eventually(t, "all have connected", func() bool { return h.Stats().Connected == wantConnected })
		eventually(t, "all are disconnected", func() bool { return h.Stats().Clients == 5 })
		bystanders.waitRounds(3)
	})
}

// awaitReplyEvery is the number of clients that reset their connection before the next client
// waits for a reply. The kernel never hands over a connection that is reset while its accept
// queue is full.
const awaitReplyEvery = 25

// churn connects times clients, one after the other, and resets each connection: after sending
// nothing, requests, a relay to clients that may have left, or a partial length.
func (h *testHub) churn(seed, times int) error {
	for i := range times {
		if i%awaitReplyEvery == 0 {
			if err := h.requestIdentityOnce(); err != nil {
				return err
			}
		}
		nc, err := h.dial()
		if err != nil {
			return err
		}
		var payload []byte
		switch (seed + i) % 4 {
		case 1:
			payload = wire.AppendListRequest(wire.AppendIdentityRequest(nil))
		case 2:
			payload = wire.AppendRelay(nil, []uint64{uint64(10 + i), uint64(11 + i), uint64(12 + i)}, make([]byte, i))
		case 3:
			payload = []byte{0, 0, 1}
		}
		_, err = nc.Write(payload)
		resetConn(nc) // leaves no state behind in the kernel
		if err != nil {
			return err
		}
	}
	return nil
}

// requestIdentityOnce connects, requests the id, and disconnects after the reply.
func (h *testHub) requestIdentityOnce() error {
	nc, err := h.dial()
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := nc.Write(wire.AppendIdentityRequest(nil)); err != nil {
		return err
	}
	_, err = io.ReadFull(nc, make([]byte, wire.IdentityLen))
	return err
}

// checkListsUntil requests lists and checks them until stop is closed.
func (c *clientV1) checkListsUntil(staying []uint64, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if _, err := c.Write(wire.AppendListRequest(nil)); err != nil {
			return err
		}
		kind, payload, err := c.readFrame()
		if err != nil {
			return err
		}
		ids, err := wire.ParseList(payload)
		if err != nil || kind != wire.TypeList {
			return fmt.Errorf("type %d, %w", kind, err)
		}
		if err := checkList(ids.AppendTo(nil), c.id, staying); err != nil {
			return err
		}
	}
}

func checkList(list []uint64, self uint64, staying []uint64) error {
	for i := 1; i < len(list); i++ {
		if list[i-1] >= list[i] {
			return fmt.Errorf("list not ascending: %d, %d", list[i-1], list[i])
		}
	}
	if slices.Contains(list, self) {
		return fmt.Errorf("the list contains the requesting client %d", self)
	}
	for _, id := range staying {
		if !slices.Contains(list, id) {
			return fmt.Errorf("the list lacks client %d, which is connected", id)
		}
	}
	return nil
}

// TestHub_AnnouncedBodies_DelayNoOthers has 1,000 clients that each announce a body of 1 MiB,
// send the first bytes, and then send nothing. The hub has memory for three such bodies.
func TestHub_AnnouncedBodies_DelayNoOthers(t *testing.T) {
	for _, prefixLen := range []int{wire.HeaderSize, 1000, 4000, 20_000, 60_000} {
		t.Run(fmt.Sprint(prefixLen), func(t *testing.T) {
			run := onTransports
			if prefixLen > 4000 {
				run = overTCP.test // only the kernel keeps what the hub has no memory for
			}
			run(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, hub.Config{MaxQueuedBytes: 5 << 20})
				bystanders := h.startBystanders(t)
				frame := wire.AppendRelay(nil, []uint64{1}, make([]byte, wire.DefaultMaxBody))
				for range 1000 {
					h.connect(t).send(frame[:prefixLen])
				}
				eventually(t, "all connected", func() bool { return h.Stats().Clients == 1002 })
				a, b := h.connectV1(t), h.connectV1(t)
				body := pattern(wire.DefaultMaxBody, 3)
				a.relay(body, b.id)
				if err := b.SetReadDeadline(time.Now().Add(2 * maxRoundTrip)); err != nil {
					t.Fatal(err)
				}
				b.expectRelay(body)
				bystanders.waitRounds(10)
				if n := h.Stats().Clients; n != 1004 {
					t.Errorf("%d clients, want all 1004", n)
				}
			})
		})
	}
}

// TestHub_UnknownReceivers_AreCounted sends 1,000 relays to the maximum number of receivers,
// none of which exists.
func TestHub_UnknownReceivers_AreCounted(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		bystanders := h.startBystanders(t)
		c := h.connectV1(t)
		ids := make([]uint64, wire.MaxReceivers)
		for i := range ids {
			ids[i] = uint64(1_000_000 + i)
		}
		frame := wire.AppendRelay(nil, ids, []byte("x"))
		c.send(bytes.Repeat(frame, 1000))
		c.fence()
		eventually(t, "counted", func() bool { return h.Stats().Dropped[hub.DropUnknown] == 1000*wire.MaxReceivers })
		bystanders.waitRounds(3)
	})
}

// TestHub_LargeNonRelayFrames_ReleaseMemory has clients send identity requests with large
// payloads, which the hub ignores. Together they use all memory. After they disconnect, the
// hub still replies to another client.
func TestHub_LargeNonRelayFrames_ReleaseMemory(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.startOpaque(t, hub.Config{MaxBody: 200 << 10, MaxQueuedBytes: 1 << 20, StallTimeout: time.Second})
		frame := make([]byte, 120<<10)
		binary.BigEndian.PutUint32(frame, uint32(len(frame)-wire.LengthSize))
		frame[wire.LengthSize] = byte(wire.TypeIdentity)
		var greedy []*clientV1
		for range 12 {
			c := h.connect(t)
			c.send(frame[:len(frame)-1])
			greedy = append(greedy, c)
		}
		eventually(t, "memory is used up", func() bool { return h.Stats().QueuedBytes > 700<<10 })
		for _, c := range greedy {
			_, _ = c.Write(frame[len(frame)-1:]) // the hub may have disconnected some before
			c.reset()
		}
		eventually(t, "all are disconnected and the memory is free", func() bool { s := h.Stats(); return s.Clients == 0 && s.QueuedBytes == 0 })
		h.connectV1(t).fence()
	})
}
