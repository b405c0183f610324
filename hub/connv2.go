package hub

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/admission"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// maxBlockedReplies is the maximum number of reads whose replies can wait for room in the
	// client's own queue before the hub stops reading from the client. Each takes up to one read
	// buffer of the client's memory.
	maxBlockedReplies = 64

	// goAwayTimeout is how long a client has to receive its GOAWAY.
	goAwayTimeout = time.Second

	// takeoverTimeout is how long the previous connection of a session has to detach in a
	// takeover: longer than goAwayTimeout, and shorter than a client's first attempt to
	// reconnect, which lasts 3 s.
	takeoverTimeout = 2 * time.Second
)

// errBye says that the client has sent BYE.
var errBye = errors.New("bye")

// goAway is an error that ends a connection, and whose text is sent to the client in GOAWAY.
type goAway struct {
	code           wire.GoAwayCode
	reason         CloseReason
	reconnect      bool          // the client should reconnect
	reconnectDelay time.Duration // not before this delay
	resumable      bool          // its session waits to be resumed, as after a loss
	err            error
}

func (g *goAway) Error() string { return g.err.Error() }
func (g *goAway) Unwrap() error { return g.err }

func (g *goAway) encode() []byte {
	return wire.AppendGoAway(nil, &wire.GoAway{Code: g.code, Reason: g.err.Error(), Reconnect: g.reconnect, After: int(g.reconnectDelay.Milliseconds())})
}

// connV2 is the version 2 state of a connection, from HELLO on.
type connV2 struct {
	session     *session
	name        string // for display
	attachment  attachment
	interrupted latch // set when the reader must not wait any more

	goAway atomic.Pointer[goAway] // why the hub closes the connection; nil: it does not

	// Static once attachment is detached.
	closeReason  CloseReason
	connectedFor time.Duration // how long the connection lasted

	timedOut   atomic.Bool     // nothing arrived for two keep-alive intervals
	lastSample keepAliveSample // owned by Hub.keepAliveLoop
}

func newConnV2(s *session, name string) *connV2 {
	return &connV2{session: s, name: sanitizeName(name)}
}

// session returns the session of c, or nil if the client does not speak version 2 or c is
// nil.
func (c *conn) session() *session {
	if c == nil {
		return nil
	}
	if v2 := c.v2.Load(); v2 != nil {
		return v2.session
	}
	return nil
}

// interruptWaits ends every wait of the read loop: for room, credit, its rate limit, or
// memory. It does not end the reading of what has already arrived.
func (c *conn) interruptWaits() {
	c.v2.Load().interrupted.Set()
	c.account.Interrupt()
}

// handleHello handles a HELLO, which makes the connection one of version 2: it resumes the
// session that HELLO names, or begins a new one.
func (rb *readBatch) handleHello(f *socket.Frame) error {
	h, err := wire.ParseHello(f.Payload)
	if err != nil {
		return &goAway{code: wire.GoAwayProtocol, reason: CloseMalformed, err: err}
	}
	if h.Version != wire.Version2 {
		return &goAway{code: wire.GoAwayVersion, reason: CloseVersion,
			err: fmt.Errorf("protocol version %d is not supported, want %d", h.Version, wire.Version2)}
	}
	c := rb.conn
	c.registerOnce.Do(func() {}) // the client is registered once its id is known
	c.sock.EnableAcks(c.hub.config.Window, h.Skip)
	c.setMaxDeliver(h.MaxBody)
	c.account.Reclaim = c.reclaimUnacked
	if err := c.authenticate(wire.Version2, h.Token); err != nil {
		return err
	}
	if resumed, err := rb.tryResume(&h); resumed || err != nil {
		return err
	}
	if c.provisional {
		prev := c.connWithGrantedID()
		if prev == nil {
			return c.rejectProvisional(true)
		}
		if err := c.takeSlotOf(prev); err != nil {
			return err
		}
	}
	c.unregister() // as a version 1 client, if HELLO came late
	c.assignID()
	s := newSession(c)
	if !rb.sendWelcome(s, 0, false) { // before any sender can offer a DELIVER
		return errConnClosed
	}
	c.unconfirmed = h.Confirms
	v2 := newConnV2(s, h.Name)
	c.hub.conns.setV2(c, v2)
	c.registerClient()
	c.hub.config.Logger.Debug("client uses protocol version 2", "client", s.id, "name", v2.name)
	return nil
}

// tryResume resumes the session that HELLO names, if that is possible, and reports whether it
// did.
func (rb *readBatch) tryResume(h *wire.Hello) (resumed bool, err error) {
	c := rb.conn
	wasProvisional := c.provisional
	for h.Resume != "" {
		prev, err := c.findDetached(h)
		switch {
		case err != nil:
			return false, err
		// c took the slot of a session that another connection has resumed first
		case prev == nil && wasProvisional && !c.provisional:
			return false, c.rejectProvisional(true)
		case prev == nil:
			return false, nil
		case prev.acceptedAt.After(c.acceptedAt): // the client gave up c for prev, and the HELLO is late
			return false, &goAway{code: wire.GoAwayTakenOver, reason: CloseTakenOver, err: errors.New("session resumed by a newer connection")}
		}
		if err := c.takeSlotOf(prev); err != nil {
			return false, err
		}
		if prev.v2.Load().attachment.become(stateClaimed) {
			return rb.resume(prev, h)
		}
		if !prev.awaitOtherResume() {
			break
		}
	}
	return false, nil
}

// resume moves the session of prev to this connection. prev must be claimed. If the session
// cannot be resumed, resume closes prev and returns false. If this connection is closed
// meanwhile, the session stays as it was, and can be resumed by another connection.
func (rb *readBatch) resume(prev *conn, h *wire.Hello) (resumed bool, err error) {
	from, c := prev.v2.Load(), rb.conn
	s := from.session
	pos, hasRead := resumePosition(h)
	retransmitted, ok := prev.sock.Resumable(pos)
	if !ok {
		prev.close(from.closeReason) // not after the release, which lets others claim prev
		from.attachment.become(stateDetached)
		return false, nil
	}
	if !rb.sendWelcome(s, retransmitted, true) {
		prev.releaseClaim()
		return false, errConnClosed
	}
	attempts := s.attempts
	giveUp := hasRead && s.attempts.RecordFailure(pos.Read, prev.sock.WriteStarted(pos.Read), from.connectedFor)
	omitted, ok := prev.sock.Move(&c.sock.Outbox, pos, giveUp, &rb.flusher)
	if !ok { // prev or c is closed
		s.attempts = attempts
		c.close(CloseLost) // WELCOME has reported success; the client can reconnect
		prev.releaseClaim()
		return false, errConnClosed
	}
	c.unregister()
	c.hub.conns.setV2(c, newConnV2(s, h.Name)) // before the id: see OnWriteError
	c.id.Store(s.id)
	s.moveTo(c)
	c.register()
	prev.releaseIP() // not later: c may detach before prev has ended
	from.attachment.become(stateMoved)
	s.sendAck()
	c.resumeRateLimiter()
	c.hub.counters.resumed.Add(1)
	s.countOmitted(omitted)
	return true, nil
}

// releaseClaim makes c, which is claimed, detached again. Another connection can resume its
// session, unless c is closed.
func (c *conn) releaseClaim() {
	c.sock.CancelResume()
	c.v2.Load().attachment.become(stateDetached)
}

// resumePosition returns how many reliable frames a client that resumes has received, and
// whether HELLO says how many of them the last connection brought whole.
func resumePosition(h *wire.Hello) (pos outbox.Position, hasRead bool) {
	pos = outbox.Position{Acked: h.Received, Read: h.Received}
	if h.Read == nil || !h.Skip {
		return pos, false
	}
	pos.Read = *h.Read
	return pos, true
}

// awaitOtherResume waits until another connection, which resumes the session of c, succeeds or
// fails. It returns true if the caller must look the session up again. It returns false if
// there is nothing to resume; then c is closed, unless the hub shuts down.
func (c *conn) awaitOtherResume() bool {
	if c.v2.Load().attachment.awaitClaim() != stateClosed {
		return true
	}
	select {
	case <-c.done.Done():
	case <-c.hub.closing:
	}
	return false
}

// sendWelcome answers HELLO. No later frame overtakes WELCOME, which is written at the end of
// the read batch: a client that has read WELCOME is a version 2 client for all others. It
// reports whether the connection is still open.
func (rb *readBatch) sendWelcome(s *session, retransmitted int, resumed bool) bool {
	c := rb.conn
	config := &c.hub.config
	w := wire.Welcome{
		Version: wire.Version2, ID: s.id, Resume: s.secret, Resumed: resumed, Again: retransmitted, Seq: s.lastSeq, Acked: s.loadQueuedSeq(),
		Hub: "go-message-hub", Epoch: c.hub.epoch, GrantsIDs: config.Authenticate != nil,
		MaxBody: c.maxBody(), MaxDeliver: c.maxDeliver(), MaxReceivers: wire.MaxReceivers, MaxReports: config.MaxReports,
		Credit: config.Credit, ReceiverCost: receiverCost, Window: config.Window, Keepalive: int(config.KeepAlive.Milliseconds()),
		MaxReportTimeout: config.MaxReportTimeout.Milliseconds(),
	}
	if c.permissions != nil && !c.permissions.Expires.IsZero() {
		w.Expires = max(1, c.timeToExpiry().Milliseconds())
	}
	batch := c.newBatch(wire.AppendWelcome(nil, &w), &priorityOptions)
	defer batch.Buffer.Release()
	return c.sock.Offer(&batch, &rb.flusher) == outbox.Queued
}

// sendReply queues a frame for the client itself.
func (rb *readBatch) sendReply(frame []byte) error {
	if err := rb.ensureRoom(nil, sendOptions{}, len(frame)); err != nil {
		return err
	}
	rb.appendFrame(func(b []byte) []byte { return append(b, frame...) })
	return nil
}

// findDetached returns the detached connection whose session hello wants to resume, or nil.
// The client must know the secret of the session. If the connection is still open,
// findDetached requests a takeover and waits until it is detached. If that takes longer than
// takeoverTimeout, on a busy machine for instance, the client is asked to reconnect, and
// keeps its id. A connection that was accepted after c is returned as it is.
func (c *conn) findDetached(hello *wire.Hello) (*conn, error) {
	h := c.hub
	prev := h.lookup(hello.ID)
	if prev == nil || !c.canHoldID(hello.ID) {
		return nil, nil
	}
	v2 := prev.v2.Load()
	if v2 == nil || !v2.session.matchesSecret(hello.Resume) || v2.session.subject != c.subject() {
		return nil, nil
	}
	if prev.acceptedAt.After(c.acceptedAt) {
		return prev, nil // a newer connection is not taken over
	}
	prev.requestTakeover()
	return c.awaitDetached(prev)
}

// requestTakeover asks c to detach because another connection is resuming its session.
func (c *conn) requestTakeover() {
	if c.v2.Load().attachment.become(stateTakeoverRequested) {
		c.interruptWaits()
		c.sock.Interrupt()
	}
}

// awaitDetached waits until prev, whose session c is to resume, is detached, and returns prev.
// It returns nil if prev is closed instead.
func (c *conn) awaitDetached(prev *conn) (*conn, error) {
	timeout := time.NewTimer(takeoverTimeout)
	defer timeout.Stop()
	v2 := prev.v2.Load()
	for {
		state, changed := v2.attachment.watch()
		if state.hasLeft() {
			return prev, nil
		}
		select {
		case <-changed:
		case <-prev.done.Done():
			return nil, nil
		case <-c.hub.closing:
			return nil, nil
		case <-c.done.Done():
			return nil, errConnClosed
		case <-timeout.C:
			return nil, &goAway{code: wire.GoAwayBusy, reason: CloseLost, reconnect: true, err: errors.New("previous connection is still closing")}
		}
	}
}

// awaitResume ends a connection of version 2. If its session can be resumed after err, it
// detaches the session for resumeWindow. It reports whether another connection has resumed the
// session; then c is over, and the client has not left.
func (c *conn) awaitResume(err error) bool {
	v2 := c.v2.Load()
	if v2 == nil {
		return false
	}
	if isResumable(err) && !isClosed(c.hub.closing) && c.detach(v2, err) {
		c.hub.conns.addDetached(1)
		defer c.hub.conns.addDetached(-1)
		v2.attachment.become(stateDetached)
		c.waitInWindow(v2)
	}
	if !v2.attachment.closeUnlessMoved() {
		return false
	}
	c.closeOnce.Do(func() { c.recordDisconnect(v2.closeReason) }) // unless close was called just now
	return true
}

// detach ends the reading and writing of c because of err, and keeps what the client has not
// received. It returns false if the session cannot be resumed.
func (c *conn) detach(v2 *connV2, err error) bool {
	if !c.sock.Detach() {
		return false
	}
	isTakeover := v2.attachment.load() == stateTakeoverRequested
	var away *goAway
	switch {
	case isTakeover:
		notice := goAway{code: wire.GoAwayTakenOver, err: errors.New("session resumed by another connection")}
		c.sock.CloseWithFrame(notice.encode(), goAwayTimeout)
	case errors.As(err, &away):
		c.sock.CloseWithFrame(away.encode(), goAwayTimeout)
	default:
		c.sock.CloseTransport()
	}
	c.sock.Outbox.Wait()
	if !c.hub.ipLimits.Detach(c.sock.RemoteAddr(), isTakeover, time.Now()) {
		return false
	}
	c.ipState = admission.Detached
	c.hub.config.Logger.Debug("client detached", "client", c.id.Load(), "cause", err)
	v2.closeReason = c.closeReason(err)
	if isTakeover {
		v2.closeReason = CloseTakenOver
	}
	v2.connectedFor = time.Since(c.acceptedAt)
	return true
}

// waitInWindow waits until the session has moved, or the resume window is over.
func (c *conn) waitInWindow(v2 *connV2) {
	window := time.NewTimer(c.resumeWindow())
	defer window.Stop()
	for {
		state, changed := v2.attachment.watch()
		if state == stateMoved {
			return
		}
		select {
		case <-changed:
		case <-c.done.Done():
			return
		case <-c.hub.closing:
			return
		case <-window.C:
			return
		}
	}
}

// maxUnconfirmedWindow is the maximum resume window of a client that has promised to confirm
// WELCOME and has not. Most likely such a client does not know the secret with which to
// resume. If only the confirmation was lost with the connection, the client's first attempts
// come well within that time.
const maxUnconfirmedWindow = 5 * time.Second

// resumeWindow returns how long the session waits to be resumed.
func (c *conn) resumeWindow() time.Duration {
	if c.unconfirmed {
		return min(c.hub.config.ResumeWindow, maxUnconfirmedWindow)
	}
	return c.hub.config.ResumeWindow
}

// isResumable reports whether the session of a connection that ended with err can be resumed:
// not if the client or the hub has ended the connection on purpose.
func isResumable(err error) bool {
	var away *goAway
	if errors.As(err, &away) {
		return away.resumable
	}
	return !errors.Is(err, errBye) && !errors.Is(err, errConnClosed) &&
		!errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooLong)
}

// isClosed reports whether c is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// keepAliveLoop keeps connections of version 2 alive, and gives up those that are silent. It
// ends when no connection is read any more.
func (h *Hub) keepAliveLoop() {
	tick := time.NewTicker(h.config.KeepAlive / 2)
	defer tick.Stop()
	var conns []*conn
	for {
		select {
		case <-tick.C:
		case <-h.readersDone:
			return
		}
		conns = h.conns.appendTo(conns[:0])
		for _, c := range conns {
			if v2 := c.v2.Load(); v2 != nil {
				v2.lastSample = c.checkKeepAlive(v2.lastSample)
			}
		}
		clear(conns) // do not retain closed connections
	}
}

// keepAliveSample is the state of a connection at one keep-alive check, and the number of
// checks in a row at which it was idle.
type keepAliveSample struct {
	sent, arrived   int64  // bytes
	waits           uint32 // see socket.Reader.WaitSeq
	idleOut, idleIn int16  // checks without bytes sent, without bytes arrived; at most 4
}

// wasSilent reports whether a client of which nothing has arrived since the last check has
// sent nothing, given the WaitSeq of the reader at the last check and now. While the hub does
// not read, bytes of the client may find no room to arrive. Then the client is alive as long
// as its kernel acknowledges what the hub sends or, where that is not known, while its rate
// limit makes it wait.
func (c *conn) wasSilent(waitsBefore, waitsNow uint32) bool {
	if waitsBefore == waitsNow && waitsNow%2 == 1 {
		return true // the reader has waited for the client all the time
	}
	if sinceAck, known := c.sock.SinceTCPAck(); known {
		return sinceAck > c.hub.config.KeepAlive/2
	}
	return !c.is(flagRateLimited)
}

// checkKeepAlive compares the connection with its sample of half an interval ago, and returns
// a new sample. It sends a PING when the connection is idle, and interrupts one that is
// silent for two intervals.
func (c *conn) checkKeepAlive(prev keepAliveSample) keepAliveSample {
	now := keepAliveSample{sent: c.sock.Progress().Sent, arrived: c.sock.BytesArrived(), waits: c.sock.WaitSeq()}
	if now.sent == prev.sent {
		now.idleOut = min(prev.idleOut+1, 4)
	}
	if now.arrived == prev.arrived && c.wasSilent(prev.waits, now.waits) {
		now.idleIn = min(prev.idleIn+1, 4)
	}
	switch {
	case now.idleIn >= 4:
		c.v2.Load().timedOut.Store(true)
		c.interruptWaits()
		c.sock.Interrupt() // without effect on a detached connection
	case now.idleOut >= 1 || now.idleIn >= 2:
		c.session().sendPing(c)
	}
	return now
}

// closeWithGoAway sends GOAWAY and closes the connection, within goAwayTimeout unless the hub
// shuts down.
func (c *conn) closeWithGoAway(away *goAway) {
	if away.code == wire.GoAwayShutdown {
		c.drainBeforeShutdown(away)
		return
	}
	c.unregister()
	c.sock.DisableAcks() // ACKs are not read any more
	timeout := time.AfterFunc(goAwayTimeout, func() { c.close(away.reason) })
	defer timeout.Stop()
	if c.sendFrame(away.encode(), &priorityOptions) && c.sock.Drain(c.done.Done()) {
		c.sock.CloseGracefully(rstAvoidanceDelay)
	}
}
