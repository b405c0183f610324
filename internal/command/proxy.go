package command

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"github.com/sechlol/go-message-hub/hub"
)

// proxyFlags is what can be set about load balancers before the hub.
type proxyFlags struct {
	enabled bool
	trusted []netip.Prefix
}

func (f *proxyFlags) addFlags(s *settings) {
	addSetting(s, &f.enabled, "proxy-protocol", false, boolean(), "whether load balancers tell by the PROXY protocol, version 1\nor 2, who a client is; takes -proxy-trusted")
	addSetting(s, &f.trusted, "proxy-trusted", nil, prefixes(), "addresses of these load balancers, or networks, separated\nby commas: from there every connection must begin so, and\nfrom elsewhere none is believed")
}

// validate returns what is wrong with it.
func (f *proxyFlags) validate() error {
	switch {
	case f.enabled && len(f.trusted) == 0:
		return errors.New("-proxy-protocol takes -proxy-trusted: the addresses of the load balancers that are believed")
	case !f.enabled && len(f.trusted) > 0:
		return errors.New("-proxy-trusted names load balancers whose headers are read with -proxy-protocol")
	}
	return nil
}

// wrapListener returns ln as a listener that reads their headers, if there are any.
func (f *proxyFlags) wrapListener(ln net.Listener, h *hub.Hub, logger *slog.Logger) net.Listener {
	if !f.enabled {
		return ln
	}
	logger.Info("reading the PROXY protocol", "trusted", prefixes().format(f.trusted))
	return h.NewProxyListener(ln, f.trusted)
}
