package server

import (
	"net"
	"net/netip"
)

// listenAt listens at an address with a port. For an IPv4 address, such as 0.0.0.0, it listens
// on IPv4 only, while package net would also listen on IPv6. "::" and an empty host mean both.
func listenAt(addr string) (net.Listener, error) {
	network := "tcp"
	if host, _, err := net.SplitHostPort(addr); err == nil {
		if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().Is4() {
			network = "tcp4"
		}
	}
	return net.Listen(network, addr)
}

// literalAddr returns the address of addr, an address with a port, if no DNS lookup is
// necessary. Otherwise it returns nil.
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
