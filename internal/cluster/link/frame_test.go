package link

import (
	"bytes"
	"encoding/hex"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// exampleHeader has a different value in each field.
func exampleHeader() header {
	return header{
		flags: flagGap | flagAsk, sender: 0x01020304, receiver: 0x05060708, generation: 0x1112131415161718,
		offset: 0x2122232425262728, ack: 0x3132333435363738, sentAt: 0x0102030405060708, echo: 0x1122334455667788,
		echoDelay: 0xa1a2a3a4,
	}
}

func TestFrame_Layout(t *testing.T) {
	want := "01" + "03" + "01020304" + "05060708" + "1112131415161718" + "2122232425262728" + "3132333435363738" +
		"0102030405060708" + "1122334455667788" + "a1a2a3a4" + "7061796c6f6164"
	h := exampleHeader()
	frame := append(appendHeader(nil, &h), "payload"...)
	if got := hex.EncodeToString(frame); got != want {
		t.Errorf("the frame is\n%s, want\n%s", got, want)
	}
	got, payload, ok := parseFrame(frame)
	if got != h || string(payload) != "payload" || !ok {
		t.Errorf("parsed are %+v, %q, %v", got, payload, ok)
	}
}

func TestParseFrame_Truncated(t *testing.T) {
	h := exampleHeader()
	frame := appendHeader(nil, &h)
	for n := range frame {
		if _, _, ok := parseFrame(frame[:n]); ok {
			t.Errorf("%d of %d bytes are a frame", n, len(frame))
		}
	}
	if _, payload, ok := parseFrame(frame); !ok || len(payload) != 0 {
		t.Errorf("a frame without payload: %q, %v", payload, ok)
	}
}

func TestParseFrame_Invalid(t *testing.T) {
	for name, change := range map[string]func(h *header){
		"no sender":               func(h *header) { h.sender = 0 },
		"generation 0":            func(h *header) { h.generation = 0 },
		"largest generation":      func(h *header) { h.generation = math.MaxUint64 },
		"offset too large":        func(h *header) { h.offset = maxOffset + 1 },
		"ack too large":           func(h *header) { h.ack = maxOffset + 1 },
		"not sent":                func(h *header) { h.sentAt = 0 },
		"sent before the begin":   func(h *header) { h.sentAt = -1 },
		"echo before the begin":   func(h *header) { h.echo = math.MinInt64 },
		"ack without a receiver":  func(h *header) { h.receiver, h.echo = 0, 0 },
		"echo without a receiver": func(h *header) { h.receiver, h.ack = 0, 0 },
	} {
		h := exampleHeader()
		if change(&h); h.valid() {
			t.Errorf("%s: valid", name)
		}
	}
	h := exampleHeader()
	frame := appendHeader(nil, &h)
	frame[0]++
	if _, _, ok := parseFrame(frame); ok {
		t.Error("another version is valid")
	}
}

// FuzzHandle gives any frames to a link that runs, whose number they can name. Whatever they do,
// the link then exchanges data with another link.
func FuzzHandle(f *testing.F) {
	const id, peer = 1, 2
	seeds := []header{
		{sender: peer, generation: 1, sentAt: 1},
		{sender: peer, receiver: id, generation: 1, ack: 100, sentAt: 5, echo: 2},
		{sender: peer, receiver: id, generation: 1, ack: 50, sentAt: 5, echo: 2, flags: flagGap | flagAsk},
		{sender: peer, receiver: id, generation: 1, offset: 3, ack: 150, sentAt: 5, echo: 2, echoDelay: 1},
		{sender: peer, receiver: id, generation: 1, offset: maxWindow, ack: 0, sentAt: 5},
		{sender: peer, generation: 7, sentAt: 9},
		{sender: peer, generation: maxGeneration, offset: maxOffset, sentAt: maxOffset},
		{sender: peer, receiver: 77, generation: maxGeneration, sentAt: 1},
		{sender: 3, receiver: 77, generation: 3, offset: 5, ack: 6, sentAt: 1},
		{sender: id, receiver: id, generation: 2, sentAt: 1},
		exampleHeader(),
	}
	for i := range seeds {
		first, second := appendHeader(nil, &seeds[0]), appendHeader(nil, &seeds[i])
		f.Add(append(first, "seven b"...), append(second, "payload"...), append(second, "load"...))
		f.Add(second, first, append(second, "seven bytes"...))
		f.Add(second, append(second, "1234567"...), second[:len(second)-1])
	}
	f.Fuzz(func(t *testing.T, first, second, third []byte) {
		onPair(t, nil, func(t *testing.T, p *testPair) {
			l := p.a.link
			l.mu.Lock()
			l.id = id
			l.mu.Unlock()
			p.a.setCarry(loseAll)
			p.b.setCarry(loseAll)
			l.Append(numbered(150), nil, 0, 0)
			for _, frame := range [][]byte{first, second, third} {
				time.Sleep(time.Millisecond)
				synctest.Wait()
				kept := bytes.Clone(frame)
				l.Handle(frame)
				if !bytes.Equal(frame, kept) {
					t.Error("Handle changes the frame")
				}
			}
			checkSane(t, l)
			if l.Generation() < maxGeneration-3 { // above, no generation is left
				p.a.setCarry(nil)
				p.b.setCarry(nil)
				checkRecovers(t, p)
			}
		})
	})
}

// checkSane checks a link that has handled three frames.
func checkSane(t *testing.T, l *Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := &l.queue
	if q.base > q.acked || q.acked > q.next || q.next > q.maxSent || q.maxSent > q.end {
		t.Errorf("the queue is %+v", q)
	}
	if l.stats.FramesIn != 3 || l.stats.Invalid+l.stats.Stale+l.stats.Gaps+l.stats.Duplicates > 3 {
		t.Errorf("counts are %+v", l.stats)
	}
	if l.generation == 0 || l.generation > maxGeneration+3 {
		t.Errorf("the generation is %d", l.generation)
	}
}

// checkRecovers checks that two links come together and exchange data.
func checkRecovers(t *testing.T, p *testPair) {
	time.Sleep(3 * time.Second)
	p.a.write([]byte("from a"))
	p.b.write([]byte("from b"))
	time.Sleep(3 * time.Second)
	synctest.Wait()
	if a, b := p.a.link.Generation(), p.b.link.Generation(); a != b {
		t.Errorf("generations %d and %d", a, b)
	}
	if !bytes.HasSuffix(p.a.received, []byte("from b")) || !bytes.HasSuffix(p.b.received, []byte("from a")) {
		t.Errorf("received are %q and %q", p.a.received, p.b.received)
	}
}
