package web

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Origins are the origins whose web pages can connect. The zero value has none.
type Origins struct {
	any      bool
	patterns []origin
}

// origin is the origin of a web page, or a pattern of origins.
type origin struct {
	scheme string // "https"
	host   string // in lower case, without the default port of scheme
	below  bool   // a pattern: any host below host
}

// defaultPorts are the ports that the Origin and Host headers leave out, by scheme.
var defaultPorts = map[string]string{"http": ":80", "https": ":443"}

// ParseOrigins parses patterns of origins: https://example.com, https://*.example.com for every
// host below example.com, and * for any origin. The error names the pattern.
func ParseOrigins(patterns []string) (Origins, error) {
	var all Origins
	for _, pattern := range patterns {
		if pattern == "*" {
			all.any = true
			continue
		}
		o, err := parsePattern(pattern)
		if err != nil {
			return Origins{}, fmt.Errorf("origin %q: %w", pattern, err)
		}
		all.patterns = append(all.patterns, o)
	}
	return all, nil
}

// Any reports whether the origins are all origins.
func (o Origins) Any() bool { return o.any }

var (
	errNoOrigin = errors.New("want a scheme and a host, such as https://example.com, and no path")
	errWildcard = errors.New("want * alone, or before a domain as in https://*.example.com")
)

func parsePattern(text string) (origin, error) {
	plain := strings.Replace(text, "://*.", "://", 1)
	if strings.Contains(plain, "*") {
		return origin{}, errWildcard
	}
	o, err := parseOrigin(plain)
	o.below = plain != text
	if _, err := netip.ParseAddr(strings.Trim(o.host, "[]")); err == nil && o.below {
		return origin{}, errWildcard // an address has no domain below it
	}
	return o, err
}

// parseOrigin parses the text of an Origin header.
func parseOrigin(text string) (origin, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery ||
		strings.ContainsRune(text, '#') {
		return origin{}, errNoOrigin
	}
	scheme := strings.ToLower(u.Scheme)
	return origin{scheme: scheme, host: normalHost(scheme, u.Host)}, nil
}

// normalHost returns host in lower case, without the default port of scheme.
func normalHost(scheme, host string) string {
	host = strings.ToLower(host)
	if port, ok := defaultPorts[scheme]; ok {
		host = strings.TrimSuffix(host, port)
	}
	return host
}

// allow reports whether the page of origin o can connect.
func (o Origins) allow(page origin) bool {
	return o.any || slices.ContainsFunc(o.patterns, func(p origin) bool {
		if p.below {
			return page.scheme == p.scheme && strings.HasSuffix(page.host, "."+p.host)
		}
		return page == p
	})
}

// maxOriginLen is the maximum length of an Origin, in bytes: a host has at most 253, and the schemes
// of browsers are short. The hub keeps it as long as the client is connected.
const maxOriginLen = 512

// checkOrigin returns the Origin of r, or an error if a page of that origin cannot connect. A
// client that sends none is no browser.
func (rules *Rules) checkOrigin(r *http.Request) (string, error) {
	values := r.Header["Origin"]
	if len(values) == 0 {
		return "", nil
	}
	page, err := parseOrigin(values[0])
	switch {
	case len(values) > 1:
		return "", NewError(http.StatusBadRequest, "the request has several Origin headers")
	case len(values[0]) > maxOriginLen:
		return "", NewError(http.StatusBadRequest, "the header Origin has more than %d bytes", maxOriginLen)
	case rules.Origins.any: // also the origin null of a file
		return values[0], nil
	case err == nil && (rules.Origins.allow(page) || rules.sameOrigin(page, r)):
		return values[0], nil
	}
	foreign := NewError(http.StatusForbidden, "web pages of the origin %.200q cannot connect: -web-origins (AllowedOrigins of hub.WebConfig) permits origins", values[0])
	foreign.ForeignOrigin = true
	return "", foreign
}

// sameOrigin reports whether the page comes from the host to which r is addressed. Whether that
// host serves it over TLS is known only if no proxy is before this server.
//
// A page of any domain can have the domain resolve to 127.0.0.1 and would then be of the same
// origin as a server on the machine of its reader. A request to a loopback address therefore
// counts only if it names that address, or comes through a proxy on the same machine.
func (rules *Rules) sameOrigin(page origin, r *http.Request) bool {
	if r.TLS != nil && page.scheme != "https" || page.host != normalHost(page.scheme, r.Host) {
		return false
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return !isLoopback(addrOf(local)) || rules.trusts(addrOf(remoteAddr(r))) || namesLoopback(page.host)
}

func isLoopback(addr netip.Addr) bool { return addr.IsValid() && addr.IsLoopback() }

// namesLoopback reports whether host, perhaps with a port, names a loopback address.
func namesLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
