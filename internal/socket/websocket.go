package socket

import (
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// errOverhead means that headers and control frames have arrived, and no payload, since Fill began
// to wait.
var errOverhead = errors.New("WebSocket: no payload")

// NewWebSocket marks nc as a connection whose bytes are WebSocket frames (RFC 6455) in both
// directions, from the next byte on: its upgrade is done, and this side is the server. New then
// reads what the client's messages hold as one stream, wherever the client cuts it, and writes
// messages that hold whole frames. nc can be any connection for New, such as TCP, TLS over
// WrapForTLS, or a PollableConn. The mark must be outside of all other wrappers. Its own Read and
// Write are those of nc.
func NewWebSocket(nc net.Conn) net.Conn { return &webSocketConn{nc} }

// webSocketConn is a connection whose bytes are WebSocket frames.
type webSocketConn struct {
	net.Conn
}

// NetConn returns the connection that carries the frames.
func (m *webSocketConn) NetConn() net.Conn { return m.Conn }

// webSocketTransport is the server's side of a WebSocket over another transport. The inner
// transport reads into the memory of the Reader, where the payload is unmasked and moved together.
// A write puts a header before each message and passes the payload on as it is
// (docs/decisions/0020). While idle, it holds no memory besides its fields.
type webSocketTransport struct {
	transport // carries the WebSocket frames

	// Static after construction.
	reader     *Reader
	writeWaits bool // Write of the inner transport always waits

	// Guarded by mu.
	closed bool      // a close frame was written, or a write has failed: nothing more is written
	out    *wsOutput // what the peer was announced and was not written yet; nil: nothing

	mu sync.Mutex // held during a write; only the goroutine that writes waits for it

	// Shared between goroutines.
	overhead atomic.Int64                 // bytes of headers and control frames that were read
	status   atomic.Uint32                // see Conn.SetCloseStatus; 0: not set
	pong     atomic.Pointer[controlFrame] // the Pong to be written; nil: none

	// Owned by the goroutine that reads.
	in  wsParser
	end error // why nothing more is read; nil: the stream goes on
}

func newWebSocketTransport(inner transport, r *Reader) *webSocketTransport {
	r.leavesLarge = false // the kernel holds a frame with headers of unknown sizes
	_, waits := inner.(*netConnTransport)
	return &webSocketTransport{transport: inner, reader: r, writeWaits: waits}
}

// minOverhead is the number of bytes of headers and control frames in one read from which they can
// be a flood: two control frames of maximum size.
const minOverhead = 256

// maxOverhead is the number of bytes of headers and control frames after which Fill returns although
// it has no payload, for its caller to charge them to a rate limit. A client that sends a Ping of 10
// bytes a second reaches it every 7 minutes.
const maxOverhead = 4 << 10

// Read implements transport. A read without any payload returns neither bytes nor an error. Read
// has next to nothing on the stack, which an idle connection keeps while it waits.
func (t *webSocketTransport) Read() (int, error) {
	if t.end != nil {
		return 0, t.end
	}
	return t.received(t.transport.Read())
}

// received turns the result of a read of the inner transport into that of Read.
//
//go:noinline
func (t *webSocketTransport) received(n int, err error) (int, error) {
	if n == 0 {
		t.answerPing() // if there was no room for the Pong before
		if errors.Is(err, io.EOF) && t.in.inMessage() {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	r := t.reader
	payload := t.unframe(r.newBytes(n))
	overhead := n - payload
	r.bytesRead.Add(int64(overhead))
	total := t.overhead.Add(int64(overhead))
	t.answerPing()
	switch {
	case overhead >= max(payload, minOverhead) && r.isOverdue():
		return 0, ErrFrameTimeout // overhead completes no frame, however much of it arrives
	case payload > 0:
		return payload, nil
	}
	r.returnBuffer()
	if t.end != nil {
		err = t.end
	} else if err == nil && r.stopMode.Load() == stopNow {
		err = ErrInterrupted // other pings can already wait
	} else if err == nil && total/maxOverhead > (total-int64(overhead))/maxOverhead {
		err = errOverhead
	}
	return 0, err
}

// unframe moves the payload of the messages in p to its front and returns its length.
func (t *webSocketTransport) unframe(p []byte) (n int) {
	for pos := 0; pos < len(p) && t.end == nil; {
		data, taken, control, err := t.in.next(p[pos:])
		if pos > n {
			copy(p[n:], data)
		}
		n, pos = n+len(data), pos+taken
		if control != nil {
			err = t.handleControl(control)
		}
		if err != nil {
			t.endReading(err)
		}
	}
	return n
}

// endReading ends the reading behind the payload that was read, because of err.
func (t *webSocketTransport) endReading(err error) {
	t.end = err
	if violation, ok := err.(*WebSocketError); ok {
		t.setStatus(violation.Status)
	}
}

// setStatus sets the status of the close frame, unless one is set.
func (t *webSocketTransport) setStatus(status CloseStatus) {
	t.status.CompareAndSwap(0, uint32(status))
}

// MaxWrite implements transport. It is no limit, because a message holds whole frames, but tells
// the outbox whether Write can wait if it must not.
func (t *webSocketTransport) MaxWrite() int {
	if t.transport.MaxWrite() == 0 {
		return 0
	}
	return math.MaxInt32
}

// Write implements transport. It writes the slices of v as messages, none of which ends within a
// slice. If the connection accepts the start of a message, the rest of it is pending. What is
// behind it is not.
func (t *webSocketTransport) Write(v [][]byte, wait bool) (n, pending int, err error) {
	t.mu.Lock()
	n, pending, err = t.write(v, wait)
	t.mu.Unlock()
	t.writePong() // one whose Ping was read during the write
	return n, pending, err
}

// Close implements transport. It sends a close frame if the connection accepts one at once.
func (t *webSocketTransport) Close(how closeMode) error {
	if how != closeReset {
		t.writeClose()
	}
	return t.transport.Close(how)
}

// Unread implements kernelView.
func (t *webSocketTransport) Unread() int {
	if kernel, ok := t.transport.(kernelView); ok {
		return kernel.Unread()
	}
	return 0
}

// SinceTCPAck implements kernelView.
func (t *webSocketTransport) SinceTCPAck() (ago time.Duration, known bool) {
	if kernel, ok := t.transport.(kernelView); ok {
		return kernel.SinceTCPAck()
	}
	return 0, false
}

// PeerEnded implements kernelView.
func (t *webSocketTransport) PeerEnded() bool {
	kernel, ok := t.transport.(kernelView)
	return ok && kernel.PeerEnded()
}

// The following are called with mu held.

// write is Write with mu held.
func (t *webSocketTransport) write(v [][]byte, wait bool) (n, pending int, err error) {
	o := t.out
	var pong *controlFrame
	switch {
	case t.closed:
		return 0, 0, net.ErrClosed
	case o == nil && len(v) == 0:
		_, _, err = t.transport.Write(nil, wait)
		return 0, 0, err
	case o == nil:
		o = newWSOutput()
		pong = t.addPong(o)
	case len(v) > 0 && o.payload() > 0:
		return 0, 0, errInOutMessage
	}
	o.addMessages(v)
	n, taken, err := t.pass(o, wait)
	t.releasePong(pong, taken)
	return n, t.keep(o, err), err
}

// pass passes bytes of o to the inner transport once. n counts the bytes of payload that it has
// accepted. taken says that it has accepted or holds any bytes, or has failed.
func (t *webSocketTransport) pass(o *wsOutput, wait bool) (n int, taken bool, err error) {
	var given, accepted, held int
	if o.held > 0 {
		accepted, held, err = t.transport.Write(nil, wait)
	} else {
		accepted, held, err = t.transport.Write(o.next(t.transport.MaxWrite()), wait)
		given = accepted + held
	}
	return o.written(given, accepted, held), accepted+held > 0 || err != nil, err
}

// keep keeps what must be written of o, after a pass that has returned err, and gives the rest up.
// It returns the bytes of payload that are pending for the caller of Write.
func (t *webSocketTransport) keep(o *wsOutput, err error) (pending int) {
	if err != nil {
		pending = o.heldPayload()
		t.closed, t.out = true, nil
		o.free()
		return pending
	}
	o.dropUnbegun()
	if len(o.frames) == 0 {
		t.out = nil
		o.free()
		return 0
	}
	t.out = o
	return o.payload()
}
