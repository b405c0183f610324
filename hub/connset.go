package hub

import (
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/reclaim"
)

// connSet holds every connection from Accept to its last goroutine, registered or not. Once
// closed, it accepts no connection, and Shutdown therefore misses none.
type connSet struct {
	reading sync.WaitGroup // connections that may still read, and offer frames
	running sync.WaitGroup // connections, and the hub's own goroutines

	// mu guards the fields below.
	mu           sync.Mutex
	set          map[*conn]struct{}
	clientSlots  int             // connections that count against Config.MaxClients
	resumable    int             // connections of version 2
	detached     int             // those of them that are detached
	provisionals provisionalList // connections without a slot
	closed       bool
}

// addResult is the result of connSet.add.
type addResult int

const (
	addOK addResult = iota
	addFull
	addClosed
)

func (cs *connSet) init() { cs.set = make(map[*conn]struct{}) }

// add adds c unless the set is closed. If c is provisional, or maxClients connections have a
// slot, c is added without one, and only if it can come to resume a session. After addOK,
// reading.Done and remove must be called for c.
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

// allowProvisional reports whether one more provisional connection can be added. If necessary
// it interrupts the oldest one. It is called with mu held.
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

// acquireClientSlot gives a provisional connection a slot. It returns false if the connection
// was rejected already.
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

// setV2 makes c a connection of version 2, whose session can be resumed.
func (cs *connSet) setV2(c *conn, v2 *connV2) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.v2.Store(v2)
	cs.resumable++
}

// addDetached adds n, which is 1 or -1, to the number of detached connections.
func (cs *connSet) addDetached(n int) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.detached += n
}

// remove removes c, which has ended.
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

// close makes the set accept no connection from now on, and returns those that it holds.
func (cs *connSet) close() []*conn {
	cs.mu.Lock()
	cs.closed = true
	cs.mu.Unlock()
	return cs.snapshot()
}

// snapshot returns the current connections.
func (cs *connSet) snapshot() []*conn { return cs.appendTo(nil) }

// appendTo appends the current connections to conns.
func (cs *connSet) appendTo(conns []*conn) []*conn { return slices.AppendSeq(conns, cs.all()) }

// all iterates over the current connections, with mu held.
func (cs *connSet) all() iter.Seq[*conn] {
	return func(yield func(*conn) bool) {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		for c := range cs.set {
			if !yield(c) {
				return
			}
		}
	}
}

// appendHolders appends the current connections as holders of memory.
func (cs *connSet) appendHolders(to []reclaim.Conn) []reclaim.Conn {
	for c := range cs.all() {
		to = append(to, reclaimable{c})
	}
	return to
}
