package client

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"github.com/sechlol/go-message-hub/wire"
)

// Schemes of an Address.
const (
	SchemePlain = "hub"  // without TLS
	SchemeTLS   = "hubs" // with TLS
)

// Address is the parsed address of a hub: see ParseAddress.
type Address struct {
	Scheme string // SchemePlain, SchemeTLS, or "" if the address names no scheme
	Host   string // name or IP address, the latter without brackets
	Port   int    // 0 if the address names no port: HostPort then uses wire.DefaultPort
}

// ParseAddress parses the address of a hub. The address is a host, with or without a port and
// with or without a scheme: "localhost:9999", "[::1]:9999", "hub.example",
// "hubs://hub.example". The scheme is not case-sensitive, and one trailing slash is allowed. A
// path, a query, a fragment and user info are errors. A missing host is an error, except in
// ":9999", which means that port of localhost.
func ParseAddress(text string) (Address, error) {
	a, err := parseAddress(text)
	if err != nil {
		return Address{}, fmt.Errorf("address %q: %w", text, err)
	}
	return a, nil
}

// ParseAddresses parses addresses of hubs, separated by commas: "a:9999, b:9999". Each is an
// address of ParseAddress. Either all of them have the scheme SchemeTLS, or none has. An address
// that is listed twice is an error.
func ParseAddresses(list string) ([]Address, error) {
	var addresses []Address
	for _, text := range splitAddrs(list) {
		a, err := ParseAddress(text)
		if err != nil {
			return nil, err
		}
		for _, other := range addresses {
			switch {
			case other.TLS() != a.TLS():
				return nil, fmt.Errorf("addresses %q: %w", list, errMixedTLS)
			case other.HostPort() == a.HostPort():
				return nil, fmt.Errorf("addresses %q: %w", list, fmt.Errorf("%s is listed twice", a.HostPort()))
			}
		}
		addresses = append(addresses, a)
	}
	return addresses, nil
}

func parseAddress(text string) (a Address, err error) {
	rest := text
	if scheme, after, found := strings.Cut(text, "://"); found {
		a.Scheme, rest = strings.ToLower(scheme), after
		if a.Scheme != SchemePlain && a.Scheme != SchemeTLS {
			return a, fmt.Errorf("unknown scheme %s://, must be hub:// or hubs://", scheme)
		}
	}
	rest = strings.TrimSuffix(rest, "/")
	switch i := strings.IndexAny(rest, "/?#@"); {
	case i < 0:
	case strings.Contains(rest, "@"):
		return a, errors.New("user info is not supported: authenticate with a token or a certificate")
	case rest[i] == '/':
		return a, fmt.Errorf("unexpected path %s", rest[i:])
	default:
		return a, fmt.Errorf("unexpected query or fragment %s", rest[i:])
	}
	if err := a.parseHostPort(rest); err != nil {
		return a, err
	}
	if a.Host == "" && a.Scheme == "" && a.Port != 0 {
		a.Host = "localhost"
	}
	switch {
	case a.Host == "":
		return a, errors.New("missing host")
	case strings.ContainsFunc(a.Host, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return a, errors.New("space or unprintable character in the host")
	}
	return a, nil
}

// parseHostPort sets a.Host and a.Port from text, the address without its scheme.
func (a *Address) parseHostPort(text string) error {
	inside, bracketed := strings.CutPrefix(text, "[")
	if inside, closed := strings.CutSuffix(inside, "]"); bracketed && closed || strings.Count(text, ":") > 1 && !bracketed {
		if _, err := netip.ParseAddr(inside); err != nil { // an IPv6 address without a port
			return fmt.Errorf("%s is neither an IPv6 address nor host:port", text)
		}
		a.Host = inside
		return nil
	}
	if !strings.Contains(text, ":") {
		a.Host = text
		return nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("%s is not host:port", text)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("port is %q, must be from 1 to 65535", port)
	}
	a.Host, a.Port = host, int(n)
	return nil
}

// TLS reports whether the scheme of a is SchemeTLS.
func (a Address) TLS() bool { return a.Scheme == SchemeTLS }

// HostPort returns "host:port" for net.Dial.
func (a Address) HostPort() string {
	port := a.Port
	if port == 0 {
		port = wire.DefaultPort
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(port))
}

// String returns an address that ParseAddress parses to a.
func (a Address) String() string {
	text := a.Host
	switch {
	case a.Port != 0:
		text = a.HostPort()
	case strings.Contains(text, ":"):
		text = "[" + text + "]"
	}
	if a.Scheme != "" {
		text = a.Scheme + "://" + text
	}
	return text
}
