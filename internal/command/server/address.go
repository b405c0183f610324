package server

import (
	"math"
	"net"
	"net/netip"
	"strings"

	"github.com/sechlol/go-message-hub/internal/settings"
)

// hostName is a host name or an address, without a port.
func hostName() settings.Type[string] {
	return settings.Type[string]{
		Parse: func(text string) (string, error) {
			if _, _, err := net.SplitHostPort(text); err == nil {
				return "", settings.ErrNotAllowed
			}
			bare, ok := strings.CutPrefix(text, "[")
			if ok {
				bare, ok = strings.CutSuffix(bare, "]")
				ok = ok && strings.Contains(bare, ":")
			} else {
				ok = true
			}
			if !ok || bare != "" && !isHostName(bare) {
				return "", settings.ErrNotAllowed
			}
			return bare, nil
		},
		Format:  settings.AsIs,
		Allowed: "names and addresses without a port; set the port with -port",
	}
}

// listenAddress is an address with a port, or off.
func listenAddress() settings.Type[string] {
	const none = "off"
	return settings.Type[string]{
		Parse: func(text string) (string, error) {
			if text == "" || text == none {
				return "", nil
			}
			host, port, err := net.SplitHostPort(text)
			if err != nil {
				return "", err
			}
			if host != "" && !isHostName(host) {
				return "", settings.ErrNotAllowed
			}
			_, err = settings.IntRange(0, math.MaxUint16).Parse(port)
			return text, err
		},
		Format: func(address string) string {
			if address == "" {
				return none
			}
			return address
		},
		Limits:  "host:port or " + none,
		Allowed: "addresses with a port (localhost:9990, 10.0.0.1:9990, :9990), and " + none,
	}
}

// isHostName reports whether text is an IP address, optionally with a zone, or has the form of
// a host name.
func isHostName(text string) bool {
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	})
}
