package hub

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sechlol/go-message-hub/wire"
)

// addressesLeast is how many addresses there may be before those that mean nothing any more
// are looked for.
const addressesLeast = 1024

// addresses knows how many connections there are from each address, and how fast they came, where
// that is bounded. Of IPv6 the first 64 bits are an address: whoever has one has all behind it.
type addresses struct {
	// Static after New.
	most int     // connections of one that are no provisional ones; 0: any number
	pace float64 // connects of one in a second; 0: as fast as they come

	mu    sync.Mutex
	all   map[netip.Addr]*visitor
	sweep int // how many there may be before the next look
}

// visitor is one address.
type visitor struct {
	count    [standings]int
	connects *rate.Limiter // nil: not bounded
}

// standing is what a session is for its address.
type standing uint8

const (
	// connected sessions are at most Config.MaxPerAddress, and those that were resumed since.
	connected standing = iota

	// expected sessions have lost their connection and may be resumed. There are at most as many: a
	// client whose process is started anew, and does not know of its session, then finds a place.
	expected

	// provisional connections are beyond that, and may only resume a session of the same address.
	provisional

	standings
)

// Refusal is why a connection was one too many. Its text is the name by which it is counted.
type Refusal uint8

// The reasons for which connections are refused.
const (
	RefusedFull    Refusal = iota // there are Config.MaxClients, and it resumes none of them
	RefusedAddress                // there are Config.MaxPerAddress from its address
	RefusedRate                   // more came from its address than Config.ConnectRate
	RefusedHeader                 // it did not begin with a header of the PROXY protocol, and must
	refusals
)

// String returns the reason as it is counted and logged.
func (r Refusal) String() string {
	return [...]string{"too many clients", "too many from its address", "too fast from its address", "no PROXY header", "?"}[min(r, refusals)]
}

// busy is what a client is told whose connection is refused: frames of GOAWAY.
var busy = func() (frames [refusals][]byte) {
	for why := range refusals {
		frames[why] = wire.AppendGoAway(nil, &wire.GoAway{
			Code: wire.GoAwayBusy, Reason: why.String(), Reconnect: true, After: int(busyPause.Milliseconds()),
		})
	}
	return frames
}()

// busyPause is after how long a client that was refused may try again. It adds a time of its own.
const busyPause = time.Second

// Refusals returns all of them, so that those that never occurred can be counted as well.
func Refusals() []Refusal { return []Refusal{RefusedFull, RefusedAddress, RefusedRate, RefusedHeader} }

// bounded reports whether anything is to be counted.
func (a *addresses) bounded() bool { return a.most > 0 || a.pace > 0 }

// enter counts a connection and returns its standing, unless it is one too many: then it returns
// why. leave must follow, but not on a refusal.
func (a *addresses) enter(from net.Addr, now time.Time) (as standing, why Refusal, ok bool) {
	addr, known := keyOf(from)
	if !a.bounded() || !known {
		return connected, 0, true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.all[addr]
	if v == nil {
		v = a.add(addr, now)
	}
	if a.most > 0 && v.count[connected] >= a.most {
		as = provisional
	}
	switch {
	case as == provisional && v.count[provisional] >= maxProvisionalPerAddress:
		return 0, RefusedAddress, false
	case v.connects != nil && !v.connects.AllowN(now, 1):
		return 0, RefusedRate, false
	}
	v.count[as]++
	return as, 0, true
}

// lose turns a connection into one that is expected back: it must find a place then. It returns false
// when as many are expected as may be connected, unless another connection is about to go on with
// it: then it is not one of them. leave must follow.
func (a *addresses) lose(from net.Addr, goesOn bool, now time.Time) (may bool) {
	may = true
	a.change(from, now, func(v *visitor) {
		if may = goesOn || a.most == 0 || v.count[expected] < a.most; may {
			v.count[connected]--
			v.count[expected]++
		}
	})
	return may
}

// move changes what a session is for its address.
func (a *addresses) move(addr net.Addr, from, to standing, now time.Time) {
	a.change(addr, now, func(v *visitor) {
		v.count[from]--
		v.count[to]++
	})
}

// leave undoes enter.
func (a *addresses) leave(from net.Addr, as standing, now time.Time) {
	a.change(from, now, func(v *visitor) { v.count[as]-- })
}

// change changes an address that has entered, and forgets it if it means nothing any more.
func (a *addresses) change(from net.Addr, now time.Time, to func(*visitor)) {
	addr, known := keyOf(from)
	if !a.bounded() || !known {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.all[addr]
	to(v)
	if v.idle(now) {
		delete(a.all, addr)
	}
}

// add adds an address. When there are many, those that mean nothing any more go first. It is
// called with mu held.
func (a *addresses) add(addr netip.Addr, now time.Time) *visitor {
	if a.all == nil {
		a.all, a.sweep = make(map[netip.Addr]*visitor), addressesLeast
	}
	if len(a.all) >= a.sweep {
		for addr, v := range a.all {
			if v.idle(now) {
				delete(a.all, addr)
			}
		}
		a.sweep = max(addressesLeast, 2*len(a.all))
	}
	v := new(visitor)
	if a.pace > 0 {
		v.connects = rate.NewLimiter(rate.Limit(a.pace), max(1, int(a.pace)))
	}
	a.all[addr] = v
	return v
}

// idle reports whether the address is as one that was never seen.
func (v *visitor) idle(now time.Time) bool {
	return v.count == [standings]int{} && (v.connects == nil || v.connects.TokensAt(now) >= float64(v.connects.Burst()))
}

// keyOf returns what counts as one address.
func keyOf(from net.Addr) (netip.Addr, bool) {
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	addr, ok := netip.AddrFromSlice(tcp.IP)
	if addr = addr.Unmap(); addr.Is6() {
		addr = netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	return addr, ok
}

// sameAddress reports whether the limit of an address is one for both.
func sameAddress(a, b net.Addr) bool {
	first, known := keyOf(a)
	second, _ := keyOf(b)
	return known && first == second
}
