package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// rstAvoidanceDelay is how long a client has to take the end of the stream at shutdown
// before the connection is closed. Closing while something of it is unread would
// make the kernel throw away what it has not yet seen.
const rstAvoidanceDelay = 100 * time.Millisecond

var (
	// errConnClosed says that the session was ended by somebody else.
	errConnClosed = errors.New("session ended")

	// errHandshakeFailed says that it has not even begun.
	errHandshakeFailed = errors.New("no handshake")

	// errNewGoroutine says that the session goes on in another goroutine: see conn.readLoop.
	errNewGoroutine = errors.New("goes on in another goroutine")
)

// idleTimeout is for how long a client must be silent for its session to give back the stack that
// handling frames has taken.
const idleTimeout = time.Second

// conn is one client's life, from Accept to its last goroutine.
type conn struct {
	// Static after construction.
	hub        *Hub
	sock       *socket.Conn
	account    *body.Account // what its messages hold of the hub's memory
	acceptedAt time.Time

	id             atomic.Uint64                 // changes once, when the client turns out to have come back
	v2             atomic.Pointer[connV2]        // nil: it speaks version 1
	replySignal    atomic.Pointer[chan struct{}] // receives when untaken is less; nil: the one who reads does not wait for that
	pendingReplies atomic.Int32                  // answers in version 1 that the connection has not taken; a long one counts as maxPendingReplies
	flags          atomic.Uint32                 // of connFlag

	registerOnce sync.Once // the client is registered, or is not to be without further ado
	closeOnce    sync.Once
	done         latch // set by end

	// Owned by the reading goroutine.
	requests            uint64       // frames, without those that only answer
	wokeAt              int64        // when frames came while it was not busy, in ns since the hub's start
	firstFrameSeen      bool         // the first frame has come
	requestedInLastRead bool         // something in version 1, in the last turn
	busy                bool         // this goroutine reads on until the client is idle: see readLoop
	unconfirmed         bool         // the client has not yet said that WELCOME has come, so perhaps it cannot resume
	provisional         bool         // it is beyond a limit, and may only resume
	rejectReason        RejectReason // beyond which
	ipSlot              ipConnState  // among the connections of its address
	hasClientSlot       bool         // it counts against Config.MaxClients; guarded by connSet.mu
	permissions         *Permissions // what it may do; nil: everything
	limiter             *rateLimiter // how fast it may send; nil: as it likes
	replies             *replyQueue  // those that are not all taken; nil: none
	deadlineTimer       *time.Timer  // when it must have said who it is, and then when it must go; nil: never

	reclaimState *reclaimState // owned by Hub.reclaim; nil: by nobody

	// Added to once for each read and for each write. They stand apart from what
	// everybody reads who sends something to the client.
	messagesIn, messagesOut atomic.Uint64
}

// connFlag is something that is so or not. One word holds all of them.
type connFlag = uint32

const (
	flagRegistered  connFlag = 1 << iota // it was a client, be it for a moment
	flagRateLimited                      // it is not read, because it is faster than it may be
	flagIPReleased                       // releaseIP was called
)

// is reports whether a flag is set.
func (c *conn) is(flag connFlag) bool { return c.flags.Load()&flag != 0 }

// newConn prepares the session of a connection. Nobody knows of it yet.
func newConn(h *Hub, nc net.Conn) *conn {
	c := &conn{
		hub:        h,
		account:    h.bodies.NewAccount(h.maxPerSender),
		acceptedAt: time.Now(),
	}
	if !h.authRequired() {
		c.limiter = h.newRateLimiter(nc.RemoteAddr(), nil)
	}
	if !h.authRequired() {
		c.id.Store(h.v1IDs.Next()) // which another replaces if it turns out to speak version 2
	}
	c.sock = socket.New(nc, &h.socketConfig, c)
	return c
}

// handshaker is a connection over which there must be an agreement first: that of
// crypto/tls.
type handshaker interface {
	HandshakeContext(context.Context) error
}

// registerClient makes the client one of those who are connected.
func (c *conn) registerClient() {
	if prev := c.register(); prev != nil { // the id was granted to both
		prev.requestClose(&goAway{code: wire.GoAwayTakenOver, reason: CloseTakenOver, err: errors.New("another connection has this id now")})
	}
	c.hub.config.Logger.Info("client connected", "client", c.id.Load(), "address", c.sock.RemoteAddr().String())
}

// handshake agrees with the client on how to speak.
func (c *conn) handshake(hs handshaker) error {
	timeout := c.hub.config.HandshakeTimeout
	if c.provisional {
		timeout = min(timeout, provisionalTimeout)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := hs.HandshakeContext(ctx); err != nil {
		c.hub.handshakeLog.logWarn(c.hub.config.Logger, "no handshake", "reason", CloseHandshake.String(), "address", c.sock.RemoteAddr().String(), "error", err)
		return fmt.Errorf("%w: %w", errHandshakeFailed, err)
	}
	return nil
}

// limitFirstFrame bounds what may come before the client is known: who must say who it is has to do so
// in time, and who need not is registered after a while without a word.
func (c *conn) limitFirstFrame() {
	switch {
	case c.provisional: // which is bounded already
	case c.hub.authRequired():
		c.startAuthTimer()
	default:
		c.hub.registerQueue.add(c)
	}
}

// register puts the session on the list of clients. It returns the one that had its place.
func (c *conn) register() (prev *conn) {
	id := c.id.Load()
	c.flags.Or(flagRegistered)
	if prev = c.hub.roster.Join(id, c); prev == nil { // the id was not there
		c.hub.presence.record(id, true)
	}
	if c.done.IsSet() { // by Shutdown, which may have come too early to find it listed
		c.unregister()
	}
	return prev
}

// unregister takes it off.
func (c *conn) unregister() { c.unregisterAs(c.id.Load()) }

func (c *conn) unregisterAs(id uint64) {
	if c.hub.roster.Leave(id, c) {
		c.hub.presence.record(id, false)
	}
}

// start serves the client in goroutines that end when the connection does.
func (c *conn) start(nc net.Conn) {
	if c.provisional {
		c.limitProvisional()
	}
	if hs, ok := nc.(handshaker); ok {
		go c.handshakeAndRead(hs)
		return
	}
	c.limitFirstFrame()
	go c.readLoop()
}

// handshakeAndRead does the handshake, and goes on in a goroutine that has needed no stack for it.
func (c *conn) handshakeAndRead(hs handshaker) {
	if err := c.handshake(hs); err != nil {
		c.finishReading(err)
		return
	}
	c.limitFirstFrame()
	go c.readLoop() // ends when the connection does
}

// readLoop serves the client until something ends that, and then ends the session.
//
// Handling frames takes a stack of 4 or 8 KiB, and the runtime never shrinks one below 4 KiB. The
// 2 KiB of a new goroutine are enough to wait for bytes. So a session goes on in a new one when it
// has handled the frames that came first after an idle time, and when it is idle again: a client
// that says something now and then takes no more memory than a silent one, and a busy one
// is served by one goroutine all the time.
func (c *conn) readLoop() {
	err := c.serve()
	if err == errNewGoroutine {
		go c.readLoop() // ends when the connection does
		return
	}
	c.finishReading(err)
}

// finishReading ends a session that is not read any more, because of err.
func (c *conn) finishReading(err error) {
	c.warnProxyHeader(err)
	if c.provisional && (errors.Is(err, socket.ErrInterrupted) || errors.Is(err, wire.ErrTooLong)) && !isClosed(c.hub.closing) {
		err = c.rejectProvisional(false)
	}
	if c.deadlineTimer != nil {
		c.deadlineTimer.Stop()
	}
	err = c.closeCause(err)
	c.releaseRateLimiter()
	c.sock.ReleaseAll()             // before it waits for anything: others may wait for this memory
	c.hub.presence.removeWatcher(c) // before anybody goes on with it, who may want to watch as well
	c.hub.conns.reading.Done()
	resumed := c.awaitResume(err)
	if !resumed {
		c.close(c.finishWriting(err))
	}
	c.sock.Wait()
	if s := c.session(); s != nil && !resumed {
		s.failVerdicts()
	}
	c.releaseIP()
	c.hub.conns.remove(c)
}

// releaseIP gives back the place that the session has among the connections of its address. Only the first
// call counts; standing must not change any more.
func (c *conn) releaseIP() {
	if c.flags.Or(flagIPReleased)&flagIPReleased == 0 {
		c.hub.ipLimits.release(c.sock.RemoteAddr(), c.ipSlot, time.Now())
	}
}

// closeCause returns why the session ends whose reading has ended with err: a word of the hub's counts, unless
// it lets the client come back and the client has left.
func (c *conn) closeCause(err error) error {
	v2 := c.v2.Load()
	if v2 == nil {
		return err
	}
	if away := v2.goAway.Load(); away != nil && (!away.resumable || isResumable(err)) {
		return away
	}
	return err
}

// serve handles what the client sends until something ends it, or it is to go on in another
// goroutine.
func (c *conn) serve() error {
	bytesReported := c.sock.BytesRead()                // bytes that are in the statistics
	defer func() { c.countBytesRead(bytesReported) }() // bytes of an unfinished frame
	for {
		err := c.read()
		if err == socket.ErrIdle {
			c.busy = false
			return errNewGoroutine
		}
		if err != nil {
			return err
		}
		for more := true; more; {
			more, err = c.handleRead()
			bytesReported = c.countBytesRead(bytesReported)
			if err != nil {
				return err
			}
			if err = c.waitReplies(); err != nil {
				return err
			}
			if more {
				err = c.waitRateLimit()
			}
			if err != nil {
				return err
			}
		}
		if !c.keepsGoroutine() {
			return errNewGoroutine
		}
	}
}

// keepsGoroutine reports whether this goroutine is to read on after it has handled what came.
func (c *conn) keepsGoroutine() bool {
	if c.busy {
		return true
	}
	now := int64(time.Since(c.hub.started)) + 1 // so that it is never 0
	c.busy = c.wokeAt > 0 && now-c.wokeAt < int64(idleTimeout)
	if c.wokeAt == 0 && c.v2.Load() != nil {
		// The TAKEN that confirms WELCOME follows HELLO at once. It is not to count as a second
		// wake-up within idleTimeout.
		now -= int64(idleTimeout)
	}
	c.wokeAt = now
	if c.busy {
		c.sock.NotifyIdle(idleTimeout)
	}
	return c.busy
}

// read waits until there is something to handle, and the client may be read.
func (c *conn) read() error {
	if !c.firstFrameSeen && c.limiter != nil && c.limiter.delay(time.Now()) > 0 {
		return c.readType()
	}
	if err := c.waitRateLimit(); err != nil {
		return err
	}
	c.releaseReplyQueue()
	c.sock.SetReadLimit(c.readLimit())
	return c.sock.Fill()
}

// readType reads only as much of the first frame as tells its type. If that is no HELLO, the client speaks
// version 1, and what it owes from an earlier connection is due before the frame is read.
func (c *conn) readType() error {
	c.sock.SetReadLimit(wire.HeaderSize)
	if err := c.sock.Fill(); err != nil {
		return err
	}
	if t, known := c.sock.NextType(); known && t != wire.TypeHello {
		return c.waitRateLimit()
	}
	return nil
}

// handleRead handles the whole frames of one read, and reports whether there are more.
func (c *conn) handleRead() (more bool, err error) {
	rb := readBatches.Get().(*readBatch)
	rb.begin(c)
	more, err = rb.handleFrames()
	rb.finish()
	readBatches.Put(rb)
	return more, err
}

// countBytesRead brings the statistics up to what was read. They have counted bytes of that already. It
// returns how many they have now.
func (c *conn) countBytesRead(bytesReported int64) int64 {
	bytesRead := c.sock.BytesRead()
	c.hub.counters.bytesIn.Add(uint64(bytesRead - bytesReported))
	return bytesRead
}

// finishWriting does what is still owed to a client whose reading has ended, and returns
// the reason for its end.
func (c *conn) finishWriting(err error) CloseReason {
	var away *goAway
	reason := c.closeReason(err)
	switch {
	case errors.As(err, &away) && !away.resumable: // otherwise linger has told it
		c.closeWithGoAway(away)
	case reason == CloseShutdown && !errors.Is(err, errHandshakeFailed):
		c.drainAtShutdown()
	case errors.Is(err, errBye):
		if c.drain() {
			c.sock.CloseGracefully(rstAvoidanceDelay) // it may have ended its side behind that: over TLS by a record that is not read
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		c.drain()
	}
	return reason
}

// closeReason returns the reason by which the end of a connection counts whose reading has ended
// with err.
func (c *conn) closeReason(err error) CloseReason {
	var away *goAway
	closing := isClosed(c.hub.closing)
	switch {
	case errors.As(err, &away) && !(away.resumable && closing):
		return away.reason
	case closing && (away != nil || errors.Is(err, errHandshakeFailed) || errors.Is(err, socket.ErrInterrupted)):
		return CloseShutdown
	case errors.Is(err, errHandshakeFailed):
		return CloseHandshake
	case errors.Is(err, errRefused):
		return CloseRefused
	case errors.Is(err, errBye), errors.Is(err, io.EOF):
		return CloseLeft
	case errors.Is(err, io.ErrUnexpectedEOF):
		return CloseHalfFrame
	case errors.Is(err, socket.ErrFrameTimeout):
		return CloseFrameTimeout
	case errors.Is(err, wire.ErrTooLong):
		return CloseTooLong
	case errors.Is(err, wire.ErrMalformed):
		return CloseMalformed
	case errors.Is(err, socket.ErrInterrupted):
		if v2 := c.v2.Load(); v2 != nil && v2.timedOut.Load() {
			return CloseTimeout
		}
	}
	return CloseLost
}

// drain lets what is queued for a client that has ended its side reach it, and reports whether it has.
func (c *conn) drain() bool {
	c.unregister()
	c.sock.DisableAcks()
	return c.sock.Drain(c.done.Done())
}

// close is the one place where a session is torn down. It may be called from
// anywhere; the first reason counts. When it returns, all of that is done.
func (c *conn) close(reason CloseReason) {
	c.closeOnce.Do(func() {
		c.done.Set()
		c.unregister()
		switch reason {
		case CloseStalled, CloseSlow:
			c.sock.Reset()
		default:
			c.sock.Close()
		}
		c.recordDisconnect(reason)
	})
}

// recordDisconnect counts and logs that a connection has ended.
func (c *conn) recordDisconnect(reason CloseReason) {
	c.hub.counters.disconnected[reason].Add(1)
	if !c.is(flagRegistered) { // it was never connected
		switch reason {
		case CloseHandshake, CloseRefused: // it is complained about
		case CloseLeft, CloseLost, CloseShutdown: // nobody was refused
		default:
			c.hub.handshakeLog.logWarn(c.hub.config.Logger, "no handshake", "reason", reason.String(), "address", c.sock.RemoteAddr().String())
		}
		return
	}
	c.hub.config.Logger.Info("client disconnected", "client", c.id.Load(), "address", c.sock.RemoteAddr().String(), "reason", reason.String(),
		"connected_for", time.Since(c.acceptedAt).Round(time.Millisecond))
}

// The following are what the connection tells its owner: see socket.Handler.

func (c *conn) Account() *body.Account { return c.account }

func (c *conn) Done() <-chan struct{} { return c.done.Done() }

func (c *conn) OnWritten(written socket.Counts) {
	counters := &c.hub.counters
	counters.messagesOut.Add(uint64(written.Frames))
	c.messagesOut.Add(uint64(written.Frames))
	counters.delivered.Add(uint64(written.Deliveries))
	counters.bytesOut.Add(uint64(written.Bytes))
}

func (c *conn) OnLost(dropped socket.Counts) {
	c.hub.counters.gone.Add(uint64(dropped.Deliveries))
}

// OnWriteError is called when writing to the client failed, or when it stalled. What the
// client sent before it went away is here already, and is still handled.
func (c *conn) OnWriteError(err error) {
	if errors.Is(err, socket.ErrStalled) {
		c.close(CloseStalled)
		return
	}
	// The id is read before the link: a session that goes on with a peer gets that first, and then the peer's id, under which
	// it has to stay listed, for it may be resumed once more.
	id := c.id.Load()
	if c.v2.Load() != nil {
		c.interruptWaits()
	} else {
		c.unregisterAs(id)
	}
	c.sock.StopWhenEmpty()
}
