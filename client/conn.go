package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// maxUnsentBytes is how much of what was sent may wait in the kernel before MaxQueued
// counts the rest. A kernel that is left alone takes 4 MB for each client, and gets
// short of memory with hundreds of them (docs/decisions/0002).
const maxUnsentBytes = 256 << 10

// minWhole is the size above which the kernel is to hold a frame until all of it has come, in
// bytes: below it, the system calls that it takes cost more than it saves (docs/decisions/0002).
const minWhole = 256 << 10

// coalesceDelay is how long nothing must have been sent for Send to write by itself. Hot on
// the heels of a Send there may come many, which had better leave together: a place
// in line takes 0.2 µs, and a write about as long as quiet.
const coalesceDelay = 10 * time.Microsecond

// conn is one connection of a client.
type conn struct {
	// Static after wrapConn.
	client         *Client
	sock           *socket.Conn
	ackOptions     socket.Options // of a TAKEN
	verdictOptions socket.Options // of an ACK
	done           chan struct{}  // closed when the reading has ended
	onMessage      func(Message)  // Options.OnMessage; nil: messages go to the inbox
	openedAt       time.Time

	pending     pendingRequests
	welcomeDone chan struct{} // closed when WELCOME has come

	// Owned by the reading goroutine.
	entries     []entry
	welcome     *wire.Welcome // nil: it has not come
	goAway      *wire.GoAway  // nil: neither has this
	isV1        bool          // the identity came without WELCOME: the hub speaks version 1
	token       string        // that was shown on it
	maxBody     int           // of a message that comes, in bytes
	read        position      // what has come of what is counted
	duplicates  uint64        // so many of it come a second time
	verdictSink *verdictSink  // of its messages
	bytesRead   int64         // bytes that are in the statistics
	timer       *time.Timer   // of the greeting, and then of the keep-alive

	stopClose func() bool // stops closing conn with the client's life

	keepAliveTimedOut atomic.Bool // nothing came for two keep-alive intervals
	welcomeTimedOut   atomic.Bool // WELCOME did not come in the time of the attempt

	renewal *renewal    // nil: its token has no end, or there will be no other
	renewed atomic.Bool // there is a newer token, with which the client comes back
}

// wrapConn makes a connection the client's. It says and reads nothing yet.
func wrapConn(c *Client, nc net.Conn) *conn {
	o := &c.options
	if o.ReadBuffer > 0 {
		socket.SetReadBuffer(nc, o.ReadBuffer)
	}
	cn := &conn{client: c, onMessage: o.OnMessage, done: make(chan struct{}), openedAt: time.Now(), maxBody: o.MaxBody, welcomeDone: make(chan struct{})}
	cn.pending.sendMu = make(chan struct{}, 1)
	cn.ackOptions = socket.Options{Events: writtenFunc(c.inbox.onAckWritten), Overflow: socket.OverflowForce}
	cn.verdictOptions = socket.Options{Events: writtenFunc(func() { c.verdicts.onWritten(cn) }), Overflow: socket.OverflowForce}
	cn.sock = socket.New(nc, &socket.Config{
		MaxLength:      o.maxLength(),
		FrameTimeout:   o.FrameTimeout,
		MaxOutboxBytes: o.MaxQueued,
		MaxUnsentBytes: maxUnsentBytes,
		CoalesceDelay:  coalesceDelay,
		MinWhole:       minWhole,
		RetainsFrames:  o.OnMessage == nil,
	}, connHandler{cn})
	return cn
}

// writtenFunc is told of frames that have left, or never will.
type writtenFunc func()

// HandleEvent tells it: see socket.EventHandler.
func (f writtenFunc) HandleEvent(_ int, event socket.Event, _, _ int) {
	if event == socket.EventWritten || event == socket.EventLost {
		f()
	}
}

// connHandler is the link as its connection knows it.
type connHandler struct{ conn *conn }

func (connHandler) Account() *body.Account { return nil }

func (h connHandler) Done() <-chan struct{} { return h.conn.done }

func (h connHandler) OnWritten(n socket.Counts) { h.conn.client.counts.onWritten(n) }

func (h connHandler) OnLost(n socket.Counts) { h.conn.client.counts.onDropped(n) }

// OnWriteError ends the sending at once, and the reading when it has taken what the hub
// sent before the connection broke.
func (h connHandler) OnWriteError(err error) {
	h.conn.pending.close(fmt.Errorf("%w: %w", ErrConnectionLost, err))
	h.conn.sock.StopWhenEmpty()
}

// sendBatch sends frames of the client's own, which always find room.
func (cn *conn) sendBatch(b *socket.Batch) {
	f := flushers.Get().(*socket.Flusher)
	cn.sock.Offer(b, f)
	f.Abandon()
	flushers.Put(f)
}

// forceOptions are the terms of frames that the client sends on its own.
var forceOptions = socket.Options{Overflow: socket.OverflowForce}

// byeOptions are the terms of a BYE. The hub closes when it has read that: if there were more to read, it would
// reset the connection, and what it has taken would not be known.
var byeOptions = socket.Options{Overflow: socket.OverflowForce, Last: true}

// sendFrame is tell for one frame.
func (cn *conn) sendFrame(frame []byte, options *socket.Options) {
	buffer := body.Get(len(frame))
	defer buffer.Release()
	cn.sendBatch(&socket.Batch{Buffer: buffer, To: copy(buffer.Bytes(), frame), Frames: 1, Options: options})
}

// close ends a connection that is not read any more, for that reason.
func (cn *conn) close(err error) {
	if cn.timer != nil {
		cn.timer.Stop()
	}
	if cn.stopClose != nil {
		cn.stopClose()
	}
	cn.stopRenewal()
	cn.client.detach(cn)
	close(cn.done)
	cn.sock.Close()
	cn.pending.close(err) // those who wait find out that the client is over, or ask again
	cn.sock.ReleaseAll()
	cn.sock.Wait()
}

// readLoop reads until the connection is over, and returns why it is.
func (cn *conn) readLoop() error {
	c := cn.client
	for {
		if err := cn.sock.Fill(); err != nil {
			return wrapReadError(err)
		}
		urgent, err := cn.handleFrames()
		bytesRead := cn.sock.BytesRead()
		c.counts.bytesIn.Add(uint64(bytesRead - cn.bytesRead))
		cn.bytesRead = bytesRead
		hasRoom := c.inbox.push(cn.entries, cn.read, urgent, cn.sock.More())
		clear(cn.entries)
		cn.entries = cn.entries[:0]
		if err != nil {
			return err
		}
		if !hasRoom {
			c.inbox.waitNotFull(c.done, c.closing)
		}
	}
}

// handleFrames handles all whole frames of one read, and appends the messages among
// them to batch. It reports whether somebody waits to hear of them.
func (cn *conn) handleFrames() (urgent bool, err error) {
	var f socket.Frame
	var d, v1 wire.Deliver // classic has a body alone
	frames, messages := uint64(0), uint64(0)
	defer func() {
		cn.client.counts.messagesIn.Add(frames)
		cn.client.counts.deliveries.Add(messages)
	}()
	for {
		ok, err := cn.sock.Next(&f)
		if err != nil {
			return urgent, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if !ok {
			return urgent, nil
		}
		frames++
		switch f.Type {
		case wire.TypeRelay:
			v1.Body = f.Payload
			if err = cn.handleMessage(&f, &v1, cn.read); err == nil {
				messages++
			}
		case wire.TypeDeliver:
			before := cn.read
			if ok, err = cn.parseDeliver(&f, &d); ok {
				urgent = urgent || d.Flags != 0
				if err = cn.handleMessage(&f, &d, before); err == nil {
					messages++
				}
			}
		default:
			err = cn.handleControl(&f)
		}
		if err != nil {
			return urgent, err
		}
	}
}

// parseDeliver reads a message of version 2. It reports whether that is new, and did not come before.
func (cn *conn) parseDeliver(f *socket.Frame, d *wire.Deliver) (bool, error) {
	if cn.welcome == nil {
		return false, unexpectedFrameError(f.Type)
	}
	if err := d.Parse(f.Payload); err != nil {
		return false, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return cn.countFrame(f), nil
}

// handleMessage takes a message in, or hands it over at once. before is where the counting stood before
// it.
func (cn *conn) handleMessage(f *socket.Frame, d *wire.Deliver, before position) error {
	if len(d.Body) > cn.maxBody {
		return fmt.Errorf("%w: body of %d bytes, at most %d are allowed", ErrProtocol, len(d.Body), cn.maxBody)
	}
	// Field by field: a composite literal is built in memory in small stores and copied by larger
	// loads, which wait for the stores (docs/decisions/0016).
	var m Message
	m.Body = d.Body[:len(d.Body):len(d.Body)]
	m.From, m.Seq, m.unixMicros = d.Sender, d.Seq, d.Time
	if d.Flags&wire.DeliverWantVerdict != 0 {
		m.verdicts = cn.verdictSink
	}
	if cn.onMessage != nil {
		if cn.client.callbacksDisabled.Load() {
			return ErrClosed
		}
		cn.onMessage(m)
		return nil
	}
	f.Buffer.Retain()
	m.buffer = f.Buffer
	cn.entries = append(cn.entries, entry{m, before})
	return nil
}

// countFrame counts a frame. It returns false when it came before.
func (cn *conn) countFrame(f *socket.Frame) bool {
	if cn.duplicates > 0 {
		cn.duplicates--
		return false
	}
	cn.read.frames++
	cn.read.bytes += uint64(wire.HeaderSize + len(f.Payload))
	return true
}

// handleControl handles what is no message. Messages before it go to the inbox first: what is
// true on the wire is true in the program.
func (cn *conn) handleControl(f *socket.Frame) error {
	c := cn.client
	if f.Type != wire.TypeReport && f.Type != wire.TypeAck {
		c.inbox.push(cn.entries, cn.read, false, true)
		clear(cn.entries)
		cn.entries = cn.entries[:0]
	}
	if (f.Type >= wire.TypeHello && f.Type <= wire.TypeAck || f.Type == wire.TypeSkip) && cn.welcome == nil && f.Type != wire.TypeWelcome && f.Type != wire.TypeGoAway {
		return unexpectedFrameError(f.Type)
	}
	if f.Type == wire.TypeIdentity && cn.welcome == nil {
		cn.isV1 = true
	}
	err := cn.dispatchControl(f)
	if errors.Is(err, wire.ErrMalformed) {
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return err
}

func (cn *conn) dispatchControl(f *socket.Frame) error {
	c := cn.client
	switch f.Type {
	case wire.TypeReport:
		r, err := wire.ParseReport(f.Payload)
		if err != nil || !cn.countFrame(f) {
			return err
		}
		return c.sendQueue.handleReport(r)
	case wire.TypeSkip:
		cn.countFrame(f)
		return nil
	case wire.TypeAck:
		upTo, err := wire.ParseUint64(f.Payload)
		if err != nil {
			return err
		}
		return c.sendQueue.handleAck(upTo)
	case wire.TypePing:
		n, err := wire.ParseUint64(f.Payload)
		if err == nil {
			c.sendAck() // the hub may be short of memory
			cn.sendFrame(wire.AppendPong(nil, n), &forceOptions)
		}
		return err
	case wire.TypePong:
		n, err := wire.ParseUint64(f.Payload)
		switch {
		case err != nil:
			return err
		case n == 0:
			return deliverReply(&cn.pending, &cn.pending.ping, struct{}{})
		}
		c.verdicts.confirm(cn, n-1)
		return nil
	case wire.TypePresence:
		p, err := wire.ParsePresence(f.Payload)
		if err == nil {
			c.presence.handlePresence(&p)
		}
		return err
	case wire.TypeError:
		e, err := wire.ParseError(f.Payload)
		if err == nil {
			c.handleError(&e)
		}
		return err
	case wire.TypeWelcome:
		return cn.handleWelcome(f.Payload)
	case wire.TypeGoAway:
		g, err := wire.ParseGoAway(f.Payload)
		if err == nil {
			cn.goAway = &g
		}
		return err
	default:
		return cn.pending.handleReply(f, cn.welcome != nil)
	}
}

func unexpectedFrameError(t wire.Type) error {
	return fmt.Errorf("%w: frame of unknown type %d", ErrProtocol, uint8(t))
}

// wrapReadError says in the client's words why the reading ended.
func wrapReadError(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return ErrHubClosed
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w in the middle of a frame", ErrHubClosed)
	default:
		return fmt.Errorf("%w: %w", ErrConnectionLost, err)
	}
}

// probe asks the hub for a sign of life. When it answers, it has heard the verdicts
// that were sent before, and has told what it has taken.
func (cn *conn) probe() {
	written := cn.client.verdicts.writtenCount(cn)
	cn.sendFrame(wire.AppendPing(nil, 1+written), &forceOptions)
}
