package command

import (
	"net"
	"net/netip"
	"strings"
)

// listenAt listens at an address with a port. One of IPv4, such as 0.0.0.0, is none of IPv6, which package net would take as
// well; "::", and none at all, are both.
func listenAt(addr string) (net.Listener, error) {
	network := "tcp"
	if host, _, err := net.SplitHostPort(addr); err == nil {
		if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().Is4() {
			network = "tcp4"
		}
	}
	return net.Listen(network, addr)
}

// isHostName reports whether text can be a host: an address, perhaps with its zone, or what looks like a name.
func isHostName(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	})
}

// literalAddr returns the address that an address with a port names without a look-up, and nil if it takes one.
func literalAddr(addr string) net.Addr {
	host, _, err := net.SplitHostPort(addr)
	if host == "" && err == nil {
		return &net.TCPAddr{IP: net.IPv6unspecified}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0))
}
