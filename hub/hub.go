// Package hub is a message hub: clients connect over TCP, each gets a 64-bit id,
// and the hub hands a body from one of them to any others that it names.
//
//	h, err := hub.New(hub.Config{})
//	…
//	ln, err := net.Listen("tcp", ":9999")
//	…
//	go h.Serve(ctx, ln)
//	…
//	h.Shutdown(ctx)
//
// Between one sender and one receiver the hub keeps the order and loses nothing
// while both stay connected. A body is read once into one buffer, to which every
// receiver's queue points. A client that does not read makes exactly those wait
// who send to it, until it takes something or the stall timeout has passed. What
// the hub holds for its clients stays below Config.MaxQueuedBytes.
//
// The hub is the place where a message finds its receivers. Bytes and sockets are
// left to internal/socket, who is connected to internal/roster; flags, logs and
// signals are the embedder's.
package hub

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/idpool"
	"github.com/sechlol/go-message-hub/internal/roster"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// ErrClosed is what Serve returns after Shutdown.
var ErrClosed = errors.New("hub closed")

const (
	// readFraction is the part of Config.MaxQueuedBytes that is set aside for reading:
	// 6 MiB of the default, enough for 95 connections to read at once.
	readFraction = 8

	// writeFraction is the part of that which records of TLS may hold while they leave: of the
	// default, enough for 24 connections to write at once.
	writeFraction = 4

	// shareFraction is the part of the rest that one sender may hold.
	shareFraction = 8

	// minPerClient is what the hub holds for each client beyond Config.MaxQueuedBytes, if need be, in bytes:
	// whoever needs little is served whatever the others hold. With the 4.5 KiB that an
	// idle connection takes that makes 8 KiB.
	minPerClient = 3 << 10

	// maxUnsentBytes is how much of a client's stream may wait in the kernel before the
	// outbox holds the rest. Without a bound, 255 receivers of large bodies drive the
	// kernel into memory pressure, where it drops what it has received. The less there
	// is, the more of it is still in the processor's cache when it leaves
	// (docs/decisions/0002).
	maxUnsentBytes = 64 << 10

	// minWholeFrame is the size above which the kernel is to hold a client's frame until all of it has
	// come, in bytes. Smaller ones never need memory for which others wait before they are whole
	// (docs/decisions/0014).
	minWholeFrame = 64 << 10

	// userTimeout is after how long a peer is given up that takes nothing of what the
	// kernel has for it: as long as Go's keep-alive takes for one that has nothing to take
	// and does not answer (15 s, and nine times 15 s). Clients of version 2 are found to be
	// gone long before.
	userTimeout = 150 * time.Second
)

// Hub connects clients. Create one with New. All methods may be called
// concurrently.
type Hub struct {
	// Static after New.
	config       Config        // MaxClients is only what most begins with
	socketConfig socket.Config // what all sessions have in common
	started      time.Time
	bodies       *body.Budget
	reads        *body.Budget
	maxPerSender int64 // of bodies, for one sender
	epoch        uint64

	maxClients atomic.Int64 // how many connections may be open at once, read for each new one

	v1IDs         idpool.Pool // of clients of version 1 that need not say who they are
	ids           idpool.Pool // of all others to whom none is granted
	roster        roster.Roster[*conn]
	conns         connSet
	registerQueue registerQueue
	presence      presence
	counters      counters

	ipLimits         ipLimiter
	buckets          bucketStore
	sampledReceivers atomic.Int64 // receivers of messages that are traced now

	handshakeLog    limitedLog // about those that fail
	authLog         limitedLog // about clients that may not come in
	proxyHeaderLog  limitedLog // about headers of the PROXY protocol that nobody reads
	rejectLog       limitedLog // about connections that are one too many
	requestErrorLog limitedLog // about requests that are answered by ERROR
	forbiddenLog    limitedLog // about messages to those to whom their sender may not send
	rateLimitLog    limitedLog // about clients that send faster than they may

	shutdownOnce sync.Once
	closing      chan struct{} // closed when Shutdown begins
	readersDone  chan struct{} // closed when no session reads any more
	finished     chan struct{} // closed when nothing of the hub runs any more
}

// New returns a hub that serves nobody yet, or an error that names what is wrong
// with the configuration. The hub has one goroutine from now on, which ends with
// Shutdown.
func New(config Config) (*Hub, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	readBytes := config.MaxQueuedBytes / readFraction
	bodyBytes := config.MaxQueuedBytes - readBytes
	h := &Hub{
		config:       config,
		started:      time.Now(),
		bodies:       body.NewBudget(bodyBytes, minPerClient),
		reads:        body.NewBudget(readBytes, 0),
		maxPerSender: bodyBytes / shareFraction,
		closing:      make(chan struct{}),
		readersDone:  make(chan struct{}),
		finished:     make(chan struct{}),
	}
	h.epoch = uint64(h.started.UnixNano())
	h.socketConfig = socket.Config{
		MaxLength:      wire.MaxRequestLength(config.MaxBody),
		FrameTimeout:   config.FrameTimeout,
		MaxOutboxBytes: config.OutboxBytes,
		StallTimeout:   config.StallTimeout,
		MaxUnsentBytes: maxUnsentBytes,
		UserTimeout:    userTimeout,
		ReadAccount:    h.reads.NewAccount(readBytes),
		WriteAccount:   h.reads.NewAccount(readBytes / writeFraction),
		MinWhole:       minWholeFrame,
		KernelBudget:   socket.DefaultKernelBudget(),
	}
	h.ipLimits.maxConns, h.ipLimits.connectRate = config.MaxPerAddress, config.ConnectRate
	h.ids.StartAt(h.firstID())
	h.maxClients.Store(int64(config.MaxClients))
	h.conns.init()
	h.registerQueue.init()
	h.presence.init()
	h.conns.running.Go(h.reclaimLoop) // ends with closing, like the next
	h.conns.running.Go(h.keepAliveLoop)
	h.conns.running.Go(h.presenceLoop)
	h.conns.running.Go(h.registerLoop)
	return h, nil
}

// firstID returns the first id that the hub gives to a client of version 2: the time of its start in
// microseconds. As long as fewer than a million clients come in a second, on average, and the clock
// is not set back, no start gives an id that one before has given, and for two centuries a float64
// holds them. With Config.Authenticate they begin behind those that can be granted.
func (h *Hub) firstID() uint64 {
	first := uint64(h.started.UnixMicro())
	if h.config.Authenticate != nil {
		first += MaxGrantedID + 1
	}
	return first
}

// SetMaxClients changes how many clients there may be, as Config.MaxClients says
// it: 0 is the default. When there are more already, all of them stay, and further
// ones are refused until fewer are left. It returns an
// error that names the value and what is allowed, and changes nothing then.
func (h *Hub) SetMaxClients(maxClients int) error {
	setDefault(&maxClients, DefaultMaxClients)
	if err := checkMaxClients(maxClients); err != nil {
		return err
	}
	h.maxClients.Store(int64(maxClients))
	return nil
}

// Shutdown ends the hub: it stops accepting and reading, lets the queues empty
// until ctx ends, closes all connections, and returns when nothing of the hub
// runs any more: nil if that was before ctx ended, and the error of ctx otherwise. A
// client that is silent, or that does not read, delays it no longer than ctx. It
// may be called more than once; each call waits for the end.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.shutdownOnce.Do(func() {
		close(h.closing)
		conns := h.conns.close()
		for _, c := range conns {
			c.sock.Interrupt()
		}
		go func() { // ends when all sessions have stopped reading, which Shutdown sees to
			h.conns.reading.Wait()
			close(h.readersDone)
			h.conns.running.Wait()
			close(h.finished)
		}()
	})
	select {
	case <-h.finished:
		return nil
	case <-ctx.Done():
		select {
		case <-h.finished: // before
			return nil
		default:
		}
	}
	for _, c := range h.conns.snapshot() {
		c.close(CloseShutdown)
	}
	<-h.finished
	return ctx.Err()
}

// recordReject counts and logs that a connection is one too many.
func (h *Hub) recordReject(reason RejectReason, addr net.Addr) {
	h.counters.rejected[reason].Add(1)
	h.rejectLog.logWarn(h.config.Logger, "connection refused", "reason", reason.String(), "address", addr.String())
}

// reject closes a connection before its first byte is read. Where only version 2 is spoken the client
// is told why, but not over TLS: a handshake would cost more than what is refused. The kernel
// has room for the first bytes of a connection, so that this does not wait.
func (h *Hub) reject(nc net.Conn, reason RejectReason) {
	h.recordReject(reason, nc.RemoteAddr())
	if tcp, ok := socket.TCP(nc); ok && h.config.DisableV1 {
		_, _ = tcp.Write(rejectFrames[reason]) // to one who may have gone already
	}
	nc.Close()
}

// startConn starts the session of a connection, before its first byte.
func (h *Hub) startConn(nc net.Conn) {
	addr, now := nc.RemoteAddr(), time.Now()
	ipSlot, reason, ok := h.ipLimits.acquire(addr, now)
	if !ok {
		h.reject(nc, reason)
		return
	}
	c := newConn(h, nc)
	c.ipSlot = ipSlot
	if ipSlot == ipProvisional {
		c.provisional, c.rejectReason = true, RejectAddress
	}
	switch h.conns.add(c, int(h.maxClients.Load())) {
	case addClosed:
		nc.Close()
	case addFull:
		h.ipLimits.release(addr, ipSlot, now)
		h.reject(nc, c.rejectReason)
	case addOK:
		h.counters.connected.Add(1)
		c.start(nc)
	}
}
