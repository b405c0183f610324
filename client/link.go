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

// unsentBytes is how much of what was sent may wait in the kernel before MaxQueued
// counts the rest. A kernel that is left alone takes 4 MB for each client, and gets
// short of memory with hundreds of them (docs/decisions/0002).
const unsentBytes = 256 << 10

// minWhole is the size above which the kernel is to hold a frame until all of it has come, in
// bytes: below it, the system calls that it takes cost more than it saves (docs/decisions/0002).
const minWhole = 256 << 10

// quiet is how long nothing must have been sent for Send to write by itself. Hot on
// the heels of a Send there may come many, which had better leave together: a place
// in line takes 0.2 µs, and a write about as long as quiet.
const quiet = 10 * time.Microsecond

// link is one connection of a client.
type link struct {
	// Static after newLink.
	client    *Client
	conn      *socket.Conn
	taken     socket.Terms  // of a TAKEN
	verdicts  socket.Terms  // of an ACK
	over      chan struct{} // closed when the reading has ended
	onMessage func(Message) // Options.OnMessage; nil: messages go to the inbox
	began     time.Time

	pending pending
	greeted chan struct{} // closed when WELCOME has come

	// Owned by the reading goroutine.
	batch   []entry
	welcome *wire.Welcome // nil: it has not come
	away    *wire.GoAway  // nil: neither has this
	classic bool          // the identity came without WELCOME: the hub speaks version 1
	token   string        // that was shown on it
	maxBody int           // of a message that comes, in bytes
	read    mark          // what has come of what is counted
	skip    uint64        // so many of it come a second time
	judge   *judge        // of its messages
	brought int64         // bytes that are in the statistics
	timer   *time.Timer   // of the greeting, and then of the keep-alive

	forget func() bool // stops closing conn with the client's life

	silent atomic.Bool // nothing came for two keep-alive intervals
	late   atomic.Bool // WELCOME did not come in the time of the attempt

	renewal *renewal    // nil: its token has no end, or there will be no other
	renewed atomic.Bool // there is a newer token, with which the client comes back
}

// newLink makes a connection the client's. It says and reads nothing yet.
func newLink(c *Client, nc net.Conn) *link {
	o := &c.options
	if o.ReadBuffer > 0 {
		socket.LimitUnread(nc, o.ReadBuffer)
	}
	l := &link{client: c, onMessage: o.OnMessage, over: make(chan struct{}), began: time.Now(), maxBody: o.MaxBody, greeted: make(chan struct{})}
	l.pending.turn = make(chan struct{}, 1)
	l.taken = socket.Terms{Tracker: parted(c.inbox.told), IfFull: socket.Insist}
	l.verdicts = socket.Terms{Tracker: parted(func() { c.verdicts.said(l) }), IfFull: socket.Insist}
	l.conn = socket.New(nc, &socket.Config{
		MaxLength:    o.maxLength(),
		FrameTimeout: o.FrameTimeout,
		OutboxBytes:  o.MaxQueued,
		UnsentBytes:  unsentBytes,
		Quiet:        quiet,
		MinWhole:     minWhole,
		Keep:         o.OnMessage == nil,
	}, owner{l})
	return l
}

// parted is told of frames that have left, or never will.
type parted func()

// Progress tells it: see socket.Tracker.
func (f parted) Progress(_ int, what socket.Progress, _, _ int) {
	if what == socket.Written || what == socket.Unsent {
		f()
	}
}

// owner is the link as its connection knows it.
type owner struct{ l *link }

func (owner) Account() *body.Account { return nil }

func (o owner) Done() <-chan struct{} { return o.l.over }

func (o owner) Sent(t socket.Tally) { o.l.client.counts.wrote(t) }

func (o owner) Lost(t socket.Tally) { o.l.client.counts.lose(t) }

// Failed ends the sending at once, and the reading when it has taken what the hub
// sent before the connection broke.
func (o owner) Failed(err error) {
	o.l.pending.close(fmt.Errorf("%w: %w", ErrLost, err))
	o.l.conn.Finish()
}

// tell sends frames of the client's own, which always find room.
func (l *link) tell(p *socket.Piece) {
	d := dispatches.Get().(*socket.Dispatch)
	l.conn.Offer(p, d)
	d.Leave()
	dispatches.Put(d)
}

// insisting are the terms of frames that the client sends on its own.
var insisting = socket.Terms{IfFull: socket.Insist}

// last are the terms of a BYE. The hub closes when it has read that: if there were more to read, it would
// reset the connection, and what it has taken would not be known.
var last = socket.Terms{IfFull: socket.Insist, Last: true}

// say is tell for one frame.
func (l *link) say(frame []byte, terms *socket.Terms) {
	buffer := body.Get(len(frame))
	defer buffer.Release()
	l.tell(&socket.Piece{Buffer: buffer, To: copy(buffer.Bytes(), frame), Frames: 1, Terms: terms})
}

// finish ends a connection that is not read any more, for that reason.
func (l *link) finish(why error) {
	if l.timer != nil {
		l.timer.Stop()
	}
	if l.forget != nil {
		l.forget()
	}
	l.endRenewal()
	l.client.detach(l)
	close(l.over)
	l.conn.Close()
	l.pending.close(why) // those who wait find out that the client is over, or ask again
	l.conn.Drop()
	l.conn.Wait()
}

// serve reads until the connection is over, and returns why it is.
func (l *link) serve() error {
	c := l.client
	for {
		if err := l.conn.Fill(); err != nil {
			return readError(err)
		}
		urgent, err := l.turn()
		brought := l.conn.Brought()
		c.counts.bytesIn.Add(uint64(brought - l.brought))
		l.brought = brought
		open := c.inbox.push(l.batch, l.read, urgent, l.conn.More())
		clear(l.batch)
		l.batch = l.batch[:0]
		if err != nil {
			return err
		}
		if !open {
			c.inbox.await(c.done, c.closing)
		}
	}
}

// turn handles all whole frames of one read, and appends the messages among
// them to batch. It reports whether somebody waits to hear of them.
func (l *link) turn() (urgent bool, err error) {
	var f socket.Frame
	var d, classic wire.Deliver // classic has a body alone
	frames, messages := uint64(0), uint64(0)
	defer func() {
		l.client.counts.messagesIn.Add(frames)
		l.client.counts.deliveries.Add(messages)
	}()
	for {
		ok, err := l.conn.Next(&f)
		if err != nil {
			return urgent, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if !ok {
			return urgent, nil
		}
		frames++
		switch f.Type {
		case wire.TypeRelay:
			classic.Body = f.Payload
			if err = l.message(&f, &classic, l.read); err == nil {
				messages++
			}
		case wire.TypeDeliver:
			before := l.read
			if ok, err = l.deliver(&f, &d); ok {
				urgent = urgent || d.Flags != 0
				if err = l.message(&f, &d, before); err == nil {
					messages++
				}
			}
		default:
			err = l.other(&f)
		}
		if err != nil {
			return urgent, err
		}
	}
}

// deliver reads a message of version 2. It reports whether that is new, and did not come before.
func (l *link) deliver(f *socket.Frame, d *wire.Deliver) (bool, error) {
	if l.welcome == nil {
		return false, unexpected(f.Type)
	}
	if err := d.Parse(f.Payload); err != nil {
		return false, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return l.count(f), nil
}

// message takes a message in, or hands it over at once. before is where the counting stood before
// it.
func (l *link) message(f *socket.Frame, d *wire.Deliver, before mark) error {
	if len(d.Body) > l.maxBody {
		return fmt.Errorf("%w: body of %d bytes, at most %d are allowed", ErrProtocol, len(d.Body), l.maxBody)
	}
	// Field by field: a composite literal is built in memory in small stores and copied by larger
	// loads, which wait for the stores (docs/decisions/0016).
	var m Message
	m.Body = d.Body[:len(d.Body):len(d.Body)]
	m.From, m.Seq, m.micros = d.Sender, d.Seq, d.Time
	if d.Flags&wire.FlagProcessed != 0 {
		m.judge = l.judge
	}
	if l.onMessage != nil {
		if l.client.abandoned.Load() {
			return ErrClosed
		}
		l.onMessage(m)
		return nil
	}
	f.Buffer.Retain()
	m.buffer = f.Buffer
	l.batch = append(l.batch, entry{m, before})
	return nil
}

// count counts a frame. It returns false when it came before.
func (l *link) count(f *socket.Frame) bool {
	if l.skip > 0 {
		l.skip--
		return false
	}
	l.read.frames++
	l.read.bytes += uint64(wire.HeaderSize + len(f.Payload))
	return true
}

// other handles what is no message. Messages before it go to the inbox first: what is
// true on the wire is true in the program.
func (l *link) other(f *socket.Frame) error {
	c := l.client
	if f.Type != wire.TypeReport && f.Type != wire.TypeTaken {
		c.inbox.push(l.batch, l.read, false, true)
		clear(l.batch)
		l.batch = l.batch[:0]
	}
	if (f.Type >= wire.TypeHello && f.Type <= wire.TypeTaken || f.Type == wire.TypeSkip) && l.welcome == nil && f.Type != wire.TypeWelcome && f.Type != wire.TypeGoAway {
		return unexpected(f.Type)
	}
	if f.Type == wire.TypeIdentity && l.welcome == nil {
		l.classic = true
	}
	err := l.handle(f)
	if errors.Is(err, wire.ErrMalformed) {
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return err
}

func (l *link) handle(f *socket.Frame) error {
	c := l.client
	switch f.Type {
	case wire.TypeReport:
		r, err := wire.ParseReport(f.Payload)
		if err != nil || !l.count(f) {
			return err
		}
		return c.outgoing.report(r)
	case wire.TypeSkip:
		l.count(f)
		return nil
	case wire.TypeTaken:
		upTo, err := wire.ParseNumber(f.Payload)
		if err != nil {
			return err
		}
		return c.outgoing.taken(upTo)
	case wire.TypePing:
		n, err := wire.ParseNumber(f.Payload)
		if err == nil {
			c.tellReceived() // the hub may be short of memory
			l.say(wire.AppendPong(nil, n), &insisting)
		}
		return err
	case wire.TypePong:
		n, err := wire.ParseNumber(f.Payload)
		switch {
		case err != nil:
			return err
		case n == 0:
			return answer(&l.pending, &l.pending.ping, struct{}{})
		}
		c.verdicts.confirm(l, n-1)
		return nil
	case wire.TypePresence:
		p, err := wire.ParsePresence(f.Payload)
		if err == nil {
			c.watching.take(&p)
		}
		return err
	case wire.TypeError:
		e, err := wire.ParseError(f.Payload)
		if err == nil {
			c.refused(&e)
		}
		return err
	case wire.TypeWelcome:
		return l.welcomed(f.Payload)
	case wire.TypeGoAway:
		g, err := wire.ParseGoAway(f.Payload)
		if err == nil {
			l.away = &g
		}
		return err
	default:
		return l.pending.settle(f, l.welcome != nil)
	}
}

func unexpected(t wire.Type) error {
	return fmt.Errorf("%w: frame of unknown type %d", ErrProtocol, uint8(t))
}

// readError says in the client's words why the reading ended.
func readError(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return ErrHubClosed
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w in the middle of a frame", ErrHubClosed)
	default:
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
}

// probe asks the hub for a sign of life. When it answers, it has heard the verdicts
// that were sent before, and has told what it has taken.
func (l *link) probe() {
	heard := l.client.verdicts.mark(l)
	l.say(wire.AppendPing(nil, 1+heard), &insisting)
}
