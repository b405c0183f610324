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

// TestThousandGiantLengthsTakeNoMemory announces 4 TiB in all.
func TestThousandGiantLengthsTakeNoMemory(t *testing.T) {
	const clients = 1000
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	before := allocated()
	for range clients {
		p := h.silent(t)
		p.send([]byte{0xff, 0xff, 0xff, 0xff})
		p.closed()
		p.Close()
	}
	h.disconnected(t, hub.ReasonTooLong, clients)
	if each := (allocated() - before) / clients; each > 128<<10 { // two read buffers: the detector of races has pools forget some
		t.Errorf("%d bytes allocated for each of them", each)
	}
	bystanders.pass(3)
}

// allocated returns how many bytes were ever allocated.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestMillionEmptyFramesAreIgnored(t *testing.T) {
	const frames = 1_000_000
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	p := h.peer(t)
	block := make([]byte, 1000*wire.LengthSize)
	for range frames / 1000 {
		p.send(block)
	}
	p.fence()
	eventually(t, "counted", func() bool { return h.Stats().Ignored == frames })
	bystanders.pass(3)
}

// TestTwoMillionRequestsWithoutReading lets TCP tell the client that it should
// read: it cannot even say them all.
func TestTwoMillionRequestsWithoutReading(t *testing.T) {
	const requests = 2_000_000
	h := start(t, hub.Config{StallTimeout: 2 * time.Second})
	bystanders := h.bystand(t)
	p := h.peer(t).small()
	n, err := p.Write(bytes.Repeat(wire.AppendIdentityRequest(nil), requests))
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wrote %d bytes of answers to nobody, then %v", n, err)
	}
	h.disconnected(t, hub.ReasonStalled, 1)
	if peak := h.Stats().PeakQueuedBytes; peak > 4<<20 {
		t.Errorf("%d bytes queued", peak)
	}
	bystanders.pass(3)
}

// TestReceiverThatNeverReads stands first, in the middle and last in a list of
// ten. The other nine get everything, and the sender goes on.
func TestReceiverThatNeverReads(t *testing.T) {
	for name, place := range map[string]int{"first": 0, "middle": 5, "last": 9} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const messages = 60
			h := start(t, hub.Config{StallTimeout: 3 * time.Second})
			bystanders := h.bystandWithin(t, h.config.StallTimeout)
			sender := h.peer(t)
			var receivers []*peer
			var ids []uint64
			for range 10 {
				receivers = append(receivers, h.peer(t))
				ids = append(ids, receivers[len(receivers)-1].id)
			}
			receivers[place].small()
			began := time.Now()
			background(t, func() error {
				return sender.stream(ids, messages, 64<<10)
			})
			parallel(t, len(receivers), func(i int) error {
				if i == place {
					return nil
				}
				return receivers[i].follow(sender.id, messages, 64<<10)
			})
			sender.fence()
			if took := time.Since(began); took > 5*h.config.StallTimeout {
				t.Errorf("the sender went on after %v, the stall timeout is %v", took, h.config.StallTimeout)
			}
			h.disconnected(t, hub.ReasonStalled, 1)
			bystanders.pass(3)
		})
	}
}

// stream sends numbered messages one behind the other.
func (p *peer) stream(to []uint64, n, size int) error {
	for i := range n {
		if _, err := p.Write(wire.AppendRelay(nil, to, numbered(p.id, i, size))); err != nil {
			return fmt.Errorf("client %d: message %d: %w", p.id, i, err)
		}
	}
	return nil
}

// follow reads numbered messages of one sender.
func (p *peer) follow(sender uint64, n, size int) error {
	for i := range n {
		if err := p.expect(numbered(sender, i, size)); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
	}
	return nil
}

// TestFullQueueDelaysOnlyItsSenders has a receiver that takes nothing for a while,
// but soon enough: the other receiver of the same messages has them at once, the
// sender waits, and in the end nothing is lost.
func TestFullQueueDelaysOnlyItsSenders(t *testing.T) {
	const messages, size = 200, 64 << 10
	h := start(t, hub.Config{StallTimeout: time.Hour})
	bystanders := h.bystand(t)
	filler, sender, slow, quick := h.peer(t), h.peer(t), h.peer(t), h.peer(t)
	background(t, func() error { return filler.stream([]uint64{slow.id}, messages, size) })

	sent := 0
	for waits := false; !waits; sent++ {
		sender.relay([]byte("to both"), slow.id, quick.id)
		quick.hears([]byte("to both"))
		sender.send(wire.AppendIdentityRequest(nil))
		waits = !sender.answersWithin(200 * time.Millisecond)
		if waits {
			bystanders.pass(20)
			waits = !sender.answersWithin(glance)
		}
	}
	for range messages + sent { // in whatever order the two came
		_, body := slow.frame()
		switch {
		case bytes.Equal(body, []byte("to both")):
			sent--
		case !bytes.Equal(body, numbered(filler.id, slow.heard, size)):
			t.Fatalf("got %d bytes %.16x, want message %d", len(body), body, slow.heard)
		default:
			slow.heard++
		}
	}
	if slow.heard != messages || sent != 0 {
		t.Errorf("%d messages came of one sender, %d are missing of the other", slow.heard, sent)
	}
	slow.fence()
	sender.identity()
	bystanders.pass(3)
}

// TestReceiverThatReadsAByteNowAndThenIsCut as one that reads nothing is.
func TestReceiverThatReadsAByteNowAndThenIsCut(t *testing.T) {
	h := start(t, hub.Config{StallTimeout: time.Second})
	bystanders := h.bystand(t)
	sender, dripping, other := h.peer(t), h.peer(t).small(), h.peer(t)
	ctx := t.Context()
	background(t, func() error {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil // that it was cut is checked below: it may still have something to read
			case <-tick.C:
			}
			if _, err := dripping.Read(make([]byte, 1)); err != nil {
				return nil
			}
		}
	})
	background(t, func() error { return sender.stream([]uint64{dripping.id, other.id}, 100, 64<<10) })
	if err := other.follow(sender.id, 100, 64<<10); err != nil {
		t.Fatal(err)
	}
	sender.fence()
	h.disconnected(t, hub.ReasonStalled, 1)
	bystanders.pass(3)
}

// TestHundredStalledReceiversVanish holds a sender up, and lets it go on when they
// are gone, long before the stall timeout.
func TestHundredStalledReceiversVanish(t *testing.T) {
	h := start(t, hub.Config{StallTimeout: time.Hour})
	bystanders := h.bystand(t)
	sender := h.peer(t)
	var stalled []*peer
	var ids []uint64
	for range 100 {
		stalled = append(stalled, h.peer(t).small())
		ids = append(ids, stalled[len(stalled)-1].id)
	}
	const messages, size = 200, 64 << 10
	background(t, func() error { return sender.stream(ids, messages, size) })
	eventually(t, "stuck", func() bool { return h.Stats().QueuedBytes > 4*size })
	bystanders.pass(10)
	for i, p := range stalled {
		if i%2 == 0 {
			p.reset()
		} else {
			p.Close()
		}
	}
	eventually(t, "everything accounted for", func() bool {
		stats := h.Stats()
		return stats.Gone > 0 && stats.Relays >= messages && stats.Disconnected[hub.ReasonStalled] == 0
	})
	bystanders.pass(3)
}

// TestDisconnectsInTheMiddle ends connections in each part of a frame, many at
// once, politely or not, beside a stream that must not lose anything.
func TestDisconnectsInTheMiddle(t *testing.T) {
	const messages, size, times = 500, 5000, 10
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	sender, receiver := h.peer(t), h.peer(t)
	background(t, func() error { return sender.stream([]uint64{receiver.id}, messages, size) })
	parts := halves(receiver.id)
	for range times {
		for _, part := range parts {
			for _, end := range []func(*peer){func(p *peer) { p.Close() }, (*peer).reset} {
				p := h.silent(t)
				p.send(part)
				end(p)
			}
		}
	}
	if err := receiver.follow(sender.id, messages, size); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all gone", func() bool { return h.Stats().Clients == 4 })
	receiver.fence()
	bystanders.pass(3)
}

// TestGarbage says to the hub what it does not understand.
func TestGarbage(t *testing.T) {
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
	for name, say := range garbage {
		t.Run(name, func(t *testing.T) {
			h := start(t, hub.Config{FrameTimeout: 300 * time.Millisecond})
			bystanders := h.bystand(t)
			p := h.silent(t)
			say(p)
			if name == "zeros" { // a million bytes of empty frames
				p.fence()
			} else if _, err := p.rest(); err != nil {
				t.Errorf("the hub goes on listening: %v", err)
			}
			bystanders.pass(3)
		})
	}
}

// TestComingAndGoing connects and disconnects thousands of clients during lists
// and relays. The lists stay ascending, and who stays is always in them.
func TestComingAndGoing(t *testing.T) {
	const churners, times = 8, 1250
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	lister, sender, receiver := h.peer(t), h.peer(t), h.peer(t)
	stay := []uint64{bystanders.a.ID(), bystanders.b.ID(), sender.id, receiver.id}
	stop := make(chan struct{})
	background(t, func() error { return lister.watchLists(stay, stop) })
	background(t, func() error { return sender.stream([]uint64{receiver.id}, 2000, 2000) })
	background(t, func() error { return receiver.follow(sender.id, 2000, 2000) })
	parallel(t, churners, func(i int) error {
		defer func() {
			if i == 0 {
				close(stop)
			}
		}()
		return h.churn(i, times)
	})
	const all = churners*(times+times/polite) + 5
	eventually(t, "all came", func() bool { return h.Stats().Connected == all })
	eventually(t, "all gone", func() bool { return h.Stats().Clients == 5 })
	bystanders.pass(3)
}

// polite is after how many clients that reset the connection there comes one that
// waits for an answer: a connection that is reset while the kernel's queue of those
// to accept is full is never accepted.
const polite = 25

// churn connects and disconnects, silently, after a question, or after a word to
// those who may be gone.
func (s *testHub) churn(seed, times int) error {
	for i := range times {
		if i%polite == 0 {
			if err := s.visit(); err != nil {
				return err
			}
		}
		nc, err := net.Dial("tcp", s.addr)
		if err != nil {
			return err
		}
		var say []byte
		switch (seed + i) % 4 {
		case 1:
			say = wire.AppendListRequest(wire.AppendIdentityRequest(nil))
		case 2:
			say = wire.AppendRelay(nil, []uint64{uint64(10 + i), uint64(11 + i), uint64(12 + i)}, make([]byte, i))
		case 3:
			say = []byte{0, 0, 1}
		}
		_, err = nc.Write(say)
		_ = nc.(*net.TCPConn).SetLinger(0) // leave nothing behind in the kernel
		if err = errors.Join(err, nc.Close()); err != nil {
			return err
		}
	}
	return nil
}

// visit connects, asks, and disconnects when it is answered.
func (s *testHub) visit() error {
	nc, err := net.Dial("tcp", s.addr)
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

// watchLists asks for lists until stop is closed.
func (p *peer) watchLists(stay []uint64, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if _, err := p.Write(wire.AppendListRequest(nil)); err != nil {
			return err
		}
		kind, payload, err := p.next()
		if err != nil {
			return err
		}
		ids, err := wire.ParseList(payload)
		if err != nil || kind != wire.TypeList {
			return fmt.Errorf("type %d, %w", kind, err)
		}
		if err := checkList(ids.AppendTo(nil), p.id, stay); err != nil {
			return err
		}
	}
}

func checkList(list []uint64, asker uint64, stay []uint64) error {
	for i := 1; i < len(list); i++ {
		if list[i-1] >= list[i] {
			return fmt.Errorf("list not ascending: %d, %d", list[i-1], list[i])
		}
	}
	if slices.Contains(list, asker) {
		return fmt.Errorf("list has the one who asked: %d", asker)
	}
	for _, id := range stay {
		if !slices.Contains(list, id) {
			return fmt.Errorf("list lacks %d, who stays", id)
		}
	}
	return nil
}

// TestThousandAnnouncementsDelayNobody has clients that announce a body of 1 MiB
// each, send a little of it, and fall silent. The hub has memory for three.
func TestThousandAnnouncementsDelayNobody(t *testing.T) {
	for _, little := range []int{wire.HeaderSize, 1000, 4000, 20_000, 60_000} {
		t.Run(fmt.Sprint(little), func(t *testing.T) {
			h := start(t, hub.Config{MaxQueuedBytes: 5 << 20})
			bystanders := h.bystand(t)
			frame := wire.AppendRelay(nil, []uint64{1}, make([]byte, wire.DefaultMaxBody))
			for range 1000 {
				h.silent(t).send(frame[:little])
			}
			eventually(t, "all connected", func() bool { return h.Stats().Clients == 1002 })
			a, b := h.peer(t), h.peer(t)
			body := pattern(wire.DefaultMaxBody, 3)
			a.relay(body, b.id)
			if err := b.SetReadDeadline(time.Now().Add(2 * untroubled)); err != nil {
				t.Fatal(err)
			}
			b.hears(body)
			bystanders.pass(10)
			if n := h.Stats().Clients; n != 1004 {
				t.Errorf("%d clients, want all 1004", n)
			}
		})
	}
}

// unseen is a listener of connections of which the hub does not see what waits in the kernel, so
// that it reads each message as it comes.
type unseen struct{ net.Listener }

func (l unseen) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{nc}, nil
}

// TestHoldersOfMemoryAreCut has clients that get memory by sending a part of a
// large body, and stop there. Whoever waits for memory gets it when they are cut,
// a stall timeout later.
func TestHoldersOfMemoryAreCut(t *testing.T) {
	for name, body := range map[string]int{"large": wire.DefaultMaxBody, "small": 100} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20, StallTimeout: 2 * time.Second}, unseen{listen(t)})
			a, b := h.peer(t), h.peer(t)
			frame := wire.AppendRelay(nil, []uint64{1}, make([]byte, wire.DefaultMaxBody))
			for range 12 {
				p := h.silent(t)
				p.send(frame[:150_000])
			}
			eventually(t, "used up", func() bool { return h.Stats().QueuedBytes > 3<<20 })
			a.relay(pattern(body, 3), b.id)
			b.hears(pattern(body, 3))
			h.disconnected(t, hub.ReasonSlow, 1)
			for reason, n := range h.Stats().Disconnected {
				if reason != hub.ReasonSlow {
					t.Errorf("%d × %q", n, reason)
				}
			}
			a.fence()
			b.fence()
		})
	}
}

// TestReceiverThatHoldsTheMemoryIsCut has a sender whose whole share waits for one
// who takes nothing, in a queue that is not even full.
func TestReceiverThatHoldsTheMemoryIsCut(t *testing.T) {
	h := start(t, hub.Config{MaxQueuedBytes: 5 << 20, OutboxBytes: 16 << 20, StallTimeout: 2 * time.Second})
	bystanders := h.bystand(t)
	sender, greedy, other := h.peer(t), h.peer(t).small(), h.peer(t)
	const messages, size = 30, 300_000
	background(t, func() error { return sender.stream([]uint64{greedy.id, other.id}, messages, size) })
	if err := other.follow(sender.id, messages, size); err != nil {
		t.Fatal(err)
	}
	h.disconnected(t, hub.ReasonSlow, 1)
	sender.fence()
	bystanders.pass(3)
}

// TestRelaysToStrangersCostLittle names the most receivers that a frame can, none
// of whom exists, over and over.
func TestRelaysToStrangersCostLittle(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	p := h.peer(t)
	ids := make([]uint64, wire.MaxReceivers)
	for i := range ids {
		ids[i] = uint64(1_000_000 + i)
	}
	frame := wire.AppendRelay(nil, ids, []byte("x"))
	p.send(bytes.Repeat(frame, 1000))
	p.fence()
	eventually(t, "counted", func() bool { return h.Stats().Unknown == 1000*wire.MaxReceivers })
	bystanders.pass(3)
}

// TestLargeRequestsThatAreNoRelaysGiveTheirMemoryBack sends identity requests with
// so much behind them, all to be ignored, that together they are all the memory
// there is, and goes. Whoever has a question afterwards is answered.
func TestLargeRequestsThatAreNoRelaysGiveTheirMemoryBack(t *testing.T) {
	h := startOn(t, hub.Config{MaxBody: 200 << 10, MaxQueuedBytes: 1 << 20, StallTimeout: time.Second}, unseen{listen(t)})
	frame := make([]byte, 120<<10)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-wire.LengthSize))
	frame[wire.LengthSize] = byte(wire.TypeIdentity)
	var greedy []*peer
	for range 12 {
		p := h.silent(t)
		p.send(frame[:len(frame)-1])
		greedy = append(greedy, p)
	}
	eventually(t, "the memory is used up", func() bool { return h.Stats().QueuedBytes > 700<<10 })
	for _, p := range greedy {
		_, _ = p.Write(frame[len(frame)-1:]) // some may be cut before
		p.reset()
	}
	eventually(t, "all gone", func() bool { s := h.Stats(); return s.Clients == 0 && s.QueuedBytes == 0 })
	h.peer(t).fence()
}
