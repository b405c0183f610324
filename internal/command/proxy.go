package command

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"github.com/sechlol/go-message-hub/hub"
)

// proxied is what can be set about load balancers before the hub.
type proxied struct {
	protocol bool
	trusted  []netip.Prefix
}

func (c *proxied) add(s *settings) {
	add(s, &c.protocol, "proxy-protocol", false, yesNo(), "whether load balancers tell by the PROXY protocol, version 1\nor 2, who a client is; takes -proxy-trusted")
	add(s, &c.trusted, "proxy-trusted", nil, prefixes(), "addresses of these load balancers, or networks, separated\nby commas: from there every connection must begin so, and\nfrom elsewhere none is believed")
}

// check returns what is wrong with it.
func (c *proxied) check() error {
	switch {
	case c.protocol && len(c.trusted) == 0:
		return errors.New("-proxy-protocol takes -proxy-trusted: the addresses of the load balancers that are believed")
	case !c.protocol && len(c.trusted) > 0:
		return errors.New("-proxy-trusted names load balancers whose headers are read with -proxy-protocol")
	}
	return nil
}

// over returns ln as a listener that reads their headers, if there are any.
func (c *proxied) over(ln net.Listener, h *hub.Hub, logger *slog.Logger) net.Listener {
	if !c.protocol {
		return ln
	}
	logger.Info("reading the PROXY protocol", "trusted", prefixes().format(c.trusted))
	return h.NewProxyListener(ln, c.trusted)
}
