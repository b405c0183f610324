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

// maxUnsentBytes is how many unsent bytes the kernel can hold before MaxQueued counts the rest.
// By default a kernel takes 4 MB per client, and runs short of memory with hundreds of clients
// (docs/decisions/0002).
const maxUnsentBytes = 256 << 10

// minWhole is the frame size, in bytes, above which the kernel holds a frame until all of it
// has arrived. Below that size, the additional system calls cost more than they save
// (docs/decisions/0002).
const minWhole = 256 << 10

// coalesceDelay is how long the outbox must have been idle before Send writes directly. Many
// Sends often follow one another, and are better written together: to queue a message takes 0.2
// µs, and a write takes about coalesceDelay.
const coalesceDelay = 10 * time.Microsecond

// conn is one connection of a client.
type conn struct {
	// Static after wrapConn.
	client         *Client
	sock           *socket.Conn
	ackOptions     socket.Options // of ACK frames
	verdictOptions socket.Options // of VERDICT frames
	done           chan struct{}  // closed when readLoop has ended
	onMessage      func(Message)  // Options.OnMessage; nil: messages go to the inbox
	openedAt       time.Time

	pending     pendingRequests
	welcomeDone chan struct{} // closed when WELCOME has come

	// Owned by the read goroutine.
	entries     []entry
	welcome     *wire.Welcome // nil before WELCOME
	goAway      *wire.GoAway  // nil before GOAWAY
	isV1        bool          // the identity came before a WELCOME: the hub speaks version 1
	token       string        // shown in HELLO
	maxBody     int           // of a received message, in bytes
	read        position      // position after the last counted frame
	duplicates  uint64        // number of counted frames that the hub will send a second time
	verdictSink *verdictSink  // for verdicts on messages of this connection
	bytesRead   int64         // already added to Client.counts
	timer       *time.Timer   // handshake timeout; stopped by WELCOME

	stopClose func() bool // removes the context.AfterFunc that closes sock when the client ends

	keepAliveTimedOut atomic.Bool // no bytes came for two keep-alive intervals
	welcomeTimedOut   atomic.Bool // no WELCOME came within the dial timeout

	renewal *renewal    // nil if the token does not expire, or cannot be renewed
	renewed atomic.Bool // a renewed token is there: the client reconnects with it
}

// wrapConn returns a conn for nc. It neither reads nor writes.
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

// writtenFunc is a socket.EventHandler that is called when a frame has been written or lost.
type writtenFunc func()

// HandleEvent implements socket.EventHandler.
func (f writtenFunc) HandleEvent(_ int, event socket.Event, _, _ int) {
	if event == socket.EventWritten || event == socket.EventLost {
		f()
	}
}

// connHandler is the socket.Handler of a conn.
type connHandler struct{ conn *conn }

func (connHandler) Account() *body.Account { return nil }

func (h connHandler) Done() <-chan struct{} { return h.conn.done }

func (h connHandler) OnWritten(n socket.Counts) { h.conn.client.counts.onWritten(n) }

func (h connHandler) OnLost(n socket.Counts) { h.conn.client.counts.onDropped(n) }

// OnWriteError stops writing at once. Reading goes on until all bytes that the hub had sent
// before the connection broke are handled.
func (h connHandler) OnWriteError(err error) {
	h.conn.pending.close(fmt.Errorf("%w: %w", ErrConnectionLost, err))
	h.conn.sock.StopWhenEmpty()
}

// sendBatch queues control frames. Their options are OverflowForce, because of which they never
// block.
func (cn *conn) sendBatch(b *socket.Batch) {
	f := flushers.Get().(*socket.Flusher)
	cn.sock.Offer(b, f)
	f.Abandon()
	flushers.Put(f)
}

// forceOptions are the options of control frames.
var forceOptions = socket.Options{Overflow: socket.OverflowForce}

// byeOptions are the options of BYE, the last frame on a connection. The hub closes the
// connection after BYE. If unread frames followed, the close would reset the connection, and
// the client would not learn which messages the hub has acknowledged.
var byeOptions = socket.Options{Overflow: socket.OverflowForce, Last: true}

// sendFrame is sendBatch for one frame. It copies frame.
func (cn *conn) sendFrame(frame []byte, options *socket.Options) {
	buffer := body.Get(len(frame))
	defer buffer.Release()
	cn.sendBatch(&socket.Batch{Buffer: buffer, To: copy(buffer.Bytes(), frame), Frames: 1, Options: options})
}

// close ends cn with err. readLoop must have returned.
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
	cn.pending.close(err) // the waiters retry on the next connection, or see that the client has ended
	cn.sock.ReleaseAll()
	cn.sock.Wait()
}

// readLoop reads and handles frames until the connection ends, and returns why it ended.
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

// handleFrames handles all complete frames of one read, and appends the messages among them to
// entries. It reports whether a sender waits for a report on one of them.
func (cn *conn) handleFrames() (urgent bool, err error) {
	var f socket.Frame
	var d, v1 wire.Deliver // version 1 has only a body
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

// parseDeliver parses and counts a DELIVER. It returns false for a duplicate of a frame that
// came on an earlier connection.
func (cn *conn) parseDeliver(f *socket.Frame, d *wire.Deliver) (bool, error) {
	if cn.welcome == nil {
		return false, unexpectedFrameError(f.Type)
	}
	if err := d.Parse(f.Payload); err != nil {
		return false, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return cn.countFrame(f), nil
}

// handleMessage passes a message to OnMessage, or appends it to entries. before is the position
// before the message.
func (cn *conn) handleMessage(f *socket.Frame, d *wire.Deliver, before position) error {
	if len(d.Body) > cn.maxBody {
		return fmt.Errorf("%w: body of %d bytes, at most %d are allowed", ErrProtocol, len(d.Body), cn.maxBody)
	}
	// The fields are set one by one: a composite literal is built in memory by small stores and
	// copied by larger loads, which wait for the stores (docs/decisions/0016).
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

// countFrame counts a reliable frame. It returns false for a duplicate.
func (cn *conn) countFrame(f *socket.Frame) bool {
	if cn.duplicates > 0 {
		cn.duplicates--
		return false
	}
	cn.read.frames++
	cn.read.bytes += uint64(wire.HeaderSize + len(f.Payload))
	return true
}

// handleControl handles frames that are not messages. It first moves the messages before the
// frame to the inbox: the application sees messages and replies in the order of the wire.
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

// wrapReadError translates a read error into an error of this package.
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

// probe sends a PING. The PONG confirms the verdicts that were written before, and the hub
// sends a pending ACK before the PONG.
func (cn *conn) probe() {
	written := cn.client.verdicts.writtenCount(cn)
	cn.sendFrame(wire.AppendPing(nil, 1+written), &forceOptions)
}
