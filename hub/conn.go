package hub

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/reclaim"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// errNewGoroutine says that the connection continues in a new goroutine: see conn.readLoop.
var errNewGoroutine = errors.New("goes on in another goroutine")

// idleTimeout is how long a client must be silent before its connection gives back the stack
// that handling frames has grown.
const idleTimeout = time.Second

// conn is one client connection, from Accept until its last goroutine ends. It consists of
// parts, which lie beside each other in one allocation: an idle connection must take little
// memory.
type conn struct {
	// Static after construction.
	hub        *Hub
	clientIO   // the framed connection, and the account that is charged
	acceptedAt time.Time

	id    atomic.Uint64          // changes once, while the first frame is handled
	v2    atomic.Pointer[connV2] // nil: version 1
	flags atomic.Uint32          // bits of connFlag

	registerOnce sync.Once // registers a v1 client; HELLO uses it up without registering
	closeOnce    sync.Once
	done         latch // set by close

	// Owned by the read loop.
	wokeAt         int64 // when frames last came while not busy, in ns of uptime; 0: never
	firstFrameSeen bool  // the first frame has arrived
	busy           bool  // this goroutine reads on until the client is idle: see readLoop
	slot                 // how the connection counts against the limits of connections
	requested      bool  // the last read held a request of a client of version 1
	authorization        // what its client was granted; read concurrently
	rate           rateLimiter
	replies        replies   // to a client of version 1
	underWay       *underWay // of a client of version 1 in a cluster; nil: nothing is
	deadline       deadline

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
	flagRenewing                         // Config.Authenticate looks at a newer token of the client
	flagEnded                            // finishReading has ended the connection
	flagWebSocket                        // a WebSocket, whose client must speak version 2
	flagTunnel                           // a tunnel from another hub, whose client resumes a session
	flagTunneled                         // a tunnel carries the frames to another hub
)

// is reports whether flag is set.
func (c *conn) is(flag connFlag) bool { return c.flags.Load()&flag != 0 }

// newConn returns the conn of nc with these flags. It is not yet in any list of the hub.
func newConn(h *Hub, nc net.Conn, flags connFlag) *conn {
	c := &conn{
		hub:        h,
		clientIO:   clientIO{account: h.bodies.NewAccount(h.maxPerSender)},
		acceptedAt: time.Now(),
	}
	c.flags.Store(flags)
	if !c.mustSendFirst() {
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

// mustSendFirst reports whether the client is not registered before its first frame: it must
// authenticate, or it cannot speak version 1.
func (c *conn) mustSendFirst() bool { return c.hub.auth.required() || c.is(flagWebSocket|flagTunnel) }

// limitFirstFrame bounds the time until the client is known. A client that must send first has
// Config.HandshakeTimeout for that. Any other client is registered after registerDelay without a
// frame.
func (c *conn) limitFirstFrame() {
	switch {
	case c.provisional: // start has bounded it already
	case c.mustSendFirst():
		c.sock.SetMaxLength(1 + wire.MaxHelloLen)
		c.deadline.limitFirstFrame(c.hub.config.HandshakeTimeout, c.endUnauthenticated)
	default:
		c.hub.registerQueue.add(c)
	}
}

// endUnauthenticated closes the connection because its first frame has not arrived in time.
func (c *conn) endUnauthenticated() {
	c.hub.limitedLog.LogWarn("handshake failed", "reason", CloseHandshake.String(), "address", c.sock.RemoteAddr().String(), "error", "no first frame in time")
	c.close(CloseHandshake)
}

// authRequest describes the client, which has presented token.
func (c *conn) authRequest(version int, token string) AuthRequest {
	request := AuthRequest{Address: c.sock.RemoteAddr(), Version: version, Token: token}
	c.hub.upgrades.complete(c, &request)
	if tlsState, ok := c.sock.TLSState(); ok {
		request.TLS = &tlsState
	}
	return request
}

// authenticate decides whether the client is accepted. It is called by the read loop, for the
// first frame.
func (c *conn) authenticate(version int, token string) error {
	h := c.hub
	if !h.auth.required() {
		if c.is(flagWebSocket | flagTunnel) {
			c.sock.SetMaxLength(h.auth.maxLength(h.config.MaxBody))
		}
		return c.deadline.stopFirstFrame()
	}
	permissions, err := h.auth.check(c.authRequest(version, token))
	if err != nil {
		h.limitedLog.LogWarn("client rejected", "reason", CloseRefused.String(), "address", c.sock.RemoteAddr().String(), "error", err)
		return rejection(version, err)
	}
	if err := c.deadline.stopFirstFrame(); err != nil {
		return err
	}
	c.permissions.Store(permissions)
	c.rate.limiter = h.buckets.NewRateLimiter(c.subject(), c.sock.RemoteAddr(), c.lowerRates(h.rates), time.Now())
	c.sock.SetMaxLength(h.auth.maxLength(h.config.MaxBody))
	c.deadline.setExpiry(c)
	return nil
}

// assignID gives the client the id that it was granted, or one that no start of the hub has
// assigned before.
func (c *conn) assignID() {
	if id := c.grantedID(); id != 0 {
		c.id.Store(id)
		return
	}
	c.id.Store(c.hub.ids.Next())
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

// maxBody returns the largest body that the client can send, in bytes.
func (c *conn) maxBody() int { return c.lowerMaxBody(c.hub.config.MaxBody) }

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
		c.sock.SetMaxLength(1 + wire.MaxHelloLen)
		c.deadline.limitFirstFrame(provisionalTimeout, c.sock.Interrupt)
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
		c.releaseSpare()
		go c.readLoop() // ends with the connection
		return
	}
	if t, ok := err.(*tunneled); ok {
		go t.tunnel.forwardLoop() // ends with the connection
		return
	}
	c.finishReading(err)
}

// releaseSpare releases memory that version 2 keeps for later messages, when the client may have
// become idle: a client that was busy once then takes no more memory than any other.
func (c *conn) releaseSpare() {
	if s := c.session(); s != nil {
		c.sock.ReleaseSpare()
		s.releaseSpare()
	}
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
			if c.underWay.isBelow(1) {
				c.underWay = nil // until the client sends to another hub again
			}
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
			if err = c.replies.wait(c.sock, &c.done, c.hub.closing); err != nil {
				return err
			}
			if more {
				err = c.rate.wait(c)
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
	if !c.firstFrameSeen && c.rate.limiter.Delay(time.Now()) > 0 {
		return c.readType()
	}
	if err := c.rate.wait(c); err != nil {
		return err
	}
	c.replies.release()
	c.sock.SetReadLimit(repliesReadLimit(c.rate.limiter.MaxRead(), c.requested || !c.busy))
	c.requested = false
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
	t, known := c.sock.NextType()
	isFlood := !known && c.sock.BytesRead() > wire.MaxHelloLen // of a WebSocket, without any frame
	if known && t != wire.TypeHello || isFlood {
		return c.rate.wait(c)
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

// offerReplies queues replies for the client itself, which uses version 1.
func (c *conn) offerReplies(batch *outbox.Batch, flusher *outbox.Flusher) {
	c.requested = true
	c.replies.offer(c.sock, batch, flusher)
}

// countBytesRead adds the bytes that were read to the statistics, which already include
// bytesReported of them. It returns how many the statistics include now.
func (c *conn) countBytesRead(bytesReported int64) int64 {
	bytesRead := c.sock.BytesRead()
	c.hub.counters.bytesIn.Add(uint64(bytesRead - bytesReported))
	return bytesRead
}

// The following methods implement socket.Handler, with Account of clientIO.

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
	if v2 := c.v2.Load(); v2 != nil {
		v2.interruptWaits()
	} else {
		c.unregisterAs(id)
	}
	c.sock.StopWhenEmpty()
}
