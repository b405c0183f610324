package hub

import (
	"errors"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// Cluster makes a hub a member of a cluster: several hubs that serve one population of clients.
// Package natscluster has an implementation over NATS. Its methods can be called concurrently.
type Cluster interface {
	// Node returns the number of this start of the hub, which no other has in the cluster.
	Node() cluster.Node

	// Carrier returns what carries frames between the hubs.
	Carrier() cluster.Carrier

	// Key returns the key by which the hubs of the cluster know each other. It must not be changed.
	Key() []byte

	// Valid reports whether the number belongs to this hub for certain. While it does not, the hub
	// rejects new connections. Those that it has stay.
	Valid() bool
}

// revisionShift is the position of the number of the hub in the revisions of its presence. Those of
// two hubs do not overlap before one of them has had 2 billion changes.
const revisionShift = 31

// member is the membership of a hub in its cluster.
type member struct {
	Cluster
	secrets resumeSecrets
	hubs    *cluster.Cluster
}

// findDestinations stores the destination of ids[i] in found[i], or nil.
func (h *Hub) findDestinations(ids []uint64, found []relay.Destination) {
	h.registry.Find(ids, found)
	if m := h.member.Load(); m != nil {
		m.hubs.Route(ids, found)
	}
}

// isLost reports whether a client was connected to another hub that is lost now.
func (h *Hub) isLost(id uint64) bool {
	m := h.member.Load()
	return m != nil && m.hubs.IsLost(id)
}

// JoinCluster makes the hub a member of a cluster: see Config.Cluster. It is for a hub that has to
// exist before it can join, and must be called before the hub is used: before Serve, WebHandler,
// Subscribe and Send. It returns an error if the hub has clients, or is a member already. The hub
// keeps its Config.Credit: DefaultClusterCredit is not the default of a hub that joins later.
func (h *Hub) JoinCluster(membership Cluster) error {
	m := &member{Cluster: membership, secrets: newResumeSecrets(membership.Key())}
	if clients, peak := h.registry.Size(); clients+peak > 0 || h.member.Load() != nil {
		return errors.New("hub: JoinCluster: the hub is in use already")
	}
	h.ids.StartAt(cluster.FirstID(membership.Node()))
	h.v1IDs.StartAt(cluster.FirstIDOfUpperHalf(membership.Node()))
	h.registry.StartAt(uint64(membership.Node())<<revisionShift | 1)
	m.hubs = cluster.New(cluster.Config{
		Node: membership.Node(), Name: h.config.Name, Address: h.config.Address, Software: h.config.Software,
		Key: membership.Key(), Carrier: membership.Carrier(), Registry: h.registry, Relay: h.relay, MaxBody: h.config.MaxBody,
		NewAccount:  func() *body.Account { return h.bodies.NewAccount(h.maxPerSender) },
		RequestAck:  func(id uint64) { requestAck(h.find(id)) },
		ConnectTime: h.connectTime,
		OnClaim:     h.handleClaim,
		OnDrop:      func(fate wire.Fate, n int) { h.counters.recordDrop(dropReasonOf(fate), n) },
		OnTunnel:    h.acceptTunnel,
		Logger:      h.config.Logger,
	})
	h.member.Store(m)
	return nil
}

// connectTime returns when what has an id has connected, in µs since 1970; 0: it has left.
func (h *Hub) connectTime(id uint64) int64 { return connectTimeOf(h.find(id)) }

// connectTimeOf returns when dest has connected, in µs since 1970; 0: it is no client of this hub.
func connectTimeOf(dest relay.Destination) int64 {
	switch d := dest.(type) {
	case destination:
		return d.conn.acceptedAt.UnixMicro()
	case *subscriber:
		return d.since.UnixMicro()
	}
	return 0
}

// handleClaim is called when a client with an id of this hub has connected to another hub as well,
// at since. The later connection wins, and of two at the same time that at the hub with the larger
// number. If it is that of the other hub, handleClaim disconnects the client of this one, and
// returns true.
func (h *Hub) handleClaim(id uint64, since int64, node cluster.Node) (yields bool) {
	dest := h.find(id)
	own := connectTimeOf(dest)
	if own == 0 {
		return true
	}
	if own > since || own == since && h.member.Load().Node() > node {
		return false
	}
	switch d := dest.(type) {
	case destination:
		d.conn.requestClose(&goAway{
			code: wire.GoAwayTakenOver, reason: CloseTakenOver, err: errors.New("a connection to another hub of the cluster has this id"),
		})
	case *subscriber:
		d.Stop(ErrTakenOver)
	}
	return true
}

// HubInfo describes a hub of the cluster, as this hub sees it.
type HubInfo struct {
	Node     uint32        // number of its start
	Name     string        // Config.Name
	Address  string        // Config.Address
	Software string        // Config.Software
	State    string        // up, connecting or lost: one of HubStates
	Since    time.Time     // of the state
	Started  time.Time     // of the hub
	Clients  int           // that the hub has, by its own word
	Clock    time.Duration // its clock minus that of this hub, with the time that its word needed
	Self     bool          // it is this hub; Link is zero
	Link     LinkInfo
}

// LinkInfo describes the link from this hub to another one. Counts are those since this hub has
// found the other one.
type LinkInfo struct {
	RoundTrip time.Duration // smoothed; 0: not known
	Lag       time.Duration // age of the oldest bytes that the hub has not acknowledged
	UnderWay  int           // bytes of messages that the hub has not queued yet
	Waited    uint64        // batches of messages that had to wait for room on the link
	Batches   uint64        // batches of messages that were sent
	Messages  uint64        // messages that were sent, each once for all receivers at the hub
	Bytes     uint64        // of messages that were sent

	FramesIn, FramesOut uint64
	Resent              uint64 // bytes that were sent again
	Gaps                uint64 // frames that came before one that was missing
	Duplicates          uint64 // frames with nothing new
	Breaks              uint64 // how often the link was established and broke
}

// HubStates returns the values that HubInfo.State can have.
func HubStates() []string {
	return []string{cluster.StateUp.String(), cluster.StateConnecting.String(), cluster.StateLost.String()}
}

// Hubs returns the hubs of the cluster, this one included, by number. It returns nil if the hub has
// not joined a cluster. It can be called at any time.
func (h *Hub) Hubs() []HubInfo {
	m := h.member.Load()
	if m == nil {
		return nil
	}
	var hubs []HubInfo
	for _, i := range m.hubs.Hubs() {
		hubs = append(hubs, HubInfo{
			Node: uint32(i.Node), Name: i.Name, Address: i.Address, Software: i.Software,
			State: i.State.String(), Since: i.Since, Started: i.Started,
			Clients: i.Clients, Clock: i.Clock, Self: i.Self, Link: linkInfo(&i),
		})
	}
	return hubs
}

func linkInfo(i *cluster.Info) LinkInfo {
	return LinkInfo{
		RoundTrip: i.Link.SmoothedRTT, Lag: i.Link.Lag,
		UnderWay: i.Sender.UnderWay, Waited: i.Sender.Waited,
		Batches: i.Sender.Batches, Messages: i.Sender.Messages, Bytes: i.Sender.Bytes,
		FramesIn: i.Link.FramesIn, FramesOut: i.Link.FramesOut,
		Resent: i.Link.Resent, Gaps: i.Link.Gaps, Duplicates: i.Link.Duplicates, Breaks: i.Link.Breaks,
	}
}
