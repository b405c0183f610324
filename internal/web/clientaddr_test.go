package web

import (
	"errors"
	"net/http"
	"net/netip"
	"testing"
)

func TestRules_ClientAddr(t *testing.T) {
	rules := Rules{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ffff::/48")}}
	const proxy, proxy6, stranger = "10.0.0.1:5000", "[2001:db8:ffff::1]:5000", "198.51.100.7:5000"
	for _, test := range []struct {
		name, peer                string
		xForwardedFor, forwardFor []string
		want                      string // empty: an error
	}{
		{"no proxy", stranger, nil, nil, stranger},
		{"no proxy, invented", stranger, []string{"203.0.113.9"}, []string{"for=203.0.113.9"}, stranger},
		{"a proxy itself", proxy, nil, nil, proxy},
		{"one proxy", proxy, []string{"203.0.113.9"}, nil, "203.0.113.9:0"},
		{"IPv6", proxy6, []string{"2001:db8::9"}, nil, "[2001:db8::9]:0"},
		{"mapped", "[::ffff:10.0.0.1]:5000", []string{"::ffff:203.0.113.9"}, nil, "203.0.113.9:0"},
		{"with a port", proxy, []string{"203.0.113.9:4711"}, nil, "203.0.113.9:4711"},
		{"IPv6 with a port", proxy, []string{"[2001:db8::9]:4711"}, nil, "[2001:db8::9]:4711"},
		{"invented before", proxy, []string{"192.0.2.66, 203.0.113.9"}, nil, "203.0.113.9:0"},
		{"garbage before", proxy, []string{"'; DROP TABLE, 203.0.113.9"}, nil, "203.0.113.9:0"},
		{"two proxies", proxy, []string{"192.0.2.66, 203.0.113.9, 10.9.9.9"}, nil, "203.0.113.9:0"},
		{"two headers", proxy, []string{"192.0.2.66", "203.0.113.9"}, nil, "203.0.113.9:0"},
		{"only proxies", proxy, []string{"10.1.1.1, 10.2.2.2"}, nil, "10.1.1.1:0"},
		{"garbage last", proxy, []string{"203.0.113.9, unknown"}, nil, ""},
		{"empty", proxy, []string{""}, nil, proxy},
		{"Forwarded", proxy, nil, []string{"for=203.0.113.9"}, "203.0.113.9:0"},
		{"Forwarded, all parameters", proxy, nil, []string{`by=10.0.0.1;For="203.0.113.9:80";proto=https;host=hub.example`}, "203.0.113.9:80"},
		{"Forwarded, IPv6", proxy, nil, []string{`for="[2001:db8::9]:80"`}, "[2001:db8::9]:80"},
		{"Forwarded, several", proxy, nil, []string{`for=192.0.2.66, for=203.0.113.9;proto=http, for=10.9.9.9`}, "203.0.113.9:0"},
		{"Forwarded, hidden", proxy, nil, []string{`for=_hidden`}, ""},
		{"Forwarded, an open quote before", proxy, nil, []string{`for="192.0.2.66, for=203.0.113.9`}, "203.0.113.9:0"},
		{"both agree", proxy, []string{"203.0.113.9"}, []string{"for=203.0.113.9"}, "203.0.113.9:0"},
		{"both differ", proxy, []string{"203.0.113.9"}, []string{"for=192.0.2.66"}, ""},
		{"a pipe", "@", []string{"203.0.113.9"}, nil, "@"},
	} {
		r := testRequest("192.0.2.1:443", test.peer, "hub.example", http.Header{"X-Forwarded-For": test.xForwardedFor, "Forwarded": test.forwardFor})
		addr, err := rules.ClientAddr(r)
		var refused *Error
		switch {
		case test.want == "" && (!errors.As(err, &refused) || refused.Status != http.StatusBadRequest || addr.String() != test.peer):
			t.Errorf("%s: %v, %v, want an error", test.name, addr, err)
		case test.want != "" && (err != nil || addr.String() != test.want):
			t.Errorf("%s: %v, %v, want %s", test.name, addr, err, test.want)
		}
	}
}
