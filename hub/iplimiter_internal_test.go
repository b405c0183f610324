package hub

import (
	"net"
	"testing"
	"time"
)

func testAddr(address string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(address), Port: 1} }

// TestIPLimiter_IdleEntries_AreRemoved checks that entries without effect are removed: a flood
// from many addresses must not use memory forever.
func TestIPLimiter_IdleEntries_AreRemoved(t *testing.T) {
	l := ipLimiter{maxConns: 1, connectRate: 1}
	now := time.Unix(0, 0)
	for i := range 10 * minIPEntries {
		remote := &net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i))}
		kind, _, ok := l.acquire(remote, now)
		if !ok {
			t.Fatalf("connection %d was rejected", i)
		}
		if i%2 == 0 && l.detach(remote, false, now) {
			kind = ipDetached
		}
		l.release(remote, kind, now)
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
		l := ipLimiter{maxConns: 1}
		l.acquire(testAddr(test.first), now)
		if kind, _, _ := l.acquire(testAddr(test.second), now); (kind == ipProvisional) != test.one {
			t.Errorf("%s and %s: the second has state %d", test.first, test.second, kind)
		}
	}
}
