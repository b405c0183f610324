package command

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"github.com/sechlol/go-message-hub/hub"
)

// proxyFlags are the settings for load balancers in front of the hub.
type proxyFlags struct {
	enabled bool
	trusted []netip.Prefix
}

func (f *proxyFlags) addFlags(s *settings) {
	addSetting(s, &f.enabled, "proxy-protocol", false, boolean(), "whether to read client addresses from the PROXY protocol,\nversion 1 or 2; requires -proxy-trusted")
	addSetting(s, &f.trusted, "proxy-trusted", nil, prefixes(), "addresses or networks of the load balancers, separated by\ncommas: their connections must begin with a PROXY header,\nand headers from other addresses are rejected")
}

// validate returns an error unless both settings are set, or neither.
func (f *proxyFlags) validate() error {
	switch {
	case f.enabled && len(f.trusted) == 0:
		return errors.New("-proxy-protocol requires -proxy-trusted, the addresses of the load balancers")
	case !f.enabled && len(f.trusted) > 0:
		return errors.New("-proxy-trusted requires -proxy-protocol, which reads the headers of the load balancers")
	}
	return nil
}

// wrapListener returns ln as a listener that reads PROXY headers, or ln itself if
// -proxy-protocol is not set.
func (f *proxyFlags) wrapListener(ln net.Listener, h *hub.Hub, logger *slog.Logger) net.Listener {
	if !f.enabled {
		return ln
	}
	logger.Info("reading the PROXY protocol", "trusted", prefixes().format(f.trusted))
	return h.NewProxyListener(ln, f.trusted)
}
