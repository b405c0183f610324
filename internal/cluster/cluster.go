package cluster

import (
	"crypto/rand"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// heartbeatInterval is how often a hub says that it lives.
	heartbeatInterval = time.Second

	// publishInterval is how long changes of the clients of a hub are collected before other hubs
	// are told. A message of a client takes those before it along.
	publishInterval = 100 * time.Millisecond

	// maxSilence is how long a hub can be silent before it is lost: four heartbeats. With one
	// heartbeat and the time of LIST, no client of a dead hub is listed for more than 6 s.
	maxSilence = 4 * time.Second

	// maxLostTime is how long a lost hub is remembered. Until then, what is sent to its clients has
	// the fate unreachable, and afterwards unknown.
	maxLostTime = 10 * time.Minute

	// maxClockDiff is the difference between the clocks of two hubs above which a warning is logged.
	// The connect times of clients with the same granted id are compared across hubs.
	maxClockDiff = time.Second

	// drainTimeout is how long Close waits for other hubs, and drainInterval how often it looks.
	drainTimeout  = 5 * time.Second
	drainInterval = 5 * time.Millisecond

	// sweepInterval is how often batches are looked for whose fates have not come in time.
	sweepInterval = time.Minute

	// maxPeers is the maximum number of other hubs. Each costs a window of memory.
	maxPeers = 63
)

// Config holds the settings of a Cluster. All fields are required unless they say otherwise.
type Config struct {
	Node     Node
	Name     string // of this hub, for operators
	Address  string // at which clients reach this hub, for operators; can be empty
	Software string // version, for operators
	Key      []byte // by which the hubs know each other
	Carrier  Carrier
	Registry *Registry
	Relay    *relay.Relay
	MaxBody  int // largest body of a message, in bytes

	// NewAccount opens an account that is charged for the batches of one other hub.
	NewAccount func() *body.Account

	// RequestAck asks a client of this hub to acknowledge what it has received: memory is short.
	RequestAck func(id uint64)

	// ConnectTime returns when a client has connected, in µs since 1970; 0: it has left.
	ConnectTime func(id uint64) int64

	// OnClaim is called when a client of this hub has also connected to another hub, at since. It
	// returns true if that claim wins, and the client of this hub is being disconnected.
	OnClaim func(id uint64, since int64, node Node) bool

	// OnDrop is called with the number of messages that were not sent to one receiver at another
	// hub.
	OnDrop func(fate wire.Fate, messages int)

	// OnTunnel is called when a client of another hub wants to resume a session of this hub. It
	// must not block, and owns conn. nil: there are no such sessions.
	OnTunnel func(conn *TunnelConn, r *TunnelRequest)

	Logger *slog.Logger
}

// Cluster is the membership of a hub in a cluster. All methods can be called concurrently.
type Cluster struct {
	// Static after New.
	config   Config
	window   int // bytes that can be under way from another hub to this one
	instance string
	started  time.Time
	wakeup   chan struct{} // capacity 1: something is to be published
	greeting chan struct{} // capacity 1: a hub has come, and is to know this one at once
	stop     chan struct{}
	running  sync.WaitGroup // run
	links    sync.WaitGroup // peer.run, of each peer

	// mu guards the fields below.
	mu       sync.RWMutex
	peers    map[Node]*peer
	departed map[Node]time.Time // hubs that have left, and when: a heartbeat can arrive later
	closed   bool

	rejections rejections
}

// New returns a Cluster and starts it. Close must be called.
func New(config Config) *Cluster {
	c := &Cluster{
		config: config, window: max(minWindow, 2*config.MaxBody), instance: rand.Text(), started: time.Now(),
		wakeup: make(chan struct{}, 1), greeting: make(chan struct{}, 1), stop: make(chan struct{}),
		peers: make(map[Node]*peer), departed: make(map[Node]time.Time),
	}
	c.rejections.logger = config.Logger
	config.Carrier.Receive(c.handleFrame)
	c.running.Go(c.run) // ends with Close
	return c
}

// run sends heartbeats, publishes changes, and looks for lost hubs, until Close.
func (c *Cluster) run() {
	heartbeats, publish, sweep := time.NewTicker(heartbeatInterval), time.NewTicker(publishInterval), time.NewTicker(sweepInterval)
	defer heartbeats.Stop()
	defer publish.Stop()
	defer sweep.Stop()
	c.sendHeartbeat(frameHeartbeat)
	for {
		select {
		case <-heartbeats.C:
			c.sendHeartbeat(frameHeartbeat)
			c.checkSilence(time.Now())
		case <-c.greeting:
			c.sendHeartbeat(frameHeartbeat)
		case <-publish.C:
			c.publish()
		case <-c.wakeup:
			c.publish()
		case <-sweep.C:
			for _, p := range c.snapshot() {
				p.sender.dropUndecided(time.Now())
			}
		case <-c.stop:
			return
		}
	}
}

// Publish has the other hubs told about changes of the clients of this hub at once. It does not
// block.
func (c *Cluster) Publish() { signal(c.wakeup) }

// signal wakes the goroutine that receives from a channel of capacity 1. It never blocks.
func signal(wakeup chan<- struct{}) {
	select {
	case wakeup <- struct{}{}:
	default:
	}
}

// publish tells all other hubs about the changes of the clients of this hub.
func (c *Cluster) publish() {
	for _, p := range c.snapshot() {
		p.clients.publish(false)
	}
}

// snapshot returns the peers.
func (c *Cluster) snapshot() []*peer {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Collect(maps.Values(c.peers))
}

// peer returns the peer with that node, or nil.
func (c *Cluster) peer(node Node) *peer {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.peers[node]
}

// checkSilence looks for hubs that are lost, and forgets those that have been lost for long. While
// all hubs are lost it forgets none: most likely this hub is cut off.
func (c *Cluster) checkSilence(now time.Time) {
	var old []*peer
	anyUp := false
	for _, p := range c.snapshot() {
		lost := p.checkSilence(now)
		anyUp = anyUp || lost == 0
		if lost > maxLostTime {
			old = append(old, p)
		}
	}
	if anyUp {
		for _, p := range old {
			c.removePeer(p, errSilent)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.departed, func(_ Node, at time.Time) bool { return now.Sub(at) > maxLostTime })
}

// IsLost reports whether a client was connected to a hub that is lost, or was given its id by such
// a hub.
func (c *Cluster) IsLost(id uint64) bool {
	if node, ok := NodeOf(id); ok {
		if p := c.peer(node); p != nil && p.currentState() == StateLost {
			return true
		}
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, p := range c.peers {
		if p.directory.isLost(id) {
			return true
		}
	}
	return false
}

// Hubs returns the hubs of the cluster, this one included, by node.
func (c *Cluster) Hubs() []Info {
	clients, _ := c.config.Registry.Size()
	infos := []Info{{
		Node: c.config.Node, Name: c.config.Name, Address: c.config.Address, Software: c.config.Software,
		State: StateUp, Since: c.started, Started: c.started, Clients: clients, Self: true,
	}}
	for _, p := range c.snapshot() {
		infos = append(infos, p.info())
	}
	sortInfos(infos)
	return infos
}

// Close leaves the cluster. Before, it waits until the other hubs have queued what was sent to them,
// and no client of theirs has a tunnel to this hub, or stop is closed, or drainTimeout is over. What
// waits for other hubs then fails. Close is called once, and does not close the carrier.
func (c *Cluster) Close(stop <-chan struct{}) {
	c.drain(stop)
	c.mu.Lock()
	c.closed = true
	peers := slices.Collect(maps.Values(c.peers))
	clear(c.peers)
	c.mu.Unlock()
	close(c.stop)
	c.running.Wait() // so that no heartbeat follows
	c.sendHeartbeat(frameLeave)
	for _, p := range peers {
		p.close()
	}
	c.links.Wait()
}

// drain waits until nothing waits for another hub, or stop is closed, or drainTimeout is over.
func (c *Cluster) drain(stop <-chan struct{}) {
	timeout, tick := time.NewTimer(drainTimeout), time.NewTicker(drainInterval)
	defer timeout.Stop()
	defer tick.Stop()
	for c.isBusy() {
		select {
		case <-tick.C:
		case <-timeout.C:
			return
		case <-stop:
			return
		}
	}
}

// isBusy reports whether anything waits for another hub that is up.
func (c *Cluster) isBusy() bool {
	for _, p := range c.snapshot() {
		if p.isBusy() {
			return true
		}
	}
	return false
}
