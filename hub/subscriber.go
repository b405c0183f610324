package hub

import (
	"fmt"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/local"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/reclaim"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// subscriber is a Subscription as the hub sees it: a destination, and a holder of memory.
type subscriber struct {
	// Static after construction.
	*local.Receiver
	hub   *Hub
	id    uint64
	since time.Time
	ended chan struct{} // closed when the subscriber has no goroutine any more

	reclaimState reclaim.State // owned by reclaim.Run
}

// run waits for the end of the subscriber, and then tears it down.
func (s *subscriber) run() {
	select {
	case <-s.Stopped():
	case <-s.hub.readersDone:
		s.Drain(s.Stopped())
		s.Stop(ErrClosed)
	}
	s.hub.registry.Leave(s.id, s)
	s.Close()
	s.hub.subscribers.remove(s)
	close(s.ended)
}

// clientInfo returns the description of s.
func (s *subscriber) clientInfo() ClientInfo {
	progress := s.Progress()
	return ClientInfo{
		ID: s.id, Address: localAddr{}, Protocol: wire.Version2, Since: s.since, QueuedBytes: progress.Queued, BytesOut: uint64(progress.Sent),
	}
}

// localAddr is the address of a subscriber, which has no connection.
type localAddr struct{}

func (localAddr) Network() string { return "local" }
func (localAddr) String() string  { return "local" }

// The following methods implement reclaim.Conn.

func (s *subscriber) ReclaimState() *reclaim.State { return &s.reclaimState }

func (s *subscriber) Sample() reclaim.Sample {
	return reclaim.Sample{Closed: s.Err() != nil, Written: s.Progress()}
}

func (s *subscriber) DelaysSender() bool { return anyWaiting(s.Accounts) }

func (s *subscriber) Evict() { s.Stop(ErrSlow) }

// RequestAck frees the memory at once: the inbox has copies of what is unacknowledged.
func (s *subscriber) RequestAck() { s.DropUnacked() }

// subscribers holds the subscribers of a hub by id.
type subscribers struct {
	config local.ReceiverConfig // static after init

	// mu guards the fields below.
	mu     sync.Mutex
	byID   map[uint64]*subscriber
	closed bool
}

func (ss *subscribers) init(h *Hub) {
	ss.byID = make(map[uint64]*subscriber)
	ss.config = local.ReceiverConfig{
		Outbox: h.socketConfig.Outbox,
		OnWritten: func(written outbox.Counts) {
			h.counters.messagesOut.Add(uint64(written.Frames))
			h.counters.delivered.Add(uint64(written.Deliveries))
		},
		OnLost: func(lost outbox.Counts) { h.counters.recordDrop(DropGone, lost.Deliveries) },
	}
}

// assignID returns the id of a new subscriber that is to have the given id, or any if that is 0.
func (ss *subscribers) assignID(h *Hub, id uint64) (uint64, error) {
	switch {
	case id == 0:
		return h.ids.Next(), nil
	case id > MaxGrantedID:
		return 0, fmt.Errorf("hub: Subscribe: id %d is above %d", id, uint64(MaxGrantedID))
	case h.config.Authenticate != nil, h.member.Load() != nil: // the hub assigns ids above MaxGrantedID
		return id, nil
	case id < h.firstID() && h.v1IDs.Reserve(id), id >= h.firstID() && h.ids.Reserve(id):
		return id, nil
	}
	return 0, fmt.Errorf("%w: %d", ErrIDInUse, id)
}

// add adds a subscriber and starts it. A client with its id is disconnected.
func (ss *subscribers) add(s *subscriber) error {
	replaced, err := ss.join(s)
	if err != nil {
		return err
	}
	closeReplaced(replaced) // without the lock: it can close a socket
	return nil
}

// join is add without the end of what had the id before, which it returns.
func (ss *subscribers) join(s *subscriber) (replaced relay.Destination, err error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	switch {
	case ss.closed:
		return nil, ErrClosed
	case ss.byID[s.id] != nil:
		return nil, fmt.Errorf("%w: %d", ErrIDInUse, s.id)
	}
	ss.byID[s.id] = s
	replaced = s.hub.registry.Join(s.id, s)
	s.hub.conns.running.Go(s.run) // ends when s is stopped
	return replaced, nil
}

func (ss *subscribers) remove(s *subscriber) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.byID, s.id)
}

// close makes add return ErrClosed from now on.
func (ss *subscribers) close() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.closed = true
}

// stopAll ends all subscribers.
func (ss *subscribers) stopAll() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, s := range ss.byID {
		s.Stop(ErrClosed)
	}
}

// appendTo appends the current subscribers to conns.
func (ss *subscribers) appendTo(conns []reclaim.Conn) []reclaim.Conn {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, s := range ss.byID {
		conns = append(conns, s)
	}
	return conns
}
