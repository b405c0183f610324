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
//	StateConnecting ◄──► StateUp
//	       ▲                │
//	       └──► StateLost ◄─┘
type State uint8

// The states.
const (
	StateConnecting State = iota // its clients are not known yet
	StateUp                      // messages can be sent to its clients
	StateLost                    // nothing was heard of it for maxSilence, or it has heard nothing
)

// String returns the state in lower case, as it stands in the log and the API.
func (s State) String() string { return [...]string{"connecting", "up", "lost"}[s] }

var (
	errSilent    = errors.New("nothing was heard of the hub")
	errDeaf      = errors.New("the hub has acknowledged nothing")
	errLeft      = errors.New("the hub has left the cluster")
	errReplaced  = errors.New("another hub has its number")
	errDisagrees = errors.New("the hub has another number of clients than is known here")
)

// peer is another hub. It implements relay.Peer. Its methods can be called concurrently, except the
// callbacks of the link: onData, onBreak, onEstablished, and what they call. These run one at a
// time, in the goroutine that brings frames or in that of run.
type peer struct {
	// Static after newPeer.
	cluster  *Cluster
	node     Node
	instance string       // of the hub
	remote   relay.Remote // its clients in the registry
	link     *link.Link
	sender   sender
	clients  publisher
	tunnels  tunnels
	stop     chan struct{} // closed by close

	// Owned by the callbacks of the link.
	decoder   decoder
	receiver  receiver
	directory directory
	control   []byte // the body of a record that carries no messages

	// mu guards the fields below.
	mu        sync.Mutex
	state     State
	since     time.Time // of the state
	heard     time.Time // when the last frame came
	heartbeat heartbeat // the last one
	clockDiff time.Duration

	acked   uint64    // link.Stats.Acked at the last checkSilence
	ackedAt time.Time // when acked has changed, or nothing was to be acknowledged

	// While the other hub sends nonsense, its frames of the link are ignored for a time after each
	// break. Otherwise the link would break and begin anew all the time.
	breaks       int // since the last calm
	ignoredUntil time.Time
}

func newPeer(c *Cluster, node Node, h *heartbeat) *peer {
	now := time.Now()
	p := &peer{
		cluster: c, node: node, instance: h.Instance, heartbeat: *h, since: now, heard: now, ackedAt: now,
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
	p.tunnels.init(p.link, c.config.OnTunnel)
	p.decoder.handler = p
	p.clients = publisher{stream: p.link, registry: c.config.Registry, since: c.config.ConnectTime}
	p.directory = directory{group: &p.remote, registry: c.config.Registry, onClaim: p.onClaim}
	return p
}

// run runs the link until close.
func (p *peer) run() { p.link.Run(p.stop) }

// close ends the peer. What waits for it fails. run returns soon. The link begins no generation for
// this: the other hub, which a heartbeat tells that this one leaves, would take it for a fault.
func (p *peer) close() {
	p.sender.setReach(reachEnded)
	p.tunnels.close()
	close(p.stop)
	p.directory.close()
}

// Send implements relay.Peer. Clients of this hub are known to the other hub before their
// messages come.
func (p *peer) Send(t *relay.Transfer) {
	if p.sender.isReachable() {
		p.clients.publish(true)
		p.receiver.appendReplies()
	}
	p.sender.send(t)
}

// Retract implements relay.Peer.
func (p *peer) Retract(options *outbox.Options) { p.sender.retract(options) }

// handleLink handles a frame of the link.
func (p *peer) handleLink(frame []byte) {
	if p.accepts() && !p.receiver.isOverfull() {
		p.link.Handle(frame)
	}
}

// accepts records that a frame of the link has come, and reports whether it is to be handled. The
// link sends again what is not.
func (p *peer) accepts() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = time.Now()
	return !p.heard.Before(p.ignoredUntil)
}

const (
	// minIgnored and maxIgnored limit how long the frames of the link are ignored after it broke
	// because the other hub makes no sense: from the second break on, twice as long each time.
	minIgnored = 100 * time.Millisecond
	maxIgnored = 10 * time.Second

	// calmTime is how long it must not break until the first break is the first again.
	calmTime = time.Minute
)

// ignore has the frames of the link ignored for a time after it broke.
func (p *peer) ignore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.ignoredUntil) > calmTime {
		p.breaks = 0
	}
	p.ignoredUntil = now
	if p.breaks > 0 {
		p.ignoredUntil = now.Add(min(minIgnored<<(p.breaks-1), maxIgnored))
	}
	p.breaks = min(p.breaks+1, 10)
}

// onData implements link.Config.OnData.
func (p *peer) onData(data []byte) error {
	p.receiver.begin()
	defer p.receiver.finish()
	return p.decoder.write(data)
}

// onBreak implements link.Config.OnBreak.
func (p *peer) onBreak(generation, sent uint64, err error) {
	if !errors.Is(err, link.ErrEnded) && !errors.Is(err, errSilent) && !errors.Is(err, errDeaf) { // otherwise logged
		p.cluster.config.Logger.Warn("link to hub broken", "node", uint32(p.node), "hub", p.name(), "cause", err)
	}
	if errors.Is(err, errNonsense) || errors.Is(err, errDisagrees) {
		p.ignore()
	}
	p.decoder.reset()
	p.receiver.reset()
	p.directory.restart()
	p.tunnels.onBreak(generation)
	p.sender.onBreak(generation, sent)
}

// onEstablished implements link.Config.OnEstablished.
func (p *peer) onEstablished() {
	p.sender.setReach(reachable)
	p.become(StateConnecting)
	p.cluster.Publish()
}

// beginRecord implements recordHandler.
func (p *peer) beginRecord(t recordType, head []byte, size int) ([]byte, error) {
	switch t {
	case recordBatch:
		return p.receiver.beginBatch(head, size)
	case recordTunnelData:
		return p.tunnels.body(size)
	}
	if size > maxControlBody {
		return nil, nonsense("record of type %d with a body of %d bytes", t, size)
	}
	if size > len(p.control) {
		p.control = make([]byte, size)
	}
	return p.control[:size], nil
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
	case recordTunnelOpen, recordTunnelData, recordTunnelCredit, recordTunnelClose, recordTunnelReceived:
		return p.tunnels.handle(t, head, body)
	}
	return nil
}

// onClaim is called when the other hub has a client whose id a client of this hub has as well.
func (p *peer) onClaim(id uint64, since int64) {
	if !p.cluster.config.OnClaim(id, since, p.node) {
		p.cluster.config.Registry.Reannounce(id)
	}
}

// become changes the state, and logs it. The loss of a hub is logged by checkSilence.
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
	case StateConnecting:
		logger.Info("hub connects again", "node", uint32(p.node), "hub", name, "after", time.Since(since).Round(time.Millisecond))
	}
}

// checkSilence declares the hub lost if nothing was heard of it for maxSilence, or if it has not
// acknowledged anything in that time: a way can be cut in one direction alone. It returns how long
// the hub has been lost.
func (p *peer) checkSilence(now time.Time) (lost time.Duration) {
	stats := p.link.Stats()
	p.mu.Lock()
	if stats.Acked != p.acked || stats.UnderWay+stats.Waiting == 0 {
		p.acked, p.ackedAt = stats.Acked, now
	}
	state, since, silent, deaf := p.state, p.since, now.Sub(p.heard), now.Sub(p.ackedAt)
	p.mu.Unlock()
	cause := errSilent
	switch {
	case state == StateLost:
		return now.Sub(since)
	case deaf >= maxSilence:
		cause = errDeaf
	case silent < maxSilence:
		return 0
	}
	p.become(StateLost)
	p.cluster.config.Logger.Warn("hub lost", "node", uint32(p.node), "hub", p.name(), "cause", cause, "silent_for", silent.Round(100*time.Millisecond))
	p.sender.setReach(reachLost)
	p.directory.lose()
	p.link.Break(cause)
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

// isBusy reports whether the hub is up and something waits for it, or a tunnel of it is served
// here.
func (p *peer) isBusy() bool {
	stats := p.link.Stats()
	return p.isUp() && (p.sender.isBusy() || stats.UnderWay+stats.Waiting > 0 || p.tunnels.serves())
}

// Info describes a hub of the cluster.
type Info struct {
	Node     Node
	Name     string
	Address  string    // at which clients reach it, if the hub says so
	Software string    // its version, if the hub says so
	State    State     // StateUp for this hub
	Since    time.Time // of the state
	Started  time.Time
	Clients  int           // that the hub says it has
	Clock    time.Duration // its clock minus that of this hub, with the time of a frame
	Self     bool          // it is this hub

	Link   link.Stats
	Sender SenderCounts
}

// info returns the description of the hub.
func (p *peer) info() Info {
	p.mu.Lock()
	h := p.heartbeat
	i := Info{
		Node: p.node, Name: h.Name, Address: h.Address, Software: h.Software, State: p.state, Since: p.since,
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
