package hub

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sechlol/go-message-hub/wire"
)

// minIPEntries is how many addresses there may be before those that mean nothing any more
// are looked for.
const minIPEntries = 1024

// ipLimiter knows how many connections there are from each address, and how fast they came, where
// that is bounded. Of IPv6 the first 64 bits are an address: whoever has one has all behind it.
type ipLimiter struct {
	// Static after New.
	maxConns    int     // connections of one that are no provisional ones; 0: any number
	connectRate float64 // connects of one in a second; 0: as fast as they come

	mu      sync.Mutex
	entries map[netip.Addr]*ipEntry
	sweepAt int // how many there may be before the next look
}

// ipEntry is one address.
type ipEntry struct {
	count   [numIPConnStates]int
	limiter *rate.Limiter // nil: not bounded
}

// ipConnState is what a session is for its address.
type ipConnState uint8

const (
	// ipConnected sessions are at most Config.MaxPerAddress, and those that were resumed since.
	ipConnected ipConnState = iota

	// ipDetached sessions have lost their connection and may be resumed. There are at most as many: a
	// client whose process is started anew, and does not know of its session, then finds a place.
	ipDetached

	// ipProvisional connections are beyond that, and may only resume a session of the same address.
	ipProvisional

	numIPConnStates
)

// RejectReason is why a connection was one too many. Its text is the name by which it is counted.
type RejectReason uint8

// The reasons for which connections are refused.
const (
	RejectFull    RejectReason = iota // there are Config.MaxClients, and it resumes none of them
	RejectAddress                     // there are Config.MaxPerAddress from its address
	RejectRate                        // more came from its address than Config.ConnectRate
	RejectHeader                      // it did not begin with a header of the PROXY protocol, and must
	numRejectReasons
)

// String returns the reason as it is counted and logged.
func (r RejectReason) String() string {
	return [...]string{"too many clients", "too many from its address", "too fast from its address", "no PROXY header", "?"}[min(r, numRejectReasons)]
}

// rejectFrames is what a client is told whose connection is refused: frames of GOAWAY.
var rejectFrames = func() (frames [numRejectReasons][]byte) {
	for why := range numRejectReasons {
		frames[why] = wire.AppendGoAway(nil, &wire.GoAway{
			Code: wire.GoAwayBusy, Reason: why.String(), Reconnect: true, After: int(rejectRetryDelay.Milliseconds()),
		})
	}
	return frames
}()

// rejectRetryDelay is after how long a client that was refused may try again. It adds a time of its own.
const rejectRetryDelay = time.Second

// RejectReasons returns all of them, so that those that never occurred can be counted as well.
func RejectReasons() []RejectReason {
	return []RejectReason{RejectFull, RejectAddress, RejectRate, RejectHeader}
}

// enabled reports whether anything is to be counted.
func (l *ipLimiter) enabled() bool { return l.maxConns > 0 || l.connectRate > 0 }

// acquire counts a connection and returns its standing, unless it is one too many: then it returns
// why. leave must follow, but not on a refusal.
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

// detach turns a connection into one that is expected back: it must find a place then. It returns false
// when as many are expected as may be connected, unless another connection is about to go on with
// it: then it is not one of them. leave must follow.
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

// move changes what a session is for its address.
func (l *ipLimiter) move(remote net.Addr, from, to ipConnState, now time.Time) {
	l.update(remote, now, func(e *ipEntry) {
		e.count[from]--
		e.count[to]++
	})
}

// release undoes enter.
func (l *ipLimiter) release(remote net.Addr, state ipConnState, now time.Time) {
	l.update(remote, now, func(e *ipEntry) { e.count[state]-- })
}

// update changes an address that has entered, and forgets it if it means nothing any more.
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

// addEntry adds an address. When there are many, those that mean nothing any more go first. It is
// called with mu held.
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

// idle reports whether the address is as one that was never seen.
func (e *ipEntry) idle(now time.Time) bool {
	return e.count == [numIPConnStates]int{} && (e.limiter == nil || e.limiter.TokensAt(now) >= float64(e.limiter.Burst()))
}

// ipKey returns what counts as one address.
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

// sameIPKey reports whether the limit of an address is one for both.
func sameIPKey(a, b net.Addr) bool {
	first, known := ipKey(a)
	second, _ := ipKey(b)
	return known && first == second
}
