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

	"github.com/sechlol/go-message-hub/internal/admission"
	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/reclaim"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// rstAvoidanceDelay is how long a client has to read the end of the stream at shutdown before
// the hub closes the connection. If the hub closed it while bytes of the client were unread,
// the kernel would send a reset and discard what the client has not yet read.
const rstAvoidanceDelay = 100 * time.Millisecond

// errNewGoroutine says that the connection continues in a new goroutine: see conn.readLoop.
var errNewGoroutine = errors.New("goes on in another goroutine")

// idleTimeout is how long a client must be silent before its connection gives back the stack
// that handling frames has grown.
const idleTimeout = time.Second

// conn is one client connection, from Accept until its last goroutine ends.
type conn struct {
	// Static after construction.
	hub        *Hub
	sock       *socket.Conn
	account    *body.Account // charged for the memory of the client's messages
	acceptedAt time.Time

	id atomic.Uint64          // changes once, while the first frame is handled
	v2 atomic.Pointer[connV2] // nil: version 1
	// receives when fewer replies are pending; nil: the reader does not wait for them
	replySignal atomic.Pointer[chan struct{}]
	// replies in version 1 that are not written; a long one counts as maxPendingReplies
	pendingReplies atomic.Int32
	flags          atomic.Uint32 // bits of connFlag

	registerOnce sync.Once // registers a v1 client; HELLO uses it up without registering
	closeOnce    sync.Once
	done         latch // set by close

	// Owned by the read loop.
	requests            uint64                 // frames handled, without ACK and PONG
	wokeAt              int64                  // when frames last came while not busy, in ns of uptime; 0: never
	firstFrameSeen      bool                   // the first frame has arrived
	requestedInLastRead bool                   // the last read held a v1 request
	busy                bool                   // this goroutine reads on until the client is idle: see readLoop
	unconfirmed         bool                   // WELCOME is not confirmed: perhaps the client cannot resume
	provisional         bool                   // the connection is above a limit, and can only resume a session
	rejectReason        RejectReason           // the limit that a provisional connection exceeds
	ipState             admission.ConnState    // how the connection counts for its address
	hasClientSlot       bool                   // it counts against Config.MaxClients; guarded by connSet.mu
	permissions         *Permissions           // nil: unrestricted
	limiter             *admission.RateLimiter // nil: not rate limited
	replies             *replyQueue            // replies in version 1 that are not all written; nil: none
	deadlineTimer       *time.Timer            // of the first frame, then of the permissions; nil: none

	reclaimState reclaim.State // owned by reclaim.Run

	// Updated once for each read and once for each write. They are kept apart from the fields
	// that every sender to this client reads.
	messagesIn, messagesOut atomic.Uint64
}

// connFlag is a boolean property of a connection. One word holds all of them.
type connFlag = uint32

const (
	flagRegistered  connFlag = 1 << iota // the client was registered at some time
	flagRateLimited                      // the client is not read, because it exceeds its rate
	flagIPReleased                       // releaseIP was called
)

// is reports whether flag is set.
func (c *conn) is(flag connFlag) bool { return c.flags.Load()&flag != 0 }

// newConn returns the conn of nc. It is not yet in any list of the hub.
func newConn(h *Hub, nc net.Conn) *conn {
	c := &conn{
		hub:        h,
		account:    h.bodies.NewAccount(h.maxPerSender),
		acceptedAt: time.Now(),
	}
	if !h.authRequired() {
		c.limiter = h.buckets.NewRateLimiter("", nc.RemoteAddr(), h.rates, time.Now())
	}
	if !h.authRequired() {
		c.id.Store(h.v1IDs.Next()) // HELLO replaces it
	}
	c.sock = socket.New(nc, &h.socketConfig, c)
	return c
}

// handshaker is a net.Conn that must complete a handshake first, such as a *tls.Conn.
type handshaker interface {
	HandshakeContext(context.Context) error
}

// registerClient adds the client to the registry, and ends what had the same id.
func (c *conn) registerClient() {
	closeReplaced(c.register())
	c.hub.config.Logger.Info("client connected", "client", c.id.Load(), "address", c.sock.RemoteAddr().String())
}

// handshake performs the handshake of hs, within Config.HandshakeTimeout or, for a
// provisional connection, within provisionalTimeout if that is less.
func (c *conn) handshake(hs handshaker) error {
	timeout := c.hub.config.HandshakeTimeout
	if c.provisional {
		timeout = min(timeout, provisionalTimeout)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := hs.HandshakeContext(ctx); err != nil {
		c.hub.limitedLog.LogWarn("handshake failed", "reason", CloseHandshake.String(), "address", c.sock.RemoteAddr().String(), "error", err)
		return fmt.Errorf("%w: %w", errHandshakeFailed, err)
	}
	return nil
}

// limitFirstFrame bounds the time until the client is known. A client that must authenticate
// has Config.HandshakeTimeout for its first frame. Any other client is registered after
// registerDelay without a frame.
func (c *conn) limitFirstFrame() {
	switch {
	case c.provisional: // start has bounded it already
	case c.hub.authRequired():
		c.startAuthTimer()
	default:
		c.hub.registerQueue.add(c)
	}
}

// register adds the connection to the registry. It returns the destination that had the id
// before, or nil.
func (c *conn) register() (prev relay.Destination) {
	id := c.id.Load()
	c.flags.Or(flagRegistered)
	prev = c.hub.registry.Join(id, destination{c})
	if c.done.IsSet() { // perhaps Shutdown closed it before it was in the registry
		c.unregister()
	}
	return prev
}

// unregister removes the connection from the registry.
func (c *conn) unregister() { c.unregisterAs(c.id.Load()) }

// unregisterAs removes the connection from the registry if it is there under id.
func (c *conn) unregisterAs(id uint64) { c.hub.registry.Leave(id, destination{c}) }

// start serves the client in goroutines that end with the connection.
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

// handshakeAndRead performs the handshake, and then reads in a new goroutine, whose stack the
// handshake has not grown.
func (c *conn) handshakeAndRead(hs handshaker) {
	if err := c.handshake(hs); err != nil {
		c.finishReading(err)
		return
	}
	c.limitFirstFrame()
	go c.readLoop() // ends with the connection
}

// readLoop serves the client until the connection ends, and then tears the connection down.
//
// Handling frames takes a stack of 4 or 8 KiB, and the runtime never shrinks a stack below 4
// KiB. The 2 KiB of a new goroutine are enough to wait for bytes. Therefore the connection
// continues in a new goroutine after it has handled the first frames that follow an idle
// time, and again when it becomes idle. A client that sends a frame now and then takes no
// more memory than a silent client, and a busy client is served by one goroutine throughout.
func (c *conn) readLoop() {
	err := c.serve()
	if err == errNewGoroutine {
		go c.readLoop() // ends with the connection
		return
	}
	c.finishReading(err)
}

// finishReading ends a connection whose reading has ended with err. A connection of version 2
// first waits for another connection to resume its session.
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
	c.sock.ReleaseAll() // before any wait: others may wait for this memory
	// before another connection resumes the session, and perhaps watches
	c.hub.registry.Unwatch(watcher{c})
	c.hub.conns.reading.Done()
	resumed := c.awaitResume(err)
	if !resumed {
		c.close(c.finishWriting(err))
	}
	c.sock.Wait()
	if s := c.session(); s != nil && !resumed {
		s.verdicts.Fail()
	}
	c.releaseIP()
	c.hub.conns.remove(c)
}

// releaseIP gives back the slot that the connection has among those of its address. Only the
// first call counts. ipState must not change afterwards.
func (c *conn) releaseIP() {
	if c.flags.Or(flagIPReleased)&flagIPReleased == 0 {
		c.hub.ipLimits.Release(c.sock.RemoteAddr(), c.ipState, time.Now())
	}
}

// closeCause returns why a connection ends whose reading has ended with err. A GOAWAY of the
// hub takes precedence over err, except when it lets the client resume and the client has
// left for good.
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

// serve reads and handles frames until the connection ends, or must continue in a new
// goroutine.
func (c *conn) serve() error {
	bytesReported := c.sock.BytesRead()                // bytes that the statistics include
	defer func() { c.countBytesRead(bytesReported) }() // the bytes of an unfinished frame
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

// keepsGoroutine reports whether this goroutine reads on after it has handled what was read.
func (c *conn) keepsGoroutine() bool {
	if c.busy {
		return true
	}
	now := int64(time.Since(c.hub.started)) + 1 // never 0
	c.busy = c.wokeAt > 0 && now-c.wokeAt < int64(idleTimeout)
	if c.wokeAt == 0 && c.v2.Load() != nil {
		// The ACK that confirms WELCOME follows HELLO at once. It must not count as a second
		// wake-up within idleTimeout.
		now -= int64(idleTimeout)
	}
	c.wokeAt = now
	if c.busy {
		c.sock.NotifyIdle(idleTimeout)
	}
	return c.busy
}

// read waits until the client may be read and frames have arrived.
func (c *conn) read() error {
	if !c.firstFrameSeen && c.limiter.Delay(time.Now()) > 0 {
		return c.readType()
	}
	if err := c.waitRateLimit(); err != nil {
		return err
	}
	c.releaseReplyQueue()
	c.sock.SetReadLimit(c.readLimit())
	return c.sock.Fill()
}

// readType reads only the header of the first frame. If the frame is no HELLO, the client
// speaks version 1, and what it owes its rate limit from an earlier connection is due before
// the frame is read.
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

// handleRead handles the whole frames of one read, and reports whether frames are left.
func (c *conn) handleRead() (more bool, err error) {
	rb := readBatches.Get().(*readBatch)
	rb.begin(c)
	more, err = rb.handleFrames()
	rb.finish()
	readBatches.Put(rb)
	return more, err
}

// countBytesRead adds the bytes that were read to the statistics, which already include
// bytesReported of them. It returns how many the statistics include now.
func (c *conn) countBytesRead(bytesReported int64) int64 {
	bytesRead := c.sock.BytesRead()
	c.hub.counters.bytesIn.Add(uint64(bytesRead - bytesReported))
	return bytesRead
}

// finishWriting writes what the client is still to get after its reading has ended with err,
// and returns the close reason.
func (c *conn) finishWriting(err error) CloseReason {
	var away *goAway
	reason := c.closeReason(err)
	switch {
	case errors.As(err, &away) && !away.resumable: // otherwise awaitResume has sent it
		c.closeWithGoAway(away)
	case reason == CloseShutdown && !errors.Is(err, errHandshakeFailed):
		c.drainAtShutdown()
	case errors.Is(err, errBye):
		if c.drain() {
			// over TLS, close_notify may follow BYE and is not read
			c.sock.CloseGracefully(rstAvoidanceDelay)
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		c.drain()
	}
	return reason
}

// closeReason returns the CloseReason of a connection whose reading has ended with err.
func (c *conn) closeReason(err error) CloseReason {
	v2 := c.v2.Load()
	return closeReasonOf(err, isClosed(c.hub.closing), v2 != nil && v2.timedOut.Load())
}

// drain writes what is queued for a client that has closed its side, and reports whether all
// of it was written.
func (c *conn) drain() bool {
	c.unregister()
	c.sock.DisableAcks()
	return c.sock.Drain(c.done.Done())
}

// close tears the connection down. It can be called from any goroutine. The reason of the
// first call counts. When any call returns, the teardown is complete.
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

// recordDisconnect counts and logs the end of the connection.
func (c *conn) recordDisconnect(reason CloseReason) {
	c.hub.counters.disconnected[reason].Add(1)
	if !c.is(flagRegistered) { // the client was never registered
		switch reason {
		case CloseHandshake, CloseRefused: // already logged
		case CloseLeft, CloseLost, CloseShutdown: // no failed handshake
		default:
			c.hub.limitedLog.LogWarn("handshake failed", "reason", reason.String(), "address", c.sock.RemoteAddr().String())
		}
		return
	}
	c.hub.config.Logger.Info("client disconnected", "client", c.id.Load(), "address", c.sock.RemoteAddr().String(), "reason", reason.String(),
		"connected_for", time.Since(c.acceptedAt).Round(time.Millisecond))
}

// The following methods implement socket.Handler.

func (c *conn) Account() *body.Account { return c.account }

func (c *conn) Done() <-chan struct{} { return c.done.Done() }

func (c *conn) OnWritten(written outbox.Counts) {
	counters := &c.hub.counters
	counters.messagesOut.Add(uint64(written.Frames))
	c.messagesOut.Add(uint64(written.Frames))
	counters.delivered.Add(uint64(written.Deliveries))
	counters.bytesOut.Add(uint64(written.Bytes))
}

func (c *conn) OnLost(dropped outbox.Counts) {
	c.hub.counters.recordDrop(DropGone, dropped.Deliveries)
}

// OnWriteError is called when writing to the client failed, or when it stalled. The hub still
// reads and handles what the client sent before.
func (c *conn) OnWriteError(err error) {
	if errors.Is(err, outbox.ErrStalled) {
		c.close(CloseStalled)
		return
	}
	// The id is read before v2: a connection that resumes a session gets v2 first, and then the
	// id of the session. Under that id it must stay registered, because it can be resumed once
	// more.
	id := c.id.Load()
	if c.v2.Load() != nil {
		c.interruptWaits()
	} else {
		c.unregisterAs(id)
	}
	c.sock.StopWhenEmpty()
}
