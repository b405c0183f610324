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

// The tests of this file are the rows of the table of decided cases in the
// specification of the protocol, in its order.

func TestReceiverNotConnectedIsSkippedAndCounted(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	a, b, left := h.peer(t), h.peer(t), h.peer(t)
	left.Close()
	h.disconnected(t, hub.ReasonLeft, 1)

	a.relay([]byte("x"), left.id, 999, b.id, math.MaxUint64, 0)
	b.hears([]byte("x"))
	a.fence()
	eventually(t, "counted", func() bool { return h.Stats().Unknown == 4 })
	bystanders.pass(3)
}

func TestSenderInItsOwnListHearsItself(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	a, b := h.peer(t), h.peer(t)
	for _, size := range []int{2, 100_000} { // copied, and by reference
		body := pattern(size, 1)
		a.relay(body, b.id, a.id)
		a.hears(body)
		b.hears(body)
	}
	a.fence()
	b.fence()
	bystanders.pass(3)
}

func TestSameReceiverTwiceHearsTwice(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	a, b := h.peer(t), h.peer(t)
	for _, size := range []int{2, 100_000} {
		body := pattern(size, 1)
		a.relay(body, b.id, b.id)
		b.hears(body)
		b.hears(body)
	}
	a.fence()
	b.fence()
	bystanders.pass(3)
}

// TestSameReceiverTwiceKeepsTheOrder sends many at once: both copies of one come
// before the first of the next.
func TestSameReceiverTwiceKeepsTheOrder(t *testing.T) {
	const messages = 100
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	a, b, c := h.peer(t), h.peer(t), h.peer(t)
	var frames []byte
	for n := range messages {
		frames = wire.AppendRelay(frames, []uint64{b.id, c.id, b.id}, numbered(a.id, n, 200))
	}
	a.send(frames)
	for n := range messages {
		b.hears(numbered(a.id, n, 200))
		b.hears(numbered(a.id, n, 200))
		c.hears(numbered(a.id, n, 200))
	}
	bystanders.pass(3)
}

func TestNoReceiversIsNothingAndCounted(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	a, b := h.peer(t), h.peer(t)
	a.relay([]byte("x"))
	a.relay(make([]byte, 100_000))
	a.relay(nil)
	a.fence()
	b.fence()
	eventually(t, "counted", func() bool { return h.Stats().NoReceivers == 3 })
	bystanders.pass(3)
}

func TestBodyOfZeroBytesIsDelivered(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	a, b := h.peer(t), h.peer(t)
	a.relay(nil, b.id, a.id)
	b.hears(nil)
	a.hears(nil)
	a.fence()
	b.fence()
	bystanders.pass(3)
}

// TestLargestBodyTo255 sends the most that a classic frame can say, and looks at
// what the hub needs for it: one copy, not 255.
func TestLargestBodyTo255(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	sender := h.peer(t)
	receivers := make([]*peer, wire.MaxReceivers)
	ids := make([]uint64, len(receivers))
	for i := range receivers {
		receivers[i] = h.peer(t)
		ids[i] = receivers[i].id
	}
	body := pattern(wire.DefaultMaxBody, 7)
	background(t, func() error {
		_, err := sender.Write(wire.AppendRelay(nil, ids, body))
		return err
	})
	parallel(t, len(receivers), func(i int) error { return receivers[i].expect(body) })
	sender.fence()
	if peak := h.Stats().PeakQueuedBytes; peak > 5<<20 {
		t.Errorf("a body of 1 MiB to 255 receivers took %d bytes", peak)
	}
	eventually(t, "counted", func() bool { return h.Stats().Delivered >= wire.MaxReceivers })
	bystanders.pass(3)
}

// TestLengthAboveTheLimitIsRefusedFromTheHeader sends four bytes and no more.
func TestLengthAboveTheLimitIsRefusedFromTheHeader(t *testing.T) {
	for _, length := range []uint32{uint32(wire.MaxRequest(wire.DefaultMaxBody)) + 1, math.MaxInt32, 1 << 31, math.MaxUint32} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			log := &logbook{}
			h := start(t, hub.Config{Logger: log.logger()})
			bystanders := h.bystand(t)
			p := h.peer(t)
			p.send([]byte{byte(length >> 24), byte(length >> 16), byte(length >> 8), byte(length)})
			p.closed()
			h.disconnected(t, hub.ReasonTooLong, 1)
			log.has(t, fmt.Sprintf(`"client":%d,"address":"%v","reason":"frame too long"`, p.id, p.LocalAddr()))
			bystanders.pass(3)
		})
	}
}

// TestBodyAboveTheLimitIsRefused sends a body that is too large in a frame that
// is not, for it names few receivers.
func TestBodyAboveTheLimitIsRefused(t *testing.T) {
	for _, limit := range []int{1, 1000, wire.DefaultMaxBody} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			h := start(t, hub.Config{MaxBody: limit})
			p, b := h.peer(t), h.peer(t)
			p.relay(pattern(limit, 1), b.id)
			b.hears(pattern(limit, 1))
			_, err := p.Write(wire.AppendRelay(nil, []uint64{b.id}, make([]byte, limit+1)))
			t.Log("the write that is one too much:", err)
			p.closed()
			h.disconnected(t, hub.ReasonTooLong, 1)
			b.fence()
		})
	}
}

// TestMalformedRelayEndsOnlyItsSender puts each malformed relay behind a good one,
// which still counts.
func TestMalformedRelayEndsOnlyItsSender(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	b := h.peer(t)
	cases := []string{"\x03", "\x03\x01", "\x03\x01\x00\x00\x00\x00\x00\x00\x00", "\x03\xff\x00\x00\x00\x00\x00\x00\x00\x01"}
	for i, payload := range cases {
		p := h.peer(t)
		good := wire.AppendRelay(nil, []uint64{b.id}, []byte("good"))
		p.send(append(append(good, 0, 0, 0, byte(len(payload))), payload...))
		p.closed()
		b.hears([]byte("good"))
		h.disconnected(t, hub.ReasonMalformed, uint64(i+1))
	}
	b.fence()
	bystanders.pass(3)
}

// halves are starts of a relay that end in each of its parts.
func halves(to uint64) map[string][]byte {
	small := wire.AppendRelay(nil, []uint64{to}, []byte("never"))
	large := wire.AppendRelay(nil, []uint64{to}, make([]byte, wire.DefaultMaxBody))
	return map[string][]byte{
		"length":           small[:2],
		"type":             small[:wire.LengthSize],
		"ids":              small[:wire.HeaderSize+5],
		"body":             small[:len(small)-1],
		"body, announced":  large[:wire.HeaderSize+100],
		"body, a block":    large[:20_000],
		"body, a buffer":   large[:100_000],
		"body, but a byte": large[:len(large)-1],
	}
}

func TestHalfFrameThenSilenceIsCut(t *testing.T) {
	h := start(t, hub.Config{FrameTimeout: 200 * time.Millisecond})
	bystanders := h.bystand(t)
	idle, b := h.peer(t), h.peer(t)
	n := uint64(0)
	for part, bytes := range halves(b.id) {
		n++
		t.Run(part, func(t *testing.T) {
			p := h.peer(t)
			began := time.Now()
			p.send(bytes)
			p.closed()
			if took := time.Since(began); took < h.config.FrameTimeout {
				t.Errorf("cut after %v, %v allowed", took, h.config.FrameTimeout)
			}
			h.disconnected(t, hub.ReasonFrameTimeout, n)
		})
	}
	idle.fence() // has been silent between two frames for longer
	b.fence()    // was sent nothing whole
	bystanders.pass(3)
}

func TestHalfFrameThenCloseDeliversNothing(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	a, b := h.peer(t), h.peer(t)
	n := uint64(0)
	for part, bytes := range halves(b.id) {
		t.Run(part, func(t *testing.T) {
			n++
			p := h.peer(t)
			p.send(bytes)
			p.Close()
			h.disconnected(t, hub.ReasonHalfFrame, n)
		})
	}
	a.relay([]byte("whole"), b.id)
	b.hears([]byte("whole"))
	b.fence()
	bystanders.pass(3)
}

// TestRequestsThenCloseWriteAreAnswered asks for more than the hub can send at
// once, ends its side, and only then begins to read.
func TestRequestsThenCloseWriteAreAnswered(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	p := h.peer(t)
	const times = 500
	body := pattern(30_000, 1)
	var requests []byte
	for range times {
		requests = wire.AppendIdentityRequest(requests)
		requests = wire.AppendRelay(requests, []uint64{p.id}, body)
	}
	background(t, func() error {
		_, err := p.Write(requests)
		return errors.Join(err, p.tcp().CloseWrite())
	})
	for range times {
		p.identity()
		p.hears(body)
	}
	p.closed()
	h.disconnected(t, hub.ReasonLeft, 1)
	bystanders.pass(3)
}

// TestWholeRelayThenTheEndIsDelivered lets senders go at once after their last
// word, politely or not.
func TestWholeRelayThenTheEndIsDelivered(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	b := h.peer(t)
	for name, end := range map[string]func(*peer){"close": func(p *peer) { p.Close() }, "reset": (*peer).reset} {
		t.Run(name, func(t *testing.T) {
			for i := range 20 {
				p := h.peer(t)
				p.relay(numbered(p.id, i, i*500), b.id) // all of it leaves at once: the hub's buffer is empty
				end(p)
				b.hears(numbered(p.id, i, i*500))
			}
		})
	}
	bystanders.pass(3)
}

// TestLastWordsBehindAStalledReceiverAreDelivered lets a sender go while the hub
// does not read it, because it sent to one who takes nothing, and while the hub
// finds out by writing to it that it is gone.
func TestLastWordsBehindAStalledReceiverAreDelivered(t *testing.T) {
	for name, end := range map[string]func(*peer){"close": func(p *peer) { p.Close() }, "reset": (*peer).reset} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, hub.Config{StallTimeout: 2 * time.Second})
			bystanders := h.bystand(t)
			a, b, c, stalled := h.peer(t), h.peer(t), h.peer(t), h.peer(t)
			a.fill(h, stalled.id)
			p := h.peer(t)
			p.relay([]byte("first"), c.id, stalled.id)
			c.hears([]byte("first")) // so it is offered to both: from now on p is not read
			p.relay([]byte("last words"), b.id)
			end(p)
			eventually(t, "found to be gone", func() bool {
				c.relay([]byte("are you there?"), p.id)
				c.fence()
				return h.Stats().Unknown > 0
			})
			b.hears([]byte("last words"))
			bystanders.pass(3)
		})
	}
}

// TestAnswersNeverReadAreBounded asks and asks, and never reads: the hub stops
// reading, holds little, and in the end cuts the client.
func TestAnswersNeverReadAreBounded(t *testing.T) {
	requests := map[string][]byte{
		"identity": wire.AppendIdentityRequest(nil),
		"list":     wire.AppendListRequest(nil),
	}
	for name, request := range requests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, hub.Config{StallTimeout: time.Second, OutboxBytes: 64 << 10})
			bystanders := h.bystand(t)
			p := h.peer(t).small()
			block := bytes.Repeat(request, 10_000)
			began := time.Now()
			var err error
			for sent := 0; err == nil; sent += len(block) {
				if sent > 64<<20 {
					t.Fatal("the hub goes on reading")
				}
				_, err = p.Write(block)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the hub does not cut the client")
			}
			if took := time.Since(began); took < h.config.StallTimeout {
				t.Errorf("cut after %v, the stall timeout is %v", took, h.config.StallTimeout)
			}
			h.disconnected(t, hub.ReasonStalled, 1)
			if peak := h.Stats().PeakQueuedBytes; peak > 2<<20 {
				t.Errorf("%d bytes queued for one who does not read", peak)
			}
			bystanders.pass(3)
		})
	}
}
