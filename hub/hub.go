// Package hub is a message hub. Clients connect over TCP, or by WebSocket to a WebHandler, the
// hub gives each of them a 64-bit id, and relays a body from one client to the other clients that
// the sender names.
//
//	h, err := hub.New(hub.Config{})
//	…
//	ln, err := net.Listen("tcp", ":9999")
//	…
//	go h.Serve(ctx, ln)
//	…
//	h.Shutdown(ctx)
//
// The hub keeps the order of messages between one sender and one receiver, and loses none of
// them while both stay connected. It reads a body once into one buffer, which the queues of
// all receivers share. A client that does not read blocks only the clients that send to it,
// until it reads again or the stall timeout has passed. The memory that the hub holds for its
// clients stays below Config.MaxQueuedBytes.
//
// Package hub finds the receivers of a message and decides its fate. It uses package
// internal/socket to read and write frames, internal/outbox to hold them until they are written,
// internal/presence to know its connected clients, internal/admission to limit addresses and
// rates, internal/web for HTTP, and internal/reclaim when memory is short. Flags, log output and
// signals belong to the embedding program.
package hub

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/admission"
	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/idpool"
	"github.com/sechlol/go-message-hub/internal/limitlog"
	"github.com/sechlol/go-message-hub/internal/local"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/presence"
	"github.com/sechlol/go-message-hub/internal/reclaim"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// ErrClosed is returned by Serve after Shutdown.
var ErrClosed = errors.New("hub closed")

const (
	// readFraction is the divisor of Config.MaxQueuedBytes that gives the memory reserved for
	// reading: 6 MiB of the default, enough for 95 connections to read at once.
	readFraction = 8

	// writeFraction is the divisor of the memory for reading that gives the part that outgoing
	// TLS records can hold. The default is enough for 24 connections to write at once.
	writeFraction = 4

	// shareFraction is the divisor of the memory for bodies that gives the quota of one sender.
	shareFraction = 8

	// minPerClient is how many bytes the hub can hold for each client beyond
	// Config.MaxQueuedBytes. A client that needs little memory never waits, however much other
	// clients hold. With the 4.5 KiB of an idle connection this makes about 8 KiB.
	minPerClient = 3 << 10

	// maxUnsentBytes is the maximum number of bytes of a client's stream that wait in the kernel
	// unsent. The outbox holds the rest. Without this limit, 255 receivers of large bodies drive
	// the kernel into memory pressure, and the kernel then drops received data. With a small
	// limit, more of the data is still in the processor's cache when the kernel sends it
	// (docs/decisions/0002).
	maxUnsentBytes = 64 << 10

	// minWholeFrame is the frame size in bytes above which a client's frame stays in the kernel
	// until all of it has arrived. A smaller partial frame never needs memory for which other
	// clients wait (docs/decisions/0014).
	minWholeFrame = 64 << 10

	// userTimeout is how long the kernel keeps a connection whose peer acknowledges no data
	// (TCP_USER_TIMEOUT). It equals the time after which Go's TCP keep-alive closes an idle
	// connection whose peer does not answer (15 s, and nine times 15 s). The keep-alive of
	// version 2 detects a lost client much earlier.
	userTimeout = 150 * time.Second

	// limitedLogInterval is the minimum time between two log lines about the same event, if
	// clients can cause it. Without it any client that can connect could fill the log.
	limitedLogInterval = time.Second
)

// Hub relays messages between clients. Create one with New. All methods can be called
// concurrently.
type Hub struct {
	// Static after New.
	config       Config        // MaxClients is only the initial value of admitter.maxClients
	socketConfig socket.Config // shared by all connections
	started      time.Time
	epoch        uint64
	bodies       *body.Budget
	reads        *body.Budget
	maxPerSender int64 // the quota of one sender in bodies, in bytes
	auth         authenticator
	rates        admission.Rates // of a client without Permissions
	limitedLog   *limitlog.Log   // of events that any client can cause at any rate
	relay        *relay.Relay
	member       atomic.Pointer[member] // nil: the hub is alone
	senders      *local.Senders

	// All of these can be used concurrently.
	admission     admitter
	buckets       admission.BucketStore // of the rate limiters of clients
	conns         connSet
	registerQueue registerQueue
	subscribers   subscribers
	registry      *presence.Registry[relay.Destination]
	v1IDs         idpool.Pool // of v1 clients, if neither Authenticate nor DisableV1 is set
	ids           idpool.Pool // of all other clients without a granted id
	counters      counters
	upgrades      upgradeTable // what is known of WebSockets by their upgrade requests

	shutdownOnce sync.Once
	abortOnce    sync.Once
	aborted      chan struct{} // closed when the context of a Shutdown has ended before
	closing      chan struct{} // closed when Shutdown begins
	readersDone  chan struct{} // closed after closing, when no connection reads any more
	finished     chan struct{} // closed when no goroutine of the hub runs any more
}

// New returns a hub without clients, or an error that names what is wrong with the
// configuration. The hub runs four goroutines, which end with Shutdown.
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
		registry:     presence.New[relay.Destination](),
		rates:        admission.Rates{Messages: config.MessageRate, Bytes: config.ByteRate},
		auth:         authenticator{callback: config.Authenticate, disableV1: config.DisableV1},
		limitedLog:   limitlog.NewLog(config.Logger, limitedLogInterval),
		closing:      make(chan struct{}),
		aborted:      make(chan struct{}),
		readersDone:  make(chan struct{}),
		finished:     make(chan struct{}),
	}
	h.epoch = uint64(h.started.UnixNano())
	h.socketConfig = h.newSocketConfig(readBytes)
	h.ids.StartAt(h.firstID())
	h.admission.hub, h.admission.ipLimits = h, admission.NewIPLimiter(config.MaxPerAddress, config.ConnectRate)
	h.admission.maxClients.Store(int64(config.MaxClients))
	h.conns.init()
	h.registerQueue.init(h.started)
	h.relay = newRelay(h)
	h.senders = newSenders(h)
	h.subscribers.init(h)
	h.startLoops()
	if config.Cluster != nil {
		return h, h.JoinCluster(config.Cluster) // no error: nothing has used h yet
	}
	return h, nil
}

// newSocketConfig returns the configuration of all connections, which share readBytes of memory
// for reading.
func (h *Hub) newSocketConfig(readBytes int64) socket.Config {
	return socket.Config{
		MaxLength:      wire.MaxRequestLength(h.config.MaxBody),
		FrameTimeout:   h.config.FrameTimeout,
		Outbox:         outbox.Config{MaxBytes: h.config.OutboxBytes, StallTimeout: h.config.StallTimeout},
		MaxUnsentBytes: maxUnsentBytes,
		UserTimeout:    userTimeout,
		ReadAccount:    h.reads.NewAccount(readBytes),
		WriteAccount:   h.reads.NewAccount(readBytes / writeFraction),
		MinWhole:       minWholeFrame,
		KernelBudget:   socket.DefaultKernelBudget(),
		SparesStack:    true,
	}
}

// startLoops starts the goroutines of the hub. The first three end with readersDone, the last
// one ends with closing.
func (h *Hub) startLoops() {
	reclaimConfig := reclaim.Config[reclaim.Conn]{
		Budget:       h.bodies,
		AppendConns:  func(to []reclaim.Conn) []reclaim.Conn { return h.subscribers.appendTo(h.conns.appendHolders(to)) },
		StallTimeout: h.config.StallTimeout,
		MinRate:      h.config.MinRate,
		MaxBody:      h.config.MaxBody,
	}
	h.conns.running.Go(func() { reclaim.Run(reclaimConfig, h.readersDone) })
	h.conns.running.Go(func() { h.registry.Run(h.readersDone) })
	keepAlive := keepAliveLoop{interval: h.config.KeepAlive, conns: &h.conns}
	h.conns.running.Go(func() { keepAlive.run(h.readersDone) })
	h.conns.running.Go(func() { h.registerQueue.run(h.closing) })
}

// firstID returns the first id that the hub assigns to a v2 client: the start time of the hub
// in microseconds. The ids of two runs of a hub never overlap while fewer than a million
// clients connect per second on average and the clock is not set back. A float64 holds these
// ids exactly for two centuries. With Config.Authenticate the first id is above the ids that
// can be granted. In a cluster the first id has the number of the hub.
func (h *Hub) firstID() uint64 {
	if m := h.member.Load(); m != nil {
		return cluster.FirstID(m.Node())
	}
	first := uint64(h.started.UnixMicro())
	if h.auth.grantsIDs() {
		first += MaxGrantedID + 1
	}
	return first
}

// Serve accepts connections on ln until Shutdown is called or ctx ends. It returns ErrClosed
// after Shutdown, and the cause of ctx after ctx has ended: the clients then stay connected
// until Shutdown. Serve always closes ln. It logs a temporary accept error, such as too many
// open files, and accepts again after a delay. Serve can be called for several listeners
// concurrently.
//
// ln can be a listener of crypto/tls, but one of NewTLSListener needs less memory. A TLS
// connection has Config.HandshakeTimeout for its handshake, and its client is not registered
// before the handshake is complete.
func (h *Hub) Serve(ctx context.Context, ln net.Listener) error {
	if ln == nil {
		return errors.New("hub: Serve has no listener: ln is nil")
	}
	return h.serve(ctx, ln, h.admission.acceptLoop)
}

// serve calls accept, which is to return when its context ends. It closes ln then, and returns
// what Serve returns.
func (h *Hub) serve(ctx context.Context, ln net.Listener, accept func(context.Context, net.Listener) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	go func() { // ends with Serve, which waits for it
		defer close(done)
		select {
		case <-h.closing:
			cancel(ErrClosed)
		case <-ctx.Done():
		}
		ln.Close()
	}()
	err := accept(ctx, ln)
	cancel(err)
	<-done
	if cause := context.Cause(ctx); errors.Is(cause, ErrClosed) {
		return ErrClosed
	}
	return err
}

// NewProxyListener returns a listener for Serve on which each connection from a trusted
// address must begin with a PROXY protocol header, version 1 or 2. A load balancer sends this
// header to name the address of the client. The hub then uses the client's address in the log,
// for Config.MaxPerAddress and ConnectRate, in ClientInfo and for Config.Authenticate.
// Connections from other addresses keep their own address, and a header from them is not
// accepted. TLS, if any, goes on top: NewTLSListener(h.NewProxyListener(ln, trusted), config).
//
// A header must arrive within Config.HandshakeTimeout. A connection that waits for its header
// delays no other connection. At most as many connections wait as Hub.SetMaxClients allows.
// The hub rejects a connection without a header (RejectHeader), unless it ends before its
// first byte, as health checks do.
//
// The listener starts goroutines, and its Close waits for them. Serve calls Close.
func (h *Hub) NewProxyListener(ln net.Listener, trusted []netip.Prefix) net.Listener {
	return newProxyListener(&h.admission, h.config.HandshakeTimeout, ln, trusted)
}

// SetMaxClients changes the maximum number of clients, see Config.MaxClients. 0 means the
// default. If more clients are connected, all of them stay, and the hub rejects further
// connections until there are fewer than maxClients. On an invalid value, SetMaxClients
// returns an error that names the value and the permitted range, and changes nothing.
func (h *Hub) SetMaxClients(maxClients int) error {
	setDefault(&maxClients, DefaultMaxClients)
	if err := checkMaxClients(maxClients); err != nil {
		return err
	}
	h.admission.maxClients.Store(int64(maxClients))
	return nil
}

// Shutdown stops the hub. It stops accepting and reading, writes what is queued until ctx
// ends, closes all connections, and returns when no goroutine of the hub runs any more. It
// returns nil if that happens before ctx ends, and the error of ctx otherwise. A client that
// is silent or does not read cannot delay Shutdown beyond ctx. Shutdown can be called more
// than once; each call waits for the end.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.shutdownOnce.Do(func() {
		h.senders.Close()
		h.subscribers.close()
		close(h.closing)
		conns := h.conns.close()
		for _, c := range conns {
			c.sock.Interrupt()
		}
		go func() { // ends when all connections have stopped reading, which Interrupt makes them do
			h.conns.reading.Wait()
			close(h.readersDone)
			if m := h.member.Load(); m != nil {
				m.hubs.Close(h.aborted)
			}
			h.conns.running.Wait()
			close(h.finished)
		}()
	})
	select {
	case <-h.finished:
		return nil
	case <-ctx.Done():
		select {
		case <-h.finished: // finished before ctx ended
			return nil
		default:
		}
	}
	h.abortOnce.Do(func() { close(h.aborted) })
	for _, c := range h.conns.snapshot() {
		c.close(CloseShutdown)
	}
	h.subscribers.stopAll()
	<-h.finished
	return ctx.Err()
}

// Stats returns the current statistics. It can be called at any time.
func (h *Hub) Stats() Stats {
	s := h.counters.snapshot(h.registry.Size())
	s.Uptime, s.ClusterClients = time.Since(h.started), h.registry.Total()
	bodies, peakBodies := h.bodies.Used()
	reads, peakReads := h.reads.Used()
	s.QueuedBytes, s.PeakQueuedBytes = bodies+reads, peakBodies+peakReads
	s.MaxQueuedBytes = h.config.MaxQueuedBytes
	s.Fates, s.TracesDropped = h.relay.Fates(), h.relay.TracesDropped()
	return s
}

// lookup returns the conn of a client, or nil.
func (h *Hub) lookup(id uint64) *conn { return connOf(h.find(id)) }

// find returns what has an id, or nil.
func (h *Hub) find(id uint64) relay.Destination {
	var found [1]relay.Destination
	h.registry.Find([]uint64{id}, found[:])
	return found[0]
}
