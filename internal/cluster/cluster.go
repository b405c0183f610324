package cluster

import (
	"crypto/rand"
	"fmt"
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

	// ConnectTime returns when a client has connected, in µs since 1970; 0: it has left.
	ConnectTime func(id uint64) int64

	// OnClaim is called when a client of this hub has also connected to another hub, at since. It
	// returns true if that claim wins, and the client of this hub is being disconnected.
	OnClaim func(id uint64, since int64, node Node) bool

	// OnDrop is called with the number of messages that were not sent to one receiver at another
	// hub.
	OnDrop func(fate wire.Fate, messages int)

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
	stop     chan struct{}
	running  sync.WaitGroup

	// mu guards the fields below.
	mu      sync.RWMutex
	peers   map[Node]*peer
	strange map[Node]string // hubs that cannot be peers, and why
	closed  bool
}

// New returns a Cluster and starts it. Close must be called.
func New(config Config) *Cluster {
	c := &Cluster{
		config: config, window: max(minWindow, 2*config.MaxBody), instance: rand.Text(), started: time.Now(),
		wakeup: make(chan struct{}, 1), stop: make(chan struct{}),
		peers: make(map[Node]*peer), strange: make(map[Node]string),
	}
	config.Carrier.Receive(c.handleFrame)
	c.running.Go(c.run) // ends with Close
	return c
}

// run sends heartbeats, publishes changes, and looks for lost hubs, until Close.
func (c *Cluster) run() {
	heartbeats, publish := time.NewTicker(heartbeatInterval), time.NewTicker(publishInterval)
	defer heartbeats.Stop()
	defer publish.Stop()
	c.sendHeartbeat(0, frameHeartbeat)
	for {
		select {
		case <-heartbeats.C:
			c.sendHeartbeat(0, frameHeartbeat)
			c.checkSilence()
		case <-publish.C:
			c.publish()
		case <-c.wakeup:
			c.publish()
		case <-c.stop:
			return
		}
	}
}

// wake has run publish at once.
func (c *Cluster) wake() {
	select {
	case c.wakeup <- struct{}{}:
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

// sendHeartbeat sends a heartbeat to a hub; 0: to all. An error shows as silence.
func (c *Cluster) sendHeartbeat(to Node, kind frameKind) {
	now := time.Now()
	revision := c.config.Registry.LocalRevision()
	clients, _ := c.config.Registry.Size()
	frame := encodeHeartbeat(kind, c.config.Node, c.config.Key, &heartbeat{
		MinVersion: minVersion, MaxVersion: maxVersion,
		Name: c.config.Name, Instance: c.instance, Address: c.config.Address, Software: c.config.Software,
		Started: c.started.Unix(), Now: now.UnixMicro(), Clients: clients, Revision: revision, Window: c.window,
	})
	c.config.Carrier.Send(to, frame)
}

// handleFrame handles a frame of another hub. The carrier calls it, one at a time.
func (c *Cluster) handleFrame(frame []byte) {
	kind, from, rest, ok := parseFramePrefix(frame)
	if !ok {
		return
	}
	switch kind {
	case frameLink:
		if p := c.peer(from); p != nil {
			p.handleLink(rest)
		}
	case frameHeartbeat, frameLeave:
		c.handleHeartbeat(kind, from, frame)
	}
}

// handleHeartbeat handles a heartbeat, or the last one of a hub.
func (c *Cluster) handleHeartbeat(kind frameKind, from Node, frame []byte) {
	h, authentic, err := parseHeartbeat(frame, c.config.Key)
	switch {
	case err != nil:
		c.reject(from, "it sends nonsense: "+err.Error())
		return
	case !authentic:
		c.reject(from, "it has another key; give all hubs of the cluster the same key, or this one another cluster name")
		return
	case from == c.config.Node && h.Instance != c.instance:
		c.reject(from, "it has the number of this hub; the store of the cluster has lost its counter: start all hubs again")
		return
	case from == c.config.Node:
		return
	case h.MinVersion > maxVersion || h.MaxVersion < minVersion:
		c.reject(from, versionText(&h))
		return
	}
	if kind == frameLeave {
		c.removePeer(from, errLeft)
		return
	}
	p, isNew := c.addPeer(from, &h)
	if p == nil {
		return
	}
	p.onHeartbeat(&h)
	if isNew {
		c.sendHeartbeat(from, frameHeartbeat) // it knows this hub without waiting for the next one
	}
}

// addPeer returns the peer with that node. It adds one if there is none, and returns nil if there
// are too many.
func (c *Cluster) addPeer(node Node, h *heartbeat) (p *peer, isNew bool) {
	if p := c.peer(node); p != nil {
		return p, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.peers) >= maxPeers {
		return nil, false
	}
	p = newPeer(c, node, h)
	c.peers[node] = p
	delete(c.strange, node)
	c.running.Go(p.run) // ends with peer.close
	c.config.Logger.Info("hub found", "node", uint32(node), "hub", h.Name)
	if diff := time.Until(time.UnixMicro(h.Now)).Abs(); diff > maxClockDiff {
		c.config.Logger.Warn("clocks of hubs differ", "node", uint32(node), "hub", h.Name, "difference", diff.Round(time.Millisecond))
	}
	return p, true
}

// removePeer ends the peer with that node.
func (c *Cluster) removePeer(node Node, err error) {
	c.mu.Lock()
	p := c.peers[node]
	delete(c.peers, node)
	c.mu.Unlock()
	if p != nil {
		p.close(err)
		c.config.Logger.Info("hub left", "node", uint32(node), "hub", p.name(), "cause", err)
	}
}

// reject logs why a hub cannot be a peer, once per cause.
func (c *Cluster) reject(node Node, cause string) {
	c.mu.Lock()
	known := c.strange[node] == cause
	if len(c.strange) > maxPeers {
		clear(c.strange)
	}
	c.strange[node] = cause
	c.mu.Unlock()
	if !known {
		c.config.Logger.Warn("hub rejected", "node", uint32(node), "cause", cause)
	}
}

// checkSilence looks for hubs that are lost, and forgets those that have been lost for long. While
// all hubs are lost it forgets none: most likely this hub is cut off.
func (c *Cluster) checkSilence() {
	var old []Node
	anyUp := false
	for _, p := range c.snapshot() {
		lost := p.checkSilence(time.Now())
		anyUp = anyUp || lost == 0
		if lost > maxLostTime {
			old = append(old, p.node)
		}
	}
	if !anyUp {
		return
	}
	for _, node := range old {
		c.removePeer(node, errSilent)
	}
}

// IsLost reports whether a client was connected to a hub that is lost, or was given its id by such a
// hub.
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
		Node: c.config.Node, Name: c.config.Name, Address: c.config.Address, State: StateUp, Since: c.started,
		Started: c.started, Clients: clients, Self: true,
	}}
	for _, p := range c.snapshot() {
		infos = append(infos, p.info())
	}
	sortInfos(infos)
	return infos
}

// Close leaves the cluster. Before, it waits until the other hubs have acknowledged everything, or
// stop is closed, or drainTimeout is over. What waits for other hubs then fails. Close does not
// close the carrier.
func (c *Cluster) Close(stop <-chan struct{}) {
	c.drain(stop)
	c.mu.Lock()
	c.closed = true
	peers := slices.Collect(maps.Values(c.peers))
	clear(c.peers)
	c.mu.Unlock()
	close(c.stop)
	c.sendHeartbeat(0, frameLeave)
	for _, p := range peers {
		p.close(errLeft)
	}
	c.running.Wait()
}

// drain waits until the other hubs have queued everything that was sent to them.
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

// versionText says which versions a hub speaks, of which this hub speaks none.
func versionText(h *heartbeat) string {
	return fmt.Sprintf("it speaks versions %d to %d between hubs, this hub %d to %d; upgrade the older one",
		h.MinVersion, h.MaxVersion, minVersion, maxVersion)
}
