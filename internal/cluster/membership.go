package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Reasons why a hub cannot be a peer.
var (
	errSameNode = errors.New("two hubs have its number; the store of the cluster has lost its counter: start all hubs again")
	errTooMany  = fmt.Errorf("there are %d other hubs already", maxPeers)
)

// sendHeartbeat sends a heartbeat to all other hubs. An error shows as silence.
func (c *Cluster) sendHeartbeat(kind frameKind) {
	now := time.Now()
	revision := c.config.Registry.LocalRevision()
	clients, _ := c.config.Registry.Size()
	frame := encodeHeartbeat(kind, c.config.Node, c.config.Key, &heartbeat{
		MinVersion: minVersion, MaxVersion: maxVersion,
		Name: c.config.Name, Instance: c.instance, Address: c.config.Address, Software: c.config.Software,
		Started: c.started.Unix(), Now: now.UnixMicro(), Clients: clients, Revision: revision, Window: c.window,
	})
	c.config.Carrier.Send(0, frame)
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
		c.rejections.add(from, "it sends nonsense: "+err.Error())
		return
	case !authentic:
		c.rejections.add(from, "it has another key; give all hubs of the cluster the same key, or this one another cluster name")
		return
	case from == c.config.Node && h.Instance != c.instance:
		c.rejections.add(from, "it has the number of this hub; the store of the cluster has lost its counter: start all hubs again")
		return
	case from == c.config.Node:
		return
	case h.MinVersion > maxVersion || h.MaxVersion < minVersion:
		c.rejections.add(from, versionText(&h))
		return
	}
	if kind == frameLeave {
		c.handleLeave(from, h.Instance)
		return
	}
	p, isNew, err := c.addPeer(from, &h)
	if err != nil {
		c.rejections.add(from, err.Error())
		return
	}
	if p == nil {
		return
	}
	p.onHeartbeat(&h)
	if isNew {
		signal(c.greeting) // not here: the carrier may block, and this is its goroutine
	}
}

// handleLeave handles the last heartbeat of a hub.
func (c *Cluster) handleLeave(node Node, instance string) {
	c.mu.Lock()
	p := c.peers[node]
	if p != nil && p.instance != instance {
		c.mu.Unlock()
		return
	}
	c.departed[node] = time.Now()
	c.mu.Unlock()
	if p != nil {
		c.removePeer(p, errLeft)
	}
}

// addPeer returns the peer with that node. It adds one if there is none. It returns nil if the hub
// has left, or this one has, and an error if the hub cannot be a peer.
func (c *Cluster) addPeer(node Node, h *heartbeat) (p *peer, isNew bool, err error) {
	p = c.peer(node)
	switch {
	case p == nil:
	case p.instance == h.Instance:
		return p, false, nil
	case p.currentState() != StateLost:
		return nil, false, errSameNode
	default:
		c.removePeer(p, errReplaced)
	}
	if p, err = c.startPeer(node, h); p == nil {
		return nil, false, err
	}
	c.config.Logger.Info("hub found", "node", uint32(node), "hub", h.Name)
	if diff := time.Until(time.UnixMicro(h.Now)).Abs(); diff > maxClockDiff {
		c.config.Logger.Warn("clocks of hubs differ", "node", uint32(node), "hub", h.Name, "difference", diff.Round(time.Millisecond))
	}
	return p, true, nil
}

// startPeer is addPeer for a hub that is no peer yet.
func (c *Cluster) startPeer(node Node, h *heartbeat) (*peer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, departed := c.departed[node]; departed || c.closed {
		return nil, nil
	}
	if len(c.peers) >= maxPeers {
		return nil, errTooMany
	}
	p := newPeer(c, node, h)
	c.peers[node] = p
	c.links.Go(p.run) // ends with peer.close
	return p, nil
}

// removePeer ends a peer.
func (c *Cluster) removePeer(p *peer, err error) {
	c.mu.Lock()
	present := c.peers[p.node] == p
	if present {
		delete(c.peers, p.node)
	}
	c.mu.Unlock()
	if present {
		p.close()
		c.config.Logger.Info("hub left", "node", uint32(p.node), "hub", p.name(), "cause", err)
	}
}

// versionText says which versions a hub speaks, of which this hub speaks none.
func versionText(h *heartbeat) string {
	return fmt.Sprintf("it speaks versions %d to %d between hubs, this hub %d to %d; upgrade the older one",
		h.MinVersion, h.MaxVersion, minVersion, maxVersion)
}

// maxRejections is the maximum number of rejections that are logged in rejectionInterval. Any
// program that reaches the network of the hubs can cause them.
const (
	maxRejections     = 20
	rejectionInterval = time.Minute
)

// rejections logs why hubs cannot be peers, once per hub and cause in each interval.
type rejections struct {
	logger *slog.Logger // static

	// mu guards the fields below.
	mu     sync.Mutex
	since  time.Time
	logged map[rejection]bool
}

type rejection struct {
	node  Node
	cause string
}

// add logs a cause, unless it was logged already.
func (r *rejections) add(node Node, cause string) {
	r.mu.Lock()
	if now := time.Now(); r.logged == nil || now.Sub(r.since) >= rejectionInterval {
		r.since, r.logged = now, make(map[rejection]bool)
	}
	key := rejection{node, cause}
	skip := r.logged[key] || len(r.logged) >= maxRejections
	if !skip {
		r.logged[key] = true
	}
	r.mu.Unlock()
	if !skip {
		r.logger.Warn("hub rejected", "node", uint32(node), "cause", cause)
	}
}
