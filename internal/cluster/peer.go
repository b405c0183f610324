package cluster

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/cluster/link"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
)

// State is the state of another hub, as this hub sees it.
//
//	StateConnecting ──► StateUp ──► StateLost
//	       ▲                            │
//	       └────────────────────────────┘
type State uint8

// The states.
const (
	StateConnecting State = iota // its clients are not known yet
	StateUp                      // messages can be sent to its clients
	StateLost                    // nothing was heard of it for maxSilence
)

// String returns the state in lower case, as it stands in the log and the API.
func (s State) String() string { return [...]string{"connecting", "up", "lost"}[s] }

var (
	errSilent    = errors.New("nothing was heard of the hub")
	errLeft      = errors.New("the hub has left the cluster")
	errDisagrees = errors.New("the hub has another number of clients than is known here")
)

// peer is another hub. It implements relay.Peer. Its methods can be called concurrently, except
// those that the link calls, one at a time.
type peer struct {
	// Static after newPeer.
	cluster *Cluster
	node    Node
	remote  relay.Remote // its clients in the registry
	link    *link.Link
	sender  sender
	clients publisher
	stop    chan struct{} // closed by close

	// Owned by the goroutine that handles the frames of the link.
	decoder   decoder
	receiver  receiver
	directory directory

	// mu guards the fields below.
	mu        sync.Mutex
	state     State
	since     time.Time // of the state
	heard     time.Time // when the last frame came
	heartbeat heartbeat // the last one
	clockDiff time.Duration
}

func newPeer(c *Cluster, node Node, h *heartbeat) *peer {
	now := time.Now()
	p := &peer{
		cluster: c, node: node, heartbeat: *h, since: now, heard: now,
		stop: make(chan struct{}),
	}
	p.remote.Peer = p
	p.link = link.New(link.Config{
		Prefix:        appendFramePrefix(nil, frameLink, c.config.Node),
		MaxFrame:      MaxFrame,
		Send:          func(frame []byte) error { return c.config.Carrier.Send(node, frame) },
		OnData:        p.onData,
		OnBreak:       p.onBreak,
		OnEstablished: p.onEstablished,
	}, 0)
	p.sender.init(p.link, min(c.window, h.Window), c.config.OnDrop)
	p.receiver.init(p.link, p.link, &c.config, c.window)
	p.decoder.handler = p
	p.clients = publisher{stream: p.link, registry: c.config.Registry, since: c.config.ConnectTime}
	p.directory = directory{group: &p.remote, registry: c.config.Registry, onClaim: p.onClaim}
	return p
}

// run runs the link until close.
func (p *peer) run() { p.link.Run(p.stop) }

// close ends the peer. What waits for it fails. run returns soon.
func (p *peer) close(err error) {
	p.sender.setLost(true)
	p.link.Break(err)
	close(p.stop)
	p.directory.remove(false)
}

// Send implements relay.Peer. Clients of this hub are known to the other hub before their
// messages come.
func (p *peer) Send(t *relay.Transfer) {
	p.clients.publish()
	p.sender.send(t)
}

// Retract implements relay.Peer.
func (p *peer) Retract(options *outbox.Options) { p.sender.retract(options) }

// handleLink handles a frame of the link.
func (p *peer) handleLink(frame []byte) {
	p.touch()
	p.link.Handle(frame)
}

// touch records that a frame has come.
func (p *peer) touch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = time.Now()
}

// onData implements link.Config.OnData.
func (p *peer) onData(data []byte) error {
	p.receiver.begin()
	defer p.receiver.finish()
	return p.decoder.write(data)
}

// onBreak implements link.Config.OnBreak.
func (p *peer) onBreak(generation, sent uint64, err error) {
	if !errors.Is(err, link.ErrEnded) && !errors.Is(err, errLeft) {
		p.cluster.config.Logger.Warn("link to hub broken", "node", uint32(p.node), "hub", p.name(), "cause", err)
	}
	p.clients.reset()
	p.decoder.reset()
	p.receiver.reset()
	p.directory.restart()
	p.sender.onBreak(generation, sent)
}

// onEstablished implements link.Config.OnEstablished.
func (p *peer) onEstablished() {
	p.sender.setLost(false)
	p.become(StateConnecting)
	p.cluster.wake() // publishes
}

// beginRecord implements recordHandler.
func (p *peer) beginRecord(t recordType, head []byte, size int) ([]byte, error) {
	if t == recordBatch {
		return p.receiver.beginBatch(head, size)
	}
	if size > maxControlBody {
		return nil, nonsense("record of type %d with a body of %d bytes", t, size)
	}
	return make([]byte, size), nil
}

// endRecord implements recordHandler.
func (p *peer) endRecord(t recordType, head, body []byte) error {
	switch t {
	case recordBatch:
		return p.receiver.endBatch(body)
	case recordQueued:
		return p.sender.handleQueued(head)
	case recordPartQueued:
		return p.sender.handlePartQueued(head)
	case recordFates:
		return p.sender.handleFates(head, body)
	case recordClients:
		snapshot, err := p.directory.handleClients(head, body)
		if snapshot {
			p.become(StateUp)
		}
		return err
	}
	return nil
}

// onClaim is called when the other hub has a client whose id a client of this hub has as well.
func (p *peer) onClaim(id uint64, since int64) {
	if !p.cluster.config.OnClaim(id, since, p.node) {
		p.cluster.config.Registry.Reannounce(id)
	}
}

// become changes the state, and logs it.
func (p *peer) become(state State) {
	p.mu.Lock()
	previous, since, name := p.state, p.since, p.heartbeat.Name
	if previous == state {
		p.mu.Unlock()
		return
	}
	p.state, p.since = state, time.Now()
	p.mu.Unlock()
	logger := p.cluster.config.Logger
	switch state {
	case StateUp:
		logger.Info("hub joined", "node", uint32(p.node), "hub", name, "after", time.Since(since).Round(time.Millisecond))
	case StateLost:
		logger.Warn("hub lost", "node", uint32(p.node), "hub", name, "silent_for", maxSilence)
	case StateConnecting:
		logger.Info("hub found", "node", uint32(p.node), "hub", name)
	}
}

// checkSilence declares the hub lost if nothing was heard of it for maxSilence. It returns how long
// the hub has been lost.
func (p *peer) checkSilence(now time.Time) (lost time.Duration) {
	p.mu.Lock()
	state, since, silent := p.state, p.since, now.Sub(p.heard)
	p.mu.Unlock()
	switch {
	case state == StateLost:
		return now.Sub(since)
	case silent < maxSilence:
		return 0
	}
	p.become(StateLost)
	p.sender.setLost(true)
	p.directory.remove(true)
	p.link.Break(errSilent)
	return 0
}

// onHeartbeat records a heartbeat. If this hub knows other clients than the other hub has had for
// two heartbeats, the link begins anew, with all clients.
func (p *peer) onHeartbeat(h *heartbeat) {
	p.mu.Lock()
	steady := h.Revision == p.heartbeat.Revision && h.Clients == p.heartbeat.Clients
	p.heard = time.Now()
	p.heartbeat = *h
	p.clockDiff = time.UnixMicro(h.Now).Sub(p.heard)
	p.mu.Unlock()
	if steady && !p.directory.agrees(h) {
		p.link.Break(errDisagrees)
	}
}

// name returns the name of the hub.
func (p *peer) name() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heartbeat.Name
}

// isUp reports whether messages can be sent to clients of the hub.
func (p *peer) isUp() bool { return p.currentState() == StateUp }

// currentState returns the state.
func (p *peer) currentState() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// isBusy reports whether the hub is up and something waits for it.
func (p *peer) isBusy() bool {
	stats := p.link.Stats()
	return p.isUp() && (p.sender.isBusy() || stats.UnderWay+stats.Waiting > 0)
}

// Info describes a hub of the cluster.
type Info struct {
	Node    Node
	Name    string
	Address string    // at which clients reach it, if the hub says so
	State   State     // StateUp for this hub
	Since   time.Time // of the state
	Started time.Time
	Clients int           // that the hub says it has
	Clock   time.Duration // its clock minus that of this hub, with the time of a frame
	Self    bool          // it is this hub

	Link   link.Stats
	Sender SenderCounts
}

// info returns the description of the hub.
func (p *peer) info() Info {
	p.mu.Lock()
	h := p.heartbeat
	i := Info{
		Node: p.node, Name: h.Name, Address: h.Address, State: p.state, Since: p.since,
		Started: time.Unix(h.Started, 0), Clients: h.Clients, Clock: p.clockDiff,
	}
	p.mu.Unlock()
	i.Link, i.Sender = p.link.Stats(), p.sender.stats()
	return i
}

// sortInfos sorts hubs by node.
func sortInfos(infos []Info) {
	slices.SortFunc(infos, func(a, b Info) int { return int(a.Node) - int(b.Node) })
}
