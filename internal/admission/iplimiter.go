package admission

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// minIPEntries is the minimum number of addresses in an IPLimiter before it looks for idle
	// entries to delete.
	minIPEntries = 1024

	// maxProvisional is the maximum number of Provisional connections from one address.
	maxProvisional = 16
)

// IPLimiter limits the number of connections from each address and the rate of new ones. An
// IPv6 address counts by its first 64 bits because one host usually controls a whole /64
// prefix. Only TCP addresses are limited. All methods can be called concurrently.
type IPLimiter struct {
	// Static after construction.
	maxConns    int     // maximum of non-provisional connections per address; 0: no limit
	connectRate float64 // maximum of new connections per second and address; 0: no limit

	mu      sync.Mutex
	entries map[netip.Addr]*ipEntry
	sweepAt int // number of entries at which the next addEntry deletes idle entries
}

// ipEntry is the state of one address.
type ipEntry struct {
	count   [numConnStates]int
	limiter *rate.Limiter // nil: no limit
}

// ConnState says how a connection counts for its address.
type ConnState uint8

const (
	// Connected connections are at most as many as the limit allows, plus connections that have
	// resumed a session.
	Connected ConnState = iota

	// Detached connections are detached sessions that can be resumed. Their maximum equals that
	// of Connected and is separate from it: a restarted client process that has lost its session
	// can therefore still connect.
	Detached

	// Provisional connections exceed the limit and can only resume a session of the same
	// address.
	Provisional

	numConnStates
)

// The errors of IPLimiter.Acquire.
var (
	ErrTooMany = errors.New("too many connections from the address")
	ErrTooFast = errors.New("too many new connections per second from the address")
)

// NewIPLimiter returns an IPLimiter of maxConns connections per address, and of connectRate new
// connections per second and address, with bursts of one second's worth. 0 means no limit.
func NewIPLimiter(maxConns int, connectRate float64) *IPLimiter {
	return &IPLimiter{maxConns: maxConns, connectRate: connectRate}
}

// enabled reports whether any limit is set.
func (l *IPLimiter) enabled() bool { return l.maxConns > 0 || l.connectRate > 0 }

// Acquire counts a connection from remote and returns its state, or returns ErrTooMany or
// ErrTooFast if a limit is exceeded. The caller must call Release if there is no error.
func (l *IPLimiter) Acquire(remote net.Addr, now time.Time) (state ConnState, err error) {
	addr, known := ipKey(remote)
	if !l.enabled() || !known {
		return Connected, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[addr]
	if e == nil {
		e = l.addEntry(addr, now)
	}
	if l.maxConns > 0 && e.count[Connected] >= l.maxConns {
		state = Provisional
	}
	switch {
	case state == Provisional && e.count[Provisional] >= maxProvisional:
		return 0, ErrTooMany
	case e.limiter != nil && !e.limiter.AllowN(now, 1):
		return 0, ErrTooFast
	}
	e.count[state]++
	return state, nil
}

// Detach changes the state of a connection from Connected to Detached. If another connection is
// about to resume the session, resuming is true and the limit does not apply. Otherwise Detach
// returns false and changes nothing when the address has the maximum number of detached
// sessions. The caller must still call Release.
func (l *IPLimiter) Detach(remote net.Addr, resuming bool, now time.Time) (ok bool) {
	ok = true
	l.update(remote, now, func(e *ipEntry) {
		if ok = resuming || l.maxConns == 0 || e.count[Detached] < l.maxConns; ok {
			e.count[Connected]--
			e.count[Detached]++
		}
	})
	return ok
}

// Promote changes the state of a connection from Provisional to Connected, beyond the limit.
func (l *IPLimiter) Promote(remote net.Addr, now time.Time) {
	l.update(remote, now, func(e *ipEntry) {
		e.count[Provisional]--
		e.count[Connected]++
	})
}

// Release undoes Acquire. state is the current state of the connection.
func (l *IPLimiter) Release(remote net.Addr, state ConnState, now time.Time) {
	l.update(remote, now, func(e *ipEntry) { e.count[state]-- })
}

// update applies a change to the entry of remote, which Acquire has added, and deletes the
// entry if it is idle then.
func (l *IPLimiter) update(remote net.Addr, now time.Time, apply func(*ipEntry)) {
	addr, known := ipKey(remote)
	if !l.enabled() || !known {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[addr]
	apply(e)
	if e.idle(now) {
		delete(l.entries, addr)
	}
}

// addEntry adds an entry for addr. If there are sweepAt entries, it deletes the idle ones
// first. It is called with mu held.
func (l *IPLimiter) addEntry(addr netip.Addr, now time.Time) *ipEntry {
	if l.entries == nil {
		l.entries, l.sweepAt = make(map[netip.Addr]*ipEntry), minIPEntries
	}
	if len(l.entries) >= l.sweepAt {
		for addr, e := range l.entries {
			if e.idle(now) {
				delete(l.entries, addr)
			}
		}
		l.sweepAt = max(minIPEntries, 2*len(l.entries))
	}
	e := new(ipEntry)
	if l.connectRate > 0 {
		e.limiter = rate.NewLimiter(rate.Limit(l.connectRate), max(1, int(l.connectRate)))
	}
	l.entries[addr] = e
	return e
}

// idle reports whether e has the same state as a new entry.
func (e *ipEntry) idle(now time.Time) bool {
	return e.count == [numConnStates]int{} && (e.limiter == nil || e.limiter.TokensAt(now) >= float64(e.limiter.Burst()))
}

// ipKey returns the address under which remote is counted, and false if remote is not a TCP
// address.
func ipKey(remote net.Addr) (netip.Addr, bool) {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	addr, ok := netip.AddrFromSlice(tcp.IP)
	if addr = addr.Unmap(); addr.Is6() {
		addr = netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	return addr, ok
}

// SameIP reports whether a and b count as the same address.
func SameIP(a, b net.Addr) bool {
	first, known := ipKey(a)
	second, _ := ipKey(b)
	return known && first == second
}
