package hub

import (
	"slices"
	"sync"
	"time"
)

// connSet knows every session from Accept to its last goroutine, whether or not
// it is listed. Once closed it refuses new ones, so that Shutdown misses none.
type connSet struct {
	reading sync.WaitGroup // sessions that may still read, and so offer something
	running sync.WaitGroup // sessions, and the hub's own goroutines

	mu           sync.Mutex
	set          map[*conn]struct{}
	clientSlots  int             // sessions that have a place
	resumable    int             // sessions of version 2
	detached     int             // those of them that have no connection
	provisionals provisionalList // connections without a place
	closed       bool
}

// addResult is the answer to add.
type addResult int

const (
	addOK addResult = iota
	addFull
	addClosed
)

func (cs *connSet) init() { cs.set = make(map[*conn]struct{}) }

// add tracks s unless the tracker is closed. When most sessions have a place already, or s is
// provisional, it is added without one if it may come to resume. After added, the session owes
// reading.Done and remove.
func (cs *connSet) add(c *conn, maxClients int) addResult {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return addClosed
	}
	if !c.provisional && cs.clientSlots >= maxClients {
		c.provisional, c.rejectReason = true, RejectFull
	}
	switch {
	case !c.provisional:
		c.hasClientSlot = true
		cs.clientSlots++
	case !cs.allowProvisional(c.acceptedAt):
		return addFull
	default:
		cs.provisionals.add(c)
	}
	cs.set[c] = struct{}{}
	cs.reading.Add(1)
	cs.running.Add(1)
	return addOK
}

// allowProvisional reports whether one more provisional connection may come in. If need be the
// oldest one is refused. It is called with mu held.
func (cs *connSet) allowProvisional(now time.Time) bool {
	if cs.resumable == 0 {
		return false
	}
	if len(cs.provisionals.elems) < maxProvisional+cs.detached {
		return true
	}
	oldest := cs.provisionals.oldest(now.Add(-minProvisionalTime))
	if oldest == nil {
		return false
	}
	cs.provisionals.remove(oldest)
	oldest.sock.Interrupt()
	return true
}

// acquireClientSlot gives a provisional connection a place. It returns false when that was refused already.
func (cs *connSet) acquireClientSlot(c *conn) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if !cs.provisionals.remove(c) {
		return false
	}
	c.hasClientSlot = true
	cs.clientSlots++
	return true
}

// setV2 notes that s speaks version 2 from now on, and so can be resumed.
func (cs *connSet) setV2(c *conn, v2 *connV2) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.v2.Store(v2)
	cs.resumable++
}

// addDetached notes that a session more, or one less, has no connection.
func (cs *connSet) addDetached(n int) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.detached += n
}

// remove forgets s, which has ended.
func (cs *connSet) remove(c *conn) {
	cs.mu.Lock()
	delete(cs.set, c)
	cs.provisionals.remove(c)
	if c.hasClientSlot {
		cs.clientSlots--
	}
	if c.v2.Load() != nil {
		cs.resumable--
	}
	cs.mu.Unlock()
	cs.running.Done()
}

// close refuses new sessions from now on and returns those there are.
func (cs *connSet) close() []*conn {
	cs.mu.Lock()
	cs.closed = true
	cs.mu.Unlock()
	return cs.snapshot()
}

// snapshot returns the sessions of this moment.
func (cs *connSet) snapshot() []*conn { return cs.appendTo(nil) }

// appendTo appends them.
func (cs *connSet) appendTo(conns []*conn) []*conn {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	conns = slices.Grow(conns, len(cs.set))
	for c := range cs.set {
		conns = append(conns, c)
	}
	return conns
}
