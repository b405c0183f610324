package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// reader reads the frames of one connection and passes them to the parts of the session. The
// read goroutine owns it, except where a field says otherwise.
type reader struct {
	// Static after newReader.
	session     *session
	conn        *conn
	endpoint    int           // index of the endpoint of conn
	onMessage   func(Message) // Options.OnMessage; nil: messages go to the inbox
	welcomeDone chan struct{} // closed when WELCOME has come

	entries     []entry       // messages of the current read
	welcome     *wire.Welcome // nil before WELCOME
	goAway      *wire.GoAway  // nil before GOAWAY
	isV1        bool          // the identity came before a WELCOME: the hub speaks version 1
	token       string        // the last one that the hub has accepted, or the one in HELLO
	maxBody     int           // of a received message, in bytes
	read        position      // position after the last counted frame
	duplicates  uint64        // number of counted frames that the hub will send a second time
	verdictSink *verdictSink  // for verdicts on messages of this connection
	bytesRead   int64         // already added to session.counts

	handshakeTimer   *time.Timer // nil for the first connection: Dial has a context
	handshakeTimeout atomic.Bool // set by handshakeTimer: no WELCOME came in time
	stopClose        func() bool // removes the context.AfterFunc that closes conn when the client ends

	keepAlive *keepAlive // nil before WELCOME
	renewal   *renewal   // nil if the token does not expire, or cannot be renewed
}

// newReader returns a reader of nc, a connection to that endpoint. It makes nc a conn.
func newReader(s *session, nc net.Conn, endpoint int) *reader {
	return &reader{
		session: s, conn: newConn(nc, &s.options, &s.counts), endpoint: endpoint, onMessage: s.options.OnMessage,
		welcomeDone: make(chan struct{}), maxBody: s.options.MaxBody,
	}
}

// limitHandshake closes the connection when no WELCOME has come within timeout, or when the
// client ends. Until WELCOME, session.conns is empty and session.end cannot close it.
func (r *reader) limitHandshake(timeout time.Duration) {
	r.stopClose = context.AfterFunc(r.session.life.ctx, func() { r.conn.sock.Close() })
	r.handshakeTimer = time.AfterFunc(timeout, func() {
		r.handshakeTimeout.Store(true)
		r.conn.sock.Close()
	})
}

// sendHello sends HELLO and an identity request. A hub of version 1 ignores HELLO and replies
// to the identity request; because of this, the client can tell version 1 from a slow hub. It
// returns the channel for the identity.
func (r *reader) sendHello(token string) (identity <-chan uint64) {
	pending := &r.conn.pending
	identity = addWaiter(pending, &pending.identity)
	var frames []byte
	if r.session.options.Version != 1 {
		hello, read := r.session.hello()
		hello.Token, r.token = token, token
		r.read, r.duplicates = read, read.frames-hello.Received
		frames = wire.AppendHello(frames, &hello)
	}
	r.conn.sendFrame(wire.AppendIdentityRequest(frames), &forceOptions)
	return identity
}

// handleWelcome handles WELCOME: it starts a session of version 2 or resumes one.
func (r *reader) handleWelcome(payload []byte) error {
	s := r.session
	w, err := wire.ParseWelcome(payload)
	switch {
	case err != nil:
		return err
	case r.welcome != nil, s.options.Version == 1, r.isV1:
		return unexpectedFrameError(wire.TypeWelcome)
	case !s.acceptsWelcome(&w):
		return fmt.Errorf("%w: WELCOME %s", ErrProtocol, payload)
	}
	if !w.Resumed {
		r.duplicates = 0
	}
	r.welcome = &w
	s.connectedTo.Store(int64(r.endpoint))
	state := s.attach(r.conn, &w)
	r.read, r.verdictSink = state.read, state.sink
	if s.maxBodyUnset {
		r.maxBody = min(max(r.maxBody, w.MaxBody, w.MaxDeliver), wire.MaxBodyLimit)
		r.conn.sock.SetMaxLength(s.options.maxLengthFor(r.maxBody))
	}
	r.startTimers(&w)
	if err := s.resume(r.conn, &w, state); err != nil {
		return err
	}
	close(r.welcomeDone)
	return nil
}

// startTimers ends the limit of the handshake, and starts what watches over a connection after
// it: the keep-alive monitor and the renewal of the token.
func (r *reader) startTimers(w *wire.Welcome) {
	s := r.session
	if r.handshakeTimer != nil {
		r.handshakeTimer.Stop()
	}
	r.keepAlive = startKeepAlive(r.conn, time.Duration(w.Keepalive)*time.Millisecond, func() { s.verdicts.probe(r.conn) })
	if w.Expires > 0 && s.options.GetToken != nil && s.canReconnect() {
		r.renewal = startRenewal(r.conn, &s.options, &s.life, r.token, tokenLifetime(w.Expires), w.Renew)
	}
}

// close ends the connection with err. readLoop must have returned.
func (r *reader) close(err error) {
	if r.handshakeTimer != nil {
		r.handshakeTimer.Stop()
	}
	if r.stopClose != nil {
		r.stopClose()
	}
	if r.renewal != nil {
		r.renewal.stop()
	}
	r.session.detach(r.conn)
	r.conn.close(err)
}

// readLoop reads and handles frames until the connection ends, and returns why it ended.
func (r *reader) readLoop() error {
	s := r.session
	for {
		if err := r.conn.sock.Fill(); err != nil {
			return wrapReadError(err)
		}
		urgent, err := r.handleFrames()
		bytesRead := r.conn.sock.BytesRead()
		s.counts.bytesIn.Add(uint64(bytesRead - r.bytesRead))
		r.bytesRead = bytesRead
		hasRoom := s.inbox.push(r.entries, r.read, urgent, r.conn.sock.More())
		clear(r.entries)
		r.entries = r.entries[:0]
		if err != nil {
			return err
		}
		if !hasRoom {
			s.inbox.waitNotFull(s.life.Done(), s.life.closing)
		}
	}
}

// handleFrames handles all complete frames of one read, and appends the messages among them to
// entries. It reports whether a sender waits for a report on one of them.
func (r *reader) handleFrames() (urgent bool, err error) {
	var f socket.Frame
	var d, v1 wire.Deliver // version 1 has only a body
	frames, messages := uint64(0), uint64(0)
	defer func() {
		r.session.counts.messagesIn.Add(frames)
		r.session.counts.deliveries.Add(messages)
	}()
	for {
		ok, err := r.conn.sock.Next(&f)
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
			if err = r.handleMessage(&f, &v1, r.read); err == nil {
				messages++
			}
		case wire.TypeDeliver:
			before := r.read
			if ok, err = r.parseDeliver(&f, &d); ok {
				urgent = urgent || d.Flags != 0
				if err = r.handleMessage(&f, &d, before); err == nil {
					messages++
				}
			}
		default:
			err = r.handleControl(&f)
		}
		if err != nil {
			return urgent, err
		}
	}
}

// parseDeliver parses and counts a DELIVER. It returns false for a duplicate of a frame that
// came on an earlier connection, and for a message that its sender has sent again.
func (r *reader) parseDeliver(f *socket.Frame, d *wire.Deliver) (bool, error) {
	if r.welcome == nil {
		return false, unexpectedFrameError(f.Type)
	}
	if err := d.Parse(f.Payload); err != nil {
		return false, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return r.countFrame(f) && !(r.session.repeats.enabled && r.session.repeats.isRepeat(d)), nil
}

// handleMessage passes a message to OnMessage, or appends it to entries. before is the position
// before the message.
func (r *reader) handleMessage(f *socket.Frame, d *wire.Deliver, before position) error {
	if len(d.Body) > r.maxBody {
		return fmt.Errorf("%w: body of %d bytes, at most %d are allowed", ErrProtocol, len(d.Body), r.maxBody)
	}
	// The fields are set one by one: a composite literal is built in memory by small stores and
	// copied by larger loads, which wait for the stores (docs/decisions/0016).
	var m Message
	m.Body = d.Body[:len(d.Body):len(d.Body)]
	m.From, m.Seq, m.unixMicros = d.Sender, d.Seq, d.Time
	if d.Flags&wire.DeliverWantVerdict != 0 {
		m.verdicts = r.verdictSink
	}
	if r.onMessage != nil {
		if r.session.life.callbacksDisabled.Load() {
			return ErrClosed
		}
		r.onMessage(m)
		return nil
	}
	f.Buffer.Retain()
	m.buffer = f.Buffer
	r.entries = append(r.entries, entry{m, before})
	return nil
}

// countFrame counts a reliable frame. It returns false for a duplicate.
func (r *reader) countFrame(f *socket.Frame) bool {
	if r.duplicates > 0 {
		r.duplicates--
		return false
	}
	r.read.frames++
	r.read.bytes += uint64(wire.HeaderSize + len(f.Payload))
	return true
}

// handleControl handles frames that are not messages. It first moves the messages before the
// frame to the inbox: the application sees messages and replies in the order of the wire.
func (r *reader) handleControl(f *socket.Frame) error {
	s := r.session
	if f.Type != wire.TypeReport && f.Type != wire.TypeAck {
		s.inbox.push(r.entries, r.read, false, true)
		clear(r.entries)
		r.entries = r.entries[:0]
	}
	if r.welcome == nil && followsWelcome(f.Type) {
		return unexpectedFrameError(f.Type)
	}
	if f.Type == wire.TypeIdentity && r.welcome == nil {
		r.isV1 = true
	}
	err := r.dispatchControl(f)
	if errors.Is(err, wire.ErrMalformed) {
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return err
}

// followsWelcome reports whether the hub sends frames of type t only after WELCOME.
func followsWelcome(t wire.Type) bool {
	switch t {
	case wire.TypeWelcome, wire.TypeGoAway:
		return false
	case wire.TypeSkip, wire.TypeRenewed:
		return true
	}
	return t >= wire.TypeHello && t <= wire.TypeAck
}

func (r *reader) dispatchControl(f *socket.Frame) error {
	s := r.session
	switch f.Type {
	case wire.TypeReport:
		report, err := wire.ParseReport(f.Payload)
		if err != nil || !r.countFrame(f) {
			return err
		}
		return s.sendQueue.handleReport(report)
	case wire.TypeSkip:
		r.countFrame(f)
		return nil
	case wire.TypeAck, wire.TypePing, wire.TypePong:
		return r.handleNumber(f)
	case wire.TypePresence:
		p, err := wire.ParsePresence(f.Payload)
		if err == nil {
			s.presence.handlePresence(&p)
		}
		return err
	case wire.TypeError:
		e, err := wire.ParseError(f.Payload)
		if err == nil {
			r.handleError(&e)
		}
		return err
	case wire.TypeRenewed:
		renewed, err := wire.ParseRenewed(f.Payload)
		if err == nil {
			err = r.handleRenewed(&renewed)
		}
		return err
	case wire.TypeWelcome:
		return r.handleWelcome(f.Payload)
	case wire.TypeGoAway:
		g, err := wire.ParseGoAway(f.Payload)
		if err == nil {
			r.goAway = &g
		}
		return err
	default:
		return r.conn.pending.handleReply(f, r.welcome != nil)
	}
}

// handleNumber handles ACK, PING and PONG, which have one number.
func (r *reader) handleNumber(f *socket.Frame) error {
	s, cn := r.session, r.conn
	n, err := wire.ParseUint64(f.Payload)
	switch {
	case err != nil:
		return err
	case f.Type == wire.TypeAck:
		return s.sendQueue.handleAck(n)
	case f.Type == wire.TypePing:
		s.inbox.sendAck() // the hub may be short of memory
		cn.sendFrame(wire.AppendPong(nil, n), &forceOptions)
	case n == 0: // the number of Client.Ping
		return deliverReply(&cn.pending, &cn.pending.ping, struct{}{})
	default:
		s.verdicts.confirm(cn, n-1)
	}
	return nil
}

// handleRenewed handles a RENEWED: the hub has accepted a new token.
func (r *reader) handleRenewed(renewed *wire.Renewed) error {
	token, ok := r.renewal.answer(renewalAnswer{expires: tokenLifetime(renewed.Expires)})
	if !ok {
		return unexpectedFrameError(wire.TypeRenewed)
	}
	r.token = token
	r.session.setMaxSendBody(renewed.MaxBody)
	return nil
}

// handleError handles an ERROR frame, and passes the refusal of a message to its sender.
func (r *reader) handleError(e *wire.Error) {
	s := r.session
	switch {
	case e.Code == wire.ErrorWatchers:
		s.presence.failWatchers(fmt.Errorf("%w: %s", ErrTooManyWatchers, e.Text))
	case e.Code == wire.ErrorRefused && e.Seq == 0:
		s.presence.failWatchers(fmt.Errorf("%w: %s", ErrWatchForbidden, e.Text))
	case e.Code == wire.ErrorTokenRefused, e.Code == wire.ErrorTokenExpired, e.Code == wire.ErrorRenewLater:
		r.renewal.answer(renewalAnswer{code: e.Code})
	}
	if e.Seq != 0 { // otherwise it is not about a message
		s.failSend(s.sendQueue.dropRefused(e.Seq), &RefusedError{Seq: e.Seq, Code: e.Code, Reason: string(e.Text)})
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
