package hub

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// maxBlockedReplies is for how many reads the answers may wait for room in the queue of
	// the one who asked, before it is not read any more. Each takes up to one read
	// buffer of its sender's memory.
	maxBlockedReplies = 64

	// goAwayTimeout is how long a client may take to take its GOAWAY.
	goAwayTimeout = time.Second

	// takeoverTimeout is how long the session that a client wants to go on with may take to end: longer
	// than goAwayTimeout, and shorter than the first attempt of a client lasts, which is 3 s.
	takeoverTimeout = 2 * time.Second
)

// errBye says that the client leaves for good.
var errBye = errors.New("bye")

// goAway is an error for which a client has to go, and is told so.
type goAway struct {
	code           wire.GoAwayCode
	reason         CloseReason
	reconnect      bool          // whether it makes sense to come back
	reconnectDelay time.Duration // when, at the earliest
	resumable      bool          // whether its session waits for it, as after a loss
	err            error
}

func (g *goAway) Error() string { return g.err.Error() }
func (g *goAway) Unwrap() error { return g.err }

func (g *goAway) encode() []byte {
	return wire.AppendGoAway(nil, &wire.GoAway{Code: g.code, Reason: g.err.Error(), Reconnect: g.reconnect, After: int(g.reconnectDelay.Milliseconds())})
}

// connV2 is what a session has beyond those of version 1, from its HELLO on.
type connV2 struct {
	session     *session
	name        string // for people
	takeover    latch  // set when another connection wants to go on with the peer
	detached    latch  // set when nothing is read or written any more
	resumed     latch  // set when another connection has gone on
	interrupted latch  // set when the one who reads is to wait for nothing any more

	goAway atomic.Pointer[goAway] // nil: nobody wants it to go

	// Static once detached is set.
	closeReason  CloseReason   // why the connection ended
	connectedFor time.Duration // how long there was one

	timedOut   atomic.Bool     // nothing was heard from it for two keep-alive intervals
	lastSample keepAliveSample // owned by Hub.keepAliveLoop
}

func newConnV2(s *session, name string) *connV2 {
	return &connV2{session: s, name: sanitizeName(name)}
}

// interruptWaits ends whatever the one who reads waits for: room, credit, its pace, or memory. It does not end the reading of what has
// come already.
func (c *conn) interruptWaits() {
	c.v2.Load().interrupted.Set()
	c.account.Interrupt()
}

// handleHello makes a client of version 2 of one that has said nothing before.
func (rb *readBatch) handleHello(f *socket.Frame) error {
	h, err := wire.ParseHello(f.Payload)
	if err != nil {
		return &goAway{code: wire.GoAwayProtocol, reason: CloseMalformed, err: err}
	}
	if h.Version != wire.Version2 {
		return &goAway{code: wire.GoAwayVersion, reason: CloseVersion,
			err: fmt.Errorf("version %d is not spoken here, %d is", h.Version, wire.Version2)}
	}
	c := rb.conn
	c.registerOnce.Do(func() {}) // it is registered when it is clear as what
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
	c.unregister() // as a client of version 1, if the HELLO came late
	c.assignID()
	s := newSession(c)
	if !rb.sendWelcome(s, 0, false) { // before anybody offers a DELIVER
		return errConnClosed
	}
	c.unconfirmed = h.Confirms
	v2 := newConnV2(s, h.Name)
	c.hub.conns.setV2(c, v2)
	c.registerClient()
	c.hub.config.Logger.Debug("client speaks version 2", "client", s.id, "name", v2.name)
	return nil
}

// tryResume resumes the session that HELLO names, if it can be. It reports whether it was.
func (rb *readBatch) tryResume(h *wire.Hello) (resumed bool, err error) {
	c := rb.conn
	wasProvisional := c.provisional
	for h.Resume != "" {
		prev, err := c.findDetached(h)
		switch {
		case err != nil:
			return false, err
		case prev == nil && wasProvisional && !c.provisional: // the place that it took is that of the one who was faster
			return false, c.rejectProvisional(true)
		case prev == nil:
			return false, nil
		case prev.acceptedAt.After(c.acceptedAt): // this one was given up for that, and its HELLO comes late
			return false, &goAway{code: wire.GoAwayTakenOver, reason: CloseTakenOver, err: errors.New("a newer connection goes on with this id")}
		}
		if err := c.takeSlotOf(prev); err != nil {
			return false, err
		}
		if rb.resume(prev, h) {
			return true, nil
		}
		if !prev.takenOver() {
			break
		}
	}
	return false, nil
}

// resume goes on where the peer's last connection has ended. It returns false when
// that cannot be; then nothing has happened but that the old one is over.
func (rb *readBatch) resume(prev *conn, h *wire.Hello) bool {
	s := prev.v2.Load().session
	if !s.beginResume(prev) {
		return false // a third connection is faster
	}
	pos, hasRead := resumePosition(h)
	retransmitted, ok := prev.sock.Resumable(pos)
	c := rb.conn
	if !ok || !rb.sendWelcome(s, retransmitted, true) {
		s.abortResume(prev)
		return false
	}
	giveUp := hasRead && s.attempts.RecordFailure(pos.Read, prev.sock.WriteStarted(pos.Read), prev.v2.Load().connectedFor)
	omitted, ok := prev.sock.Move(&c.sock.Outbox, pos, giveUp, &rb.flusher)
	if !ok {
		s.abortResume(prev)
		c.close(CloseLost) // with the WELCOME that speaks of success; it may come again
		return true
	}
	c.unregister()
	c.hub.conns.setV2(c, newConnV2(s, h.Name)) // before the id: see Failed
	c.id.Store(s.id)
	s.finishResume(c)
	c.register()
	prev.releaseIP() // now: s may be lost, and its client expected back, before old is over
	prev.v2.Load().resumed.Set()
	s.sendAck(1)
	c.resumeRateLimiter()
	c.hub.counters.resumed.Add(1)
	s.countOmitted(omitted)
	return true
}

// resumePosition returns how far a client that comes back has come, and whether it says so of the
// connection before.
func resumePosition(h *wire.Hello) (pos socket.Position, hasRead bool) {
	pos = socket.Position{Acked: h.Received, Read: h.Received}
	if h.Read == nil || !h.Skip {
		return pos, false
	}
	pos.Read = *h.Read
	return pos, true
}

// takenOver reports whether another connection has gone on with the peer of s: then
// that one is to be asked.
func (c *conn) takenOver() bool {
	resumed := &c.v2.Load().resumed
	select {
	case <-resumed.Done():
		return true
	case <-c.done.Done():
	case <-c.hub.closing:
	}
	return resumed.IsSet()
}

// sendWelcome answers a HELLO. Nothing that is sent later overtakes that, and it leaves at the end
// of the turn: whoever has read it is a client of version 2 for everybody. It reports whether
// the connection is still there.
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
	return c.sock.Offer(&batch, &rb.flusher) == socket.Queued
}

// sendReply queues a frame for the client itself.
func (rb *readBatch) sendReply(frame []byte) error {
	if err := rb.ensureRoom(nil, sendOptions{}, len(frame)); err != nil {
		return err
	}
	rb.appendFrame(func(b []byte) []byte { return append(b, frame...) })
	return nil
}

// findDetached returns the session that a client wants to go on with: it knows its
// secret, and its connection is over, if need be because of this; or it is newer. If that takes too long, on a
// machine that is busy for instance, the client is asked to come again: it keeps its id.
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
		return prev, nil // which is not to be disturbed
	}
	v2.session.requestTakeover(prev)
	timeout := time.NewTimer(takeoverTimeout)
	defer timeout.Stop()
	select {
	case <-v2.detached.Done():
		return prev, nil
	case <-prev.done.Done():
	case <-h.closing:
	case <-c.done.Done():
		return nil, errConnClosed
	case <-timeout.C:
		return nil, &goAway{code: wire.GoAwayBusy, reason: CloseLost, reconnect: true, err: errors.New("the connection before is not closed yet")}
	}
	return nil, nil
}

// awaitResume ends a connection of version 2 that the client may come back from: it
// keeps what the client has not had, for as long as resumeWindow says. It
// reports whether another connection has gone on; then this session is over
// without having left.
func (c *conn) awaitResume(err error) bool {
	v2 := c.v2.Load()
	if v2 == nil || !isResumable(err) || isClosed(c.hub.closing) || !c.sock.Detach() {
		return false
	}
	isTakeover := v2.takeover.IsSet()
	var away *goAway
	switch {
	case isTakeover:
		notice := goAway{code: wire.GoAwayTakenOver, err: errors.New("another connection goes on with this id")}
		c.sock.CloseWithFrame(notice.encode(), goAwayTimeout)
	case errors.As(err, &away):
		c.sock.CloseWithFrame(away.encode(), goAwayTimeout)
	default:
		c.sock.CloseTransport()
	}
	c.sock.Outbox.Wait()
	if !c.hub.ipLimits.detach(c.sock.RemoteAddr(), isTakeover, time.Now()) {
		return false
	}
	c.ipSlot = ipDetached
	c.hub.conns.addDetached(1)
	defer c.hub.conns.addDetached(-1)
	c.hub.config.Logger.Debug("client detached", "client", c.id.Load(), "cause", err)
	v2.closeReason = c.closeReason(err)
	if isTakeover {
		v2.closeReason = CloseTakenOver
	}
	v2.connectedFor = time.Since(c.acceptedAt)
	v2.detached.Set()
	window := time.NewTimer(c.resumeWindow())
	defer window.Stop()
	select {
	case <-v2.resumed.Done():
	case <-c.done.Done():
		if !v2.resumed.IsSet() {
			return false
		}
	case <-c.hub.closing:
		if !v2.session.closeResumeWindow(c) {
			return false
		}
	case <-window.C:
		if !v2.session.closeResumeWindow(c) {
			return false
		}
	}
	c.closeOnce.Do(func() { c.recordDisconnect(v2.closeReason) }) // unless somebody has ended it in this moment
	return true
}

// maxUnconfirmedWindow is how long a client may take to come back that has promised to confirm
// WELCOME and has not: most likely it does not know the secret to come back with. If only the
// confirmation was lost with the connection, its first attempts come well within that time.
const maxUnconfirmedWindow = 5 * time.Second

// resumeWindow returns how long the client may take to come back.
func (c *conn) resumeWindow() time.Duration {
	if c.unconfirmed {
		return min(c.hub.config.ResumeWindow, maxUnconfirmedWindow)
	}
	return c.hub.config.ResumeWindow
}

// isResumable reports whether a client whose connection has ended like this may come
// back: not if it was the client's own doing, or the hub's.
func isResumable(err error) bool {
	var away *goAway
	if errors.As(err, &away) {
		return away.resumable
	}
	return !errors.Is(err, errBye) && !errors.Is(err, errConnClosed) &&
		!errors.Is(err, wire.ErrMalformed) && !errors.Is(err, wire.ErrTooLong)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// keepAliveLoop keeps connections of version 2 alive, and gives up those that are not. It
// ends when nobody reads any more.
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
		clear(conns) // those who end are to be forgotten
	}
}

// keepAliveSample is how a connection stood at one look, and for how many it has been silent.
type keepAliveSample struct {
	sent, arrived   int64
	waits           uint32 // see socket.Reader.WaitSeq
	idleOut, idleIn int16  // at most 4
}

// wasSilent reports whether a client of which nothing has arrived since the last look has said nothing, by how
// the reading stood then and now. While the hub does not read, what the client says may find no room to
// arrive: then it lives as long as its kernel acknowledges what the hub says, or, where that is not
// known, while it is the hub that makes it wait.
func (c *conn) wasSilent(waitsBefore, waitsNow uint32) bool {
	if waitsBefore == waitsNow && waitsNow%2 == 1 {
		return true // the hub has listened all the time
	}
	if sinceAck, known := c.sock.SinceTCPAck(); known {
		return sinceAck > c.hub.config.KeepAlive/2
	}
	return !c.is(flagRateLimited)
}

// checkKeepAlive looks at a session, compared with how it stood half an interval ago.
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
		c.sock.Interrupt() // whoever waits to be resumed does not hear it
	case now.idleOut >= 1 || now.idleIn >= 2:
		c.session().sendPing(c)
	}
	return now
}

// closeWithGoAway tells a client why it has to go, if it listens.
func (c *conn) closeWithGoAway(away *goAway) {
	if away.code == wire.GoAwayShutdown {
		c.drainBeforeShutdown(away)
		return
	}
	c.unregister()
	c.sock.DisableAcks() // for nobody hears acknowledgements any more
	timeout := time.AfterFunc(goAwayTimeout, func() { c.close(away.reason) })
	defer timeout.Stop()
	if c.sendFrame(away.encode(), &priorityOptions) && c.sock.Drain(c.done.Done()) {
		c.sock.CloseGracefully(rstAvoidanceDelay)
	}
}
