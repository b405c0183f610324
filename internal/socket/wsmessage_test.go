package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/gobwas/ws"
	"pgregory.net/rapid"
)

// scriptedWriter is a transport that accepts any number of bytes at a time.
type scriptedWriter struct {
	transport // nil: nothing else is called
	accept    func(n int) int
	fail      error
	holds     bool // it takes a vector whole, and holds what it has not accepted
	maxWrite  int
	held      []byte
	out       bytes.Buffer // accepted
}

func (s *scriptedWriter) MaxWrite() int { return s.maxWrite }

func (s *scriptedWriter) Write(v [][]byte, wait bool) (n, pending int, err error) {
	p := s.held
	if len(p) == 0 {
		if p = slices.Concat(v...); s.maxWrite > 0 && len(p) > s.maxWrite {
			return 0, 0, errors.New("the vector is too long")
		}
	} else if len(v) > 0 {
		return 0, 0, errors.New("a vector before the held bytes are written")
	}
	if len(p) == 0 {
		return 0, 0, nil
	}
	if n = s.accept(len(p)); wait {
		n = max(n, 1)
	}
	s.out.Write(p[:n])
	if s.holds && (n > 0 || len(s.held) > 0) {
		s.held = p[n:]
		pending = len(s.held)
	}
	return n, pending, s.fail
}

// outModel drives the writing side of a WebSocket as an outbox does.
type outModel struct {
	*rapid.T
	ws      *webSocketTransport
	queue   [][]byte // segments that are not written
	want    []byte   // written segments
	ends    []int    // where segments end in want
	pinged  [][]byte // payloads of the Pings
	counter byte
	large   bool // segments can be large
}

// drawSegment returns a segment with new bytes.
func (m *outModel) drawSegment() []byte {
	m.counter++
	sizes := []*rapid.Generator[int]{rapid.IntRange(1, 300), rapid.SampledFrom([]int{125, 126, 3000})}
	if m.large {
		sizes = append(sizes, rapid.SampledFrom([]int{20_000, 65_535, 65_536, 70_000}))
	}
	return bytes.Repeat([]byte{m.counter}, rapid.OneOf(sizes...).Draw(m.T, "size"))
}

// consume removes n bytes from the queue.
func (m *outModel) consume(n int) {
	for n > 0 {
		k := min(n, len(m.queue[0]))
		m.want = append(m.want, m.queue[0][:k]...)
		if m.queue[0] = m.queue[0][k:]; len(m.queue[0]) == 0 {
			m.queue = m.queue[1:]
			m.ends = append(m.ends, len(m.want))
		}
		n -= k
	}
}

// write offers some segments and writes all that is then pending, as Outbox.write and
// Outbox.writeParts do. Pings arrive meanwhile.
func (m *outModel) write() {
	for len(m.queue) < 8 {
		m.queue = append(m.queue, m.drawSegment())
	}
	v := slices.Clone(m.queue[:rapid.IntRange(1, len(m.queue)).Draw(m.T, "segments")])
	size := len(slices.Concat(v...))
	n, pending, err := m.ws.Write(v, rapid.Bool().Draw(m.T, "wait"))
	if n+pending > size {
		m.Fatalf("%d bytes of %d are written and pending", n+pending, size)
	}
	for err == nil {
		m.consume(n)
		if pending == 0 {
			break
		}
		clear(v) // the outbox uses its vector again
		m.maybePing()
		before := pending
		if n, pending, err = m.ws.Write(nil, true); n+pending != before {
			m.Fatalf("%d bytes were pending, now %d after %d were written", before, pending, n)
		}
	}
	if err != nil {
		m.Fatal(err)
	}
	if len(m.want) > 0 && (len(m.ends) == 0 || m.ends[len(m.ends)-1] != len(m.want)) {
		m.Fatal("a segment was written in part")
	}
}

// expire removes any segment: none has been written in part.
func (m *outModel) expire() {
	if len(m.queue) > 0 {
		i := rapid.IntRange(0, len(m.queue)-1).Draw(m.T, "expired")
		m.queue = slices.Delete(slices.Clone(m.queue), i, i+1)
	}
}

func (m *outModel) maybePing() {
	if rapid.IntRange(0, 3).Draw(m.T, "ping") > 0 {
		return
	}
	payload := binary.BigEndian.AppendUint32(nil, uint32(len(m.pinged)))
	m.pinged = append(m.pinged, payload)
	f := newControlFrame(opPing)
	f.addPayload(payload)
	if err := m.ws.handleControl(f); err != nil {
		m.Fatal(err)
	}
	m.ws.answerPing()
}

// TestWebSocketTransport_Write_Model writes segments of random sizes over inner transports that
// accept random parts. A library must read them back in messages of whole segments, and Pongs
// between the messages.
func TestWebSocketTransport_Write_Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		few := rapid.IntRange(0, 4).Draw(t, "acceptance")
		inner := &scriptedWriter{holds: rapid.Bool().Draw(t, "holds")}
		inner.accept = func(n int) int {
			if most := []int{20, 100, 5000, 100_000, n}[few]; rapid.IntRange(0, 3).Draw(t, "any") > 0 {
				return rapid.IntRange(0, min(n, most)).Draw(t, "accepted")
			}
			return 0
		}
		if inner.holds {
			inner.maxWrite = rapid.SampledFrom([]int{20, 1000, 64_000}).Draw(t, "max write")
		}
		m := &outModel{T: t, ws: newWebSocketTransport(inner, new(Reader)), large: few > 1}
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				m.expire()
			case 1:
				m.maybePing()
			default:
				m.write()
			}
		}
		inner.accept = func(n int) int { return n }
		for m.ws.out != nil || m.ws.pong.Load() != nil {
			if _, _, err := m.ws.Write(nil, true); err != nil {
				t.Fatal(err)
			}
		}
		m.ws.writeClose()
		m.compare(inner.out.Bytes())
	})
}

// compare reads back what was written.
func (m *outModel) compare(written []byte) {
	in := bytes.NewReader(written)
	var got []byte
	pongs, lastPong := 0, []byte(nil)
	for {
		h, err := ws.ReadHeader(in)
		if err != nil {
			m.Fatal("no close frame: ", err)
		}
		if err := ws.CheckHeader(h, ws.StateClientSide); err != nil {
			m.Fatal(err)
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(in, payload); err != nil {
			m.Fatal(err)
		}
		switch h.OpCode {
		case ws.OpPong:
			pongs, lastPong = pongs+1, payload
			continue
		case ws.OpBinary:
			got = append(got, payload...)
			if !slices.Contains(m.ends, len(got)) {
				m.Fatalf("a message ends at %d, within a segment", len(got))
			}
			continue
		case ws.OpClose:
		default:
			m.Fatalf("a frame with opcode %d", h.OpCode)
		}
		break
	}
	if !bytes.Equal(got, m.want) || in.Len() > 0 {
		m.Fatalf("%d bytes were read back, want %d; %d bytes behind the close frame", len(got), len(m.want), in.Len())
	}
	if n := len(m.pinged); n > 0 && !bytes.Equal(lastPong, m.pinged[n-1]) || pongs > n {
		m.Fatalf("%d Pongs to %d Pings, the last with %x", pongs, n, lastPong)
	}
}

// TestWSOutput_MinMessage checks which segments share a message.
func TestWSOutput_MinMessage(t *testing.T) {
	for _, test := range []struct{ segments, want []int }{
		{[]int{1}, []int{1}},
		{[]int{100, 200, 300}, []int{600}},
		{[]int{minMessage - 1, 1, 1}, []int{minMessage, 1}},
		{[]int{1 << 20, 1 << 20}, []int{1 << 20, 1 << 20}},
		{[]int{10, 1 << 20, 10, 10}, []int{1<<20 + 10, 20}},
	} {
		inner := &scriptedWriter{accept: func(n int) int { return n }}
		transport := newWebSocketTransport(inner, new(Reader))
		var v [][]byte
		for _, n := range test.segments {
			v = append(v, make([]byte, n))
		}
		if _, _, err := transport.Write(v, true); err != nil {
			t.Fatal(err)
		}
		var got []int
		for in := bytes.NewReader(inner.out.Bytes()); in.Len() > 0; {
			h, err := ws.ReadHeader(in)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, int(h.Length))
			in.Seek(h.Length, io.SeekCurrent)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("segments of %d bytes are messages of %d, want %d", test.segments, got, test.want)
		}
	}
}

// TestWebSocketTransport_Write_Fails checks how many bytes of payload can have arrived after an
// error, and that nothing is written afterwards.
func TestWebSocketTransport_Write_Fails(t *testing.T) {
	for _, test := range []struct {
		holds              bool
		accepted           int
		wantN, wantPending int
	}{
		{false, 0, 0, 0},
		{false, 1, 0, 0},
		{false, 50, 48, 0},
		{true, 1, 0, 100},
		{true, 50, 48, 52},
	} {
		inner := &scriptedWriter{holds: test.holds, fail: io.ErrClosedPipe, accept: func(int) int { return test.accepted }}
		transport := newWebSocketTransport(inner, new(Reader))
		n, pending, err := transport.Write([][]byte{make([]byte, 100)}, false)
		if n != test.wantN || pending != test.wantPending || err != io.ErrClosedPipe {
			t.Errorf("%+v: %d bytes written, %d can have arrived: %v", test, n, pending, err)
		}
		length := inner.out.Len()
		inner.fail = nil
		transport.writeClose()
		if _, _, err := transport.Write([][]byte{{1}}, false); err == nil || inner.out.Len() != length {
			t.Errorf("a write after a failed write: %v", err)
		}
	}
}
