package hub

import (
	"net"
	"testing"
	"time"
)

func testAddr(address string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(address), Port: 1} }

// TestIPLimiter_IdleEntries_AreRemoved when they mean nothing any more: a flood from many must not be
// remembered for ever.
func TestIPLimiter_IdleEntries_AreRemoved(t *testing.T) {
	l := ipLimiter{maxConns: 1, connectRate: 1}
	now := time.Unix(0, 0)
	for i := range 10 * minIPEntries {
		remote := &net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i))}
		kind, _, ok := l.acquire(remote, now)
		if !ok {
			t.Fatalf("connection %d was refused", i)
		}
		if i%2 == 0 && l.detach(remote, false, now) {
			kind = ipDetached
		}
		l.release(remote, kind, now)
		now = now.Add(2 * time.Millisecond)
	}
	if n := len(l.entries); n > 2*minIPEntries {
		t.Errorf("%d addresses are remembered", n)
	}
}

// TestIPLimiter_IPv6Prefix_IsOneAddress looks at IPv6, where one has many, and at IPv4 in its clothes.
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
			t.Errorf("%s and %s: the second is let in as %d", test.first, test.second, kind)
		}
	}
}
