package admission

import (
	"net"
	"testing"
	"time"
)

func testAddr(address string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(address), Port: 1} }

// TestIPLimiter_IdleEntries_AreRemoved checks that entries without effect are removed: a flood
// from many addresses must not use memory forever.
func TestIPLimiter_IdleEntries_AreRemoved(t *testing.T) {
	l := IPLimiter{maxConns: 1, connectRate: 1}
	now := time.Unix(0, 0)
	for i := range 10 * minIPEntries {
		remote := &net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i))}
		state, err := l.Acquire(remote, now)
		if err != nil {
			t.Fatalf("connection %d was rejected: %v", i, err)
		}
		if i%2 == 0 && l.Detach(remote, false, now) {
			state = Detached
		}
		l.Release(remote, state, now)
		now = now.Add(2 * time.Millisecond)
	}
	if n := len(l.entries); n > 2*minIPEntries {
		t.Errorf("%d entries are left", n)
	}
}

// TestIPLimiter_IPv6Prefix_IsOneAddress checks that the first 64 bits of an IPv6 address count
// as one address, and that an IPv4-mapped IPv6 address equals its IPv4 address.
func TestIPLimiter_IPv6Prefix_IsOneAddress(t *testing.T) {
	now := time.Unix(0, 0)
	for _, test := range []struct {
		first, second string
		one           bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"2001:db8::1", "2001:db8::ffff:1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
	} {
		l := IPLimiter{maxConns: 1}
		first, second := testAddr(test.first), testAddr(test.second)
		if state, err := l.Acquire(first, now); state != Connected || err != nil {
			t.Errorf("%s: state %d, %v", test.first, state, err)
		}
		if state, err := l.Acquire(second, now); (state == Provisional) != test.one || err != nil {
			t.Errorf("%s and %s: the second has state %d, %v", test.first, test.second, state, err)
		}
		if SameIP(first, second) != test.one {
			t.Errorf("SameIP(%s, %s) = %t", test.first, test.second, !test.one)
		}
	}
}

// TestIPLimiter_MaxConns_MakesProvisional checks which connections of an address get which
// state, and that Release, Detach and Promote count.
func TestIPLimiter_MaxConns_MakesProvisional(t *testing.T) {
	l, addr, now := NewIPLimiter(2, 0), testAddr("192.0.2.1"), time.Unix(0, 0)
	acquire := func(want ConnState, wantErr error) {
		t.Helper()
		if state, err := l.Acquire(addr, now); state != want || err != wantErr {
			t.Errorf("state %d, %v, want %d, %v", state, err, want, wantErr)
		}
	}
	acquire(Connected, nil)
	acquire(Connected, nil)
	for range maxProvisional {
		acquire(Provisional, nil)
	}
	acquire(0, ErrTooMany)
	l.Release(addr, Provisional, now)
	acquire(Provisional, nil)
	l.Promote(addr, now) // three are connected
	l.Release(addr, Connected, now)
	acquire(Provisional, nil) // still two
	l.Release(addr, Connected, now)
	acquire(Connected, nil)
	if state, err := l.Acquire(testAddr("192.0.2.2"), now); state != Connected || err != nil {
		t.Errorf("another address: state %d, %v", state, err)
	}
}

// TestIPLimiter_Detach_HasLimitOfItsOwn detaches as many sessions as an address can have. Each
// makes room for a connection.
func TestIPLimiter_Detach_HasLimitOfItsOwn(t *testing.T) {
	l, addr, now := NewIPLimiter(1, 0), testAddr("192.0.2.1"), time.Unix(0, 0)
	for i, test := range []struct{ resuming, want bool }{{false, true}, {false, false}, {true, true}} {
		if state, err := l.Acquire(addr, now); state != Connected || err != nil {
			t.Fatalf("connection %d: state %d, %v", i, state, err)
		}
		if got := l.Detach(addr, test.resuming, now); got != test.want {
			t.Errorf("connection %d is detached: %t, want %t", i, got, test.want)
		} else if !got {
			l.Release(addr, Connected, now)
		}
	}
	l.Release(addr, Detached, now)
	l.Release(addr, Detached, now)
	if len(l.entries) != 0 {
		t.Errorf("%d addresses are left", len(l.entries))
	}
}

// TestIPLimiter_ConnectRate_AllowsBursts connects faster than the rate, and again later.
func TestIPLimiter_ConnectRate_AllowsBursts(t *testing.T) {
	l, addr, now := NewIPLimiter(0, 5), testAddr("192.0.2.1"), time.Unix(0, 0)
	accepted := func(attempts int) (n int) {
		for range attempts {
			switch _, err := l.Acquire(addr, now); err {
			case nil:
				n++
				l.Release(addr, Connected, now)
			case ErrTooFast:
			default:
				t.Error(err)
			}
		}
		return n
	}
	if n := accepted(10); n != 5 {
		t.Errorf("%d accepted at once, want 5", n)
	}
	now = now.Add(400 * time.Millisecond)
	if n := accepted(10); n != 2 {
		t.Errorf("%d accepted after 0.4 s, want 2", n)
	}
	now = now.Add(time.Hour)
	if n := accepted(10); n != 5 {
		t.Errorf("%d accepted after an hour, want 5", n)
	}
}

// TestIPLimiter_Disabled_CountsNothing checks a limiter without limits, and connections that
// have no IP address.
func TestIPLimiter_Disabled_CountsNothing(t *testing.T) {
	now := time.Unix(0, 0)
	pipe, _ := net.Pipe()
	for name, test := range map[string]struct {
		limiter *IPLimiter
		remote  net.Addr
	}{
		"no limits":  {NewIPLimiter(0, 0), testAddr("192.0.2.1")},
		"no address": {NewIPLimiter(1, 0.1), pipe.RemoteAddr()},
	} {
		for range 3 {
			if state, err := test.limiter.Acquire(test.remote, now); state != Connected || err != nil {
				t.Errorf("%s: state %d, %v", name, state, err)
			}
		}
		if !test.limiter.Detach(test.remote, false, now) {
			t.Errorf("%s: a session cannot be detached", name)
		}
		test.limiter.Release(test.remote, Detached, now)
		if len(test.limiter.entries) != 0 {
			t.Errorf("%s: %d addresses", name, len(test.limiter.entries))
		}
	}
	if SameIP(pipe.RemoteAddr(), pipe.RemoteAddr()) {
		t.Error("connections without an address have the same address")
	}
}
