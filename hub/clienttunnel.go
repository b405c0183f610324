package hub

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// maxTunnelFrame is the largest frame that a hub sends to a client, in bytes.
const maxTunnelFrame = wire.MaxBodyLimit + 1<<10

// clientTunnel is the tunnel of a client whose session another hub has. What the other hub sends is
// queued in whole frames in the outbox of the connection, which a WebSocket needs, and which thus
// can end behind any of them.
//
// The other hub is permitted to send more when the client has accepted what came before, or while
// no frame waits for the client and a frame comes in parts. A client that does not read thus costs
// at most one frame, and the window of the tunnel.
type clientTunnel struct {
	// Static after newClientTunnel.
	conn     *conn
	options  outbox.Options
	answered chan error // capacity 1: nil when the other hub serves the client, or why it does not

	tunnel *cluster.Tunnel // static after open, which sets it with mu held

	// Owned by the read loop.
	id       uint64
	since    time.Time
	forwards bool // frames were forwarded by this goroutine
	header   [wire.HeaderSize]byte
	vector   [2][]byte

	// Owned by the methods of cluster.TunnelHandler, which are called one at a time.
	hasAnswered bool

	// mu guards the fields below.
	mu       sync.Mutex
	closed   bool         // nothing is queued any more
	received uint64       // bytes
	queued   uint64       // bytes that were queued for the client
	written  uint64       // bytes that the client has accepted, in whole batches
	waiting  []frameGroup // what the client has not accepted, in order
	head     []byte       // the start of a frame whose length has not come
	partial  *body.Buffer // the frame that comes in parts; nil: none
	filled   int          // bytes of partial that have come
	size     int          // of the frame in partial, in bytes
}

// frameGroup are frames of one batch that wait for the client.
type frameGroup struct{ frames, bytes int }

func newClientTunnel(c *conn) *clientTunnel {
	t := &clientTunnel{conn: c, answered: make(chan error, 1)}
	t.options = outbox.Options{Events: t, Overflow: outbox.OverflowForce}
	return t
}

// open opens the tunnel. It returns false if the other hub cannot be reached.
func (t *clientTunnel) open(hubs *cluster.Cluster, dest *relay.Remote, node cluster.Node, r *cluster.TunnelRequest) bool {
	t.mu.Lock() // HandleData waits until tunnel is set
	defer t.mu.Unlock()
	var err error
	t.tunnel, err = hubs.OpenTunnel(dest, node, r, t)
	return err == nil
}

// HandleData implements cluster.TunnelHandler.
func (t *clientTunnel) HandleData(p []byte) {
	t.mu.Lock()
	t.received += uint64(len(p))
	batches, err := t.split(p)
	passed := t.passed()
	t.mu.Unlock()
	t.answer(nil)
	if err != nil {
		t.HandleEnd(err)
		return
	}
	for i := range batches {
		t.conn.offerAndFlush(&batches[i])
	}
	t.tunnel.Grant(passed)
}

// HandleEnd implements cluster.TunnelHandler.
func (t *clientTunnel) HandleEnd(err error) {
	var end *cluster.TunnelEndError
	if t.answer(err) {
		return
	}
	if errors.As(err, &end) && end.Status != 0 {
		t.conn.sock.SetCloseStatus(socket.CloseStatus(end.Status))
	}
	t.conn.sock.Interrupt()
}

// answer makes err the answer of the other hub if there was none before, which it reports.
func (t *clientTunnel) answer(err error) (first bool) {
	if t.hasAnswered {
		return false
	}
	t.hasAnswered = true
	t.answered <- err
	return true
}

// HandleEvent implements outbox.EventHandler.
func (t *clientTunnel) HandleEvent(_ int, event outbox.Event, _, frames int) {
	if event != outbox.EventWritten {
		return
	}
	t.mu.Lock()
	for frames > 0 && len(t.waiting) > 0 {
		first := &t.waiting[0]
		n := min(frames, first.frames)
		frames, first.frames = frames-n, first.frames-n
		if first.frames == 0 {
			t.written += uint64(first.bytes)
			t.waiting = t.waiting[1:]
		}
	}
	if len(t.waiting) == 0 {
		t.waiting = nil
	}
	passed := t.passed()
	t.mu.Unlock()
	t.tunnel.Grant(passed)
}

// close releases memory when nothing is written any more.
func (t *clientTunnel) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.partial != nil {
		t.partial.Release()
		t.partial = nil
	}
}

// The following are called with mu held.

// passed returns the number of bytes that the other hub need not count any more.
func (t *clientTunnel) passed() uint64 {
	if t.written == t.queued {
		return t.received
	}
	return t.written
}

// split returns the whole frames that end in p, and keeps the start of the next one.
func (t *clientTunnel) split(p []byte) (batches []outbox.Batch, err error) {
	for len(p) > 0 && err == nil && !t.closed {
		switch {
		case t.partial != nil:
			n := copy(t.partial.Bytes()[t.filled:t.size], p)
			p, t.filled = p[n:], t.filled+n
		case len(t.head) > 0 || len(p) < wire.LengthSize:
			n := min(wire.LengthSize-len(t.head), len(p))
			t.head, p = append(t.head, p[:n]...), p[n:]
			if len(t.head) == wire.LengthSize {
				err = t.beginPartial(t.head)
				t.head = nil
			}
		default:
			if frames, n := wholeFrames(p); n > 0 {
				buffer := t.conn.account.ForceAcquire(n)
				batches = append(batches, t.newBatch(buffer, frames, copy(buffer.Bytes(), p[:n])))
				p = p[n:]
			} else {
				err = t.beginPartial(p[:wire.LengthSize])
				p = p[wire.LengthSize:]
			}
		}
		if t.partial != nil && t.filled == t.size {
			batches = append(batches, t.newBatch(t.partial, 1, t.size))
			t.partial = nil
		}
	}
	return batches, err
}

// wholeFrames returns the number of whole frames at the start of p, and their length in bytes.
func wholeFrames(p []byte) (frames, n int) {
	for {
		size, err := wire.Size(p[n:], maxTunnelFrame)
		if err != nil || size == 0 || size > len(p)-n {
			return frames, n
		}
		frames, n = frames+1, n+size
	}
}

// beginPartial begins a frame that comes in parts, and that begins with length.
func (t *clientTunnel) beginPartial(length []byte) error {
	after := binary.BigEndian.Uint32(length)
	if after > maxTunnelFrame-wire.LengthSize { // as an int of 32 bits, it could be negative
		return fmt.Errorf("%w: frame of %d bytes from the hub of the session", wire.ErrTooLong, after)
	}
	size := wire.LengthSize + int(after)
	t.partial, t.size = t.conn.account.ForceAcquire(size), size
	t.filled = copy(t.partial.Bytes(), length)
	return nil
}

// newBatch returns a batch for the client, which takes over the reference to buffer.
func (t *clientTunnel) newBatch(buffer *body.Buffer, frames, size int) outbox.Batch {
	t.queued += uint64(size)
	t.waiting = append(t.waiting, frameGroup{frames, size})
	return outbox.Batch{Buffer: buffer, To: size, Frames: frames, Options: &t.options}
}
