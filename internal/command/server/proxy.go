package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// proxyFlags are the settings for load balancers in front of the hub.
type proxyFlags struct {
	enabled bool
	trusted []netip.Prefix
}

func (f *proxyFlags) addFlags(s *settings.Settings) {
	settings.Add(s, &f.enabled, "proxy-protocol", false, settings.Boolean(), "whether to read client addresses from the PROXY protocol,\nversion 1 or 2; requires -proxy-trusted")
	settings.Add(s, &f.trusted, "proxy-trusted", nil, prefixes(), "addresses or networks of the load balancers, separated by\ncommas: their connections must begin with a PROXY header,\nand headers from other addresses are rejected")
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
	logger.Info("reading the PROXY protocol", "trusted", prefixes().Format(f.trusted))
	return h.NewProxyListener(ln, f.trusted)
}

// maxPrefixes is the maximum number of addresses and networks in a setting.
const maxPrefixes = 1000

// prefixes is a list of addresses and networks. An address is a network of one address.
func prefixes() settings.Type[[]netip.Prefix] {
	return settings.Type[[]netip.Prefix]{
		Parse: func(text string) (list []netip.Prefix, err error) {
			if text == "" {
				return nil, nil
			}
			for part := range strings.SplitSeq(text, ",") {
				prefix, err := parsePrefix(strings.TrimSpace(part))
				switch {
				case err != nil && part != text:
					return nil, settings.InvalidPartError(settings.Quote(part) + " is not an address or network")
				case err != nil:
					return nil, err
				}
				list = append(list, prefix)
			}
			if len(list) > maxPrefixes {
				return nil, settings.InvalidPartError(fmt.Sprintf("the number of entries is %d", len(list)))
			}
			return list, nil
		},
		Format: func(list []netip.Prefix) string {
			texts := make([]string, len(list))
			for i, p := range list {
				if texts[i] = p.String(); p.IsSingleIP() {
					texts[i] = p.Addr().String()
				}
			}
			return strings.Join(texts, ",")
		},
		Allowed: fmt.Sprintf("up to %d addresses and networks, separated by commas (10.0.0.5,10.1.0.0/16,2001:db8::/32)", maxPrefixes),
	}
}

// parsePrefix parses an address or a network. The bits of a network beyond its length must be
// 0, because other bits are most likely a mistake.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err == nil && (prefix != prefix.Masked() || prefix.Addr().Is4In6()) {
		err = settings.ErrNotAllowed
	}
	return prefix, err
}
