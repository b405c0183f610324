package web

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ClientAddr returns the address of the client that has sent r. That is the peer, unless the peer
// is a trusted proxy. A trusted proxy appends the address of its own peer to the header
// X-Forwarded-For or Forwarded, behind the addresses that the client has sent. The last address
// that is not of a trusted proxy is therefore that of the client, and all before it can be
// invented.
//
// A proxy writes one of the two headers, and passes on the other one as the client has sent it. A
// request in which they name different clients is an error.
func (rules *Rules) ClientAddr(r *http.Request) (net.Addr, error) {
	peer := remoteAddr(r)
	if !rules.trusts(addrOf(peer)) {
		return peer, nil
	}
	xForwardedFor, err := rules.lastUntrusted(strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ","))
	if err != nil {
		return peer, err
	}
	forwarded, err := rules.lastUntrusted(forwardedFor(r.Header["Forwarded"]))
	switch {
	case err != nil:
		return peer, err
	case xForwardedFor.IsValid() && forwarded.IsValid() && xForwardedFor.Addr() != forwarded.Addr():
		return peer, NewError(http.StatusBadRequest, "the headers X-Forwarded-For and Forwarded name different clients")
	case xForwardedFor.IsValid():
		return net.TCPAddrFromAddrPort(xForwardedFor), nil
	case forwarded.IsValid():
		return net.TCPAddrFromAddrPort(forwarded), nil
	}
	return peer, nil // a request of the proxy itself, such as a health check
}

// lastUntrusted returns the last address of nodes that is not of a trusted proxy, or the first
// one if all are. The result is not valid if there is none.
func (rules *Rules) lastUntrusted(nodes []string) (last netip.AddrPort, err error) {
	for _, node := range slices.Backward(nodes) {
		if node = strings.TrimSpace(node); node == "" {
			continue
		}
		addr, ok := parseNode(node)
		if !ok {
			return netip.AddrPort{}, NewError(http.StatusBadRequest, "%.60q in X-Forwarded-For or Forwarded is not an address", node)
		}
		if last = addr; !rules.trusts(last.Addr()) {
			break
		}
	}
	return last, nil
}

// forwardedFor returns the parameters "for" of Forwarded headers (RFC 7239).
func forwardedFor(headers []string) (nodes []string) {
	for element := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		for pair := range strings.SplitSeq(element, ";") {
			name, value, _ := strings.Cut(pair, "=")
			if strings.EqualFold(strings.TrimSpace(name), "for") {
				nodes = append(nodes, strings.Trim(strings.TrimSpace(value), `"`))
			}
		}
	}
	return nodes
}

// parseNode parses an address, perhaps with a port: 192.0.2.1, 192.0.2.1:80, 2001:db8::1,
// [2001:db8::1], or [2001:db8::1]:80.
func parseNode(node string) (netip.AddrPort, bool) {
	bare := node
	if inner, ok := strings.CutPrefix(node, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			bare = inner
		}
	}
	if addr, err := netip.ParseAddr(bare); err == nil {
		return netip.AddrPortFrom(normal(addr), 0), true
	}
	addr, err := netip.ParseAddrPort(node)
	return netip.AddrPortFrom(normal(addr.Addr()), addr.Port()), err == nil
}

// trusts reports whether addr is that of a trusted proxy.
func (rules *Rules) trusts(addr netip.Addr) bool {
	return addr.IsValid() && slices.ContainsFunc(rules.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// remoteAddr returns the address of the peer of r.
func remoteAddr(r *http.Request) net.Addr {
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		return net.TCPAddrFromAddrPort(addr)
	}
	return otherAddr(r.RemoteAddr)
}

// otherAddr is the address of a connection that is not TCP.
type otherAddr string

func (a otherAddr) Network() string { return "other" }
func (a otherAddr) String() string  { return string(a) }

// addrOf returns the IP address of a TCP address, and an invalid one for any other.
func addrOf(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return normal(tcp.AddrPort().Addr())
	}
	return netip.Addr{}
}

// normal returns addr in the form in which it is compared.
func normal(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }
