package hub

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sechlol/go-message-hub/wire"
)

// minIPEntries is the minimum number of addresses in an ipLimiter before it looks for idle
// entries to delete.
const minIPEntries = 1024

// ipLimiter limits the number of connections from each address and the rate of new ones. An
// IPv6 address counts by its first 64 bits because one host usually controls a whole /64
// prefix.
type ipLimiter struct {
	// Static after New.
	maxConns    int     // maximum of non-provisional connections per address; 0: no limit
	connectRate float64 // maximum of new connections per second and address; 0: no limit

	mu      sync.Mutex
	entries map[netip.Addr]*ipEntry
	sweepAt int // number of entries at which the next addEntry deletes idle entries
}

// ipEntry is the state of one address.
type ipEntry struct {
	count   [numIPConnStates]int
	limiter *rate.Limiter // nil: no limit
}

// ipConnState says how a connection counts for its address.
type ipConnState uint8

const (
	// ipConnected connections are at most Config.MaxPerAddress, plus connections that have
	// resumed a session.
	ipConnected ipConnState = iota

	// ipDetached conns are detached sessions that can be resumed. Their maximum equals that of
	// ipConnected and is separate from it: a restarted client process that has lost its session
	// can therefore still connect.
	ipDetached

	// ipProvisional connections exceed the limit and can only resume a session of the same
	// address.
	ipProvisional

	numIPConnStates
)

// RejectReason is the reason why a connection was rejected. Its text is a label value of
// metrics and appears in the log.
type RejectReason uint8

// The reasons for which the hub rejects connections.
const (
	RejectFull    RejectReason = iota // Config.MaxClients is reached, and no session is resumed
	RejectAddress                     // Config.MaxPerAddress is reached for the connection's address
	RejectRate                        // Config.ConnectRate is exceeded for the connection's address
	RejectHeader                      // the required PROXY header is missing or malformed
	numRejectReasons
)

// String returns the text of the reason for metrics and the log.
func (r RejectReason) String() string {
	return [...]string{"too many clients", "too many from its address", "too fast from its address", "no PROXY header", "?"}[min(r, numRejectReasons)]
}

// rejectFrames holds the GOAWAY frame that the hub sends to a rejected client, by reason.
var rejectFrames = func() (frames [numRejectReasons][]byte) {
	for why := range numRejectReasons {
		frames[why] = wire.AppendGoAway(nil, &wire.GoAway{
			Code: wire.GoAwayBusy, Reason: why.String(), Reconnect: true, After: int(rejectRetryDelay.Milliseconds()),
		})
	}
	return frames
}()

// rejectRetryDelay is the reconnect delay in the GOAWAY to a rejected client. The client adds
// a random delay of its own.
const rejectRetryDelay = time.Second

// RejectReasons returns all reject reasons.
func RejectReasons() []RejectReason {
	return []RejectReason{RejectFull, RejectAddress, RejectRate, RejectHeader}
}

// enabled reports whether any limit is set.
func (l *ipLimiter) enabled() bool { return l.maxConns > 0 || l.connectRate > 0 }

// acquire counts a connection from remote and returns its state, or returns ok == false and
// the reason if a limit is exceeded. The caller must call release if ok is true.
func (l *ipLimiter) acquire(remote net.Addr, now time.Time) (state ipConnState, reason RejectReason, ok bool) {
	addr, known := ipKey(remote)
	if !l.enabled() || !known {
		return ipConnected, 0, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[addr]
	if e == nil {
		e = l.addEntry(addr, now)
	}
	if l.maxConns > 0 && e.count[ipConnected] >= l.maxConns {
		state = ipProvisional
	}
	switch {
	case state == ipProvisional && e.count[ipProvisional] >= maxProvisionalPerAddress:
		return 0, RejectAddress, false
	case e.limiter != nil && !e.limiter.AllowN(now, 1):
		return 0, RejectRate, false
	}
	e.count[state]++
	return state, 0, true
}

// detach changes the state of a connection from ipConnected to ipDetached. If another
// connection is about to resume the session, resuming is true and the limit does not apply.
// Otherwise detach returns false and changes nothing when the address has the maximum number
// of detached sessions. The caller must still call release.
func (l *ipLimiter) detach(remote net.Addr, resuming bool, now time.Time) (ok bool) {
	ok = true
	l.update(remote, now, func(e *ipEntry) {
		if ok = resuming || l.maxConns == 0 || e.count[ipDetached] < l.maxConns; ok {
			e.count[ipConnected]--
			e.count[ipDetached]++
		}
	})
	return ok
}

// move changes the state of a connection of remote.
func (l *ipLimiter) move(remote net.Addr, from, to ipConnState, now time.Time) {
	l.update(remote, now, func(e *ipEntry) {
		e.count[from]--
		e.count[to]++
	})
}

// release undoes acquire.
func (l *ipLimiter) release(remote net.Addr, state ipConnState, now time.Time) {
	l.update(remote, now, func(e *ipEntry) { e.count[state]-- })
}

// update applies a change to the entry of remote, which acquire has added, and deletes the
// entry if it is idle then.
func (l *ipLimiter) update(remote net.Addr, now time.Time, apply func(*ipEntry)) {
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
func (l *ipLimiter) addEntry(addr netip.Addr, now time.Time) *ipEntry {
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
	return e.count == [numIPConnStates]int{} && (e.limiter == nil || e.limiter.TokensAt(now) >= float64(e.limiter.Burst()))
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

// sameIPKey reports whether a and b count as the same address.
func sameIPKey(a, b net.Addr) bool {
	first, known := ipKey(a)
	second, _ := ipKey(b)
	return known && first == second
}
