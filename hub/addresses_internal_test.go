package hub

import (
	"net"
	"testing"
	"time"
)

func at(address string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(address), Port: 1} }

// TestAddressesAreForgotten when they mean nothing any more: a flood from many must not be
// remembered for ever.
func TestAddressesAreForgotten(t *testing.T) {
	a := addresses{most: 1, pace: 1}
	now := time.Unix(0, 0)
	for i := range 10 * addressesLeast {
		from := &net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i))}
		as, _, ok := a.enter(from, now)
		if !ok {
			t.Fatalf("connection %d was refused", i)
		}
		if i%2 == 0 && a.lose(from, false, now) {
			as = expected
		}
		a.leave(from, as, now)
		now = now.Add(2 * time.Millisecond)
	}
	if n := len(a.all); n > 2*addressesLeast {
		t.Errorf("%d addresses are remembered", n)
	}
}

// TestWhatIsOneAddress looks at IPv6, where one has many, and at IPv4 in its clothes.
func TestWhatIsOneAddress(t *testing.T) {
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
		a := addresses{most: 1}
		a.enter(at(test.first), now)
		if as, _, _ := a.enter(at(test.second), now); (as == provisional) != test.one {
			t.Errorf("%s and %s: the second is let in as %d", test.first, test.second, as)
		}
	}
}
