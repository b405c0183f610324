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

// The schemes of an Address.
const (
	SchemePlain = "hub"  // without TLS
	SchemeTLS   = "hubs" // with TLS
)

// Address is where a hub is, as ParseAddress understands it.
type Address struct {
	Scheme string // SchemePlain, SchemeTLS, or "": none was named
	Host   string // name or IP address, the latter without brackets
	Port   int    // 0: none was named, which means wire.DefaultPort
}

// ParseAddress reads the address of a hub: a host with or without a port, and with or without
// a scheme before it, such as "localhost:9999", "[::1]:9999", "hub.example" and "hubs://hub.example".
// The scheme may be in capitals, and a slash may stand at the end. A path, a query and a user
// are errors, and so is an address without a host; but ":9999" is a port of this machine, as it is
// for net.Dial.
func ParseAddress(text string) (Address, error) {
	a, err := parseAddress(text)
	if err != nil {
		return Address{}, fmt.Errorf("address %q: %w", text, err)
	}
	return a, nil
}

func parseAddress(text string) (a Address, err error) {
	rest := text
	if scheme, after, found := strings.Cut(text, "://"); found {
		a.Scheme, rest = strings.ToLower(scheme), after
		if a.Scheme != SchemePlain && a.Scheme != SchemeTLS {
			return a, fmt.Errorf("hub:// and hubs:// are known, %s:// is not", scheme)
		}
	}
	rest = strings.TrimSuffix(rest, "/")
	switch i := strings.IndexAny(rest, "/?#@"); {
	case i < 0:
	case strings.Contains(rest, "@"):
		return a, errors.New("it names a user: a client says who it is by a token or a certificate, not in the address")
	case rest[i] == '/':
		return a, fmt.Errorf("a hub has no paths, such as %s", rest[i:])
	default:
		return a, fmt.Errorf("a hub is asked nothing in its address: %s", rest[i:])
	}
	if err := a.parseHostPort(rest); err != nil {
		return a, err
	}
	if a.Host == "" && a.Scheme == "" && a.Port != 0 {
		a.Host = "localhost"
	}
	switch {
	case a.Host == "":
		return a, errors.New("it names no host")
	case strings.ContainsFunc(a.Host, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }):
		return a, errors.New("there is a space in the name of the host")
	}
	return a, nil
}

// parseHostPort takes the host and the port from what stands behind the scheme.
func (a *Address) parseHostPort(text string) error {
	inside, bracketed := strings.CutPrefix(text, "[")
	if inside, closed := strings.CutSuffix(inside, "]"); bracketed && closed || strings.Count(text, ":") > 1 && !bracketed {
		if _, err := netip.ParseAddr(inside); err != nil { // of IPv6, without a port
			return fmt.Errorf("%s is no address of IPv6, and no host:port", text)
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
		return fmt.Errorf("%s is no host:port", text)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("port %q: allowed are 1 to 65535", port)
	}
	a.Host, a.Port = host, int(n)
	return nil
}

// TLS reports whether the hub speaks TLS, by the scheme.
func (a Address) TLS() bool { return a.Scheme == SchemeTLS }

// HostPort returns host:port as net.Dial takes it.
func (a Address) HostPort() string {
	port := a.Port
	if port == 0 {
		port = wire.DefaultPort
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(port))
}

// String returns an address that ParseAddress understands as this one.
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
