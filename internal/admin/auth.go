package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// tokenHash is a token of which only the hash is kept, so that comparing takes as long
// whatever is compared.
type tokenHash [sha256.Size]byte

func hashToken(token string) *tokenHash {
	h := tokenHash(sha256.Sum256([]byte(token)))
	return &h
}

// matches reports whether a request carries the token.
func (h *tokenHash) matches(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sent := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(h[:], sent[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// authorize lets through only those who may ask. Probes may come from anybody.
//
// Without a token, whoever is on this machine may ask; but so may every web page
// that is open in a browser here, which must be kept out. One that lets a name of its own point to
// this machine (DNS rebinding) is known by the Host header. One that sends a request across
// is known by what browsers say of each request; and it cannot send a DELETE
// without asking before, which is never granted.
func (s *Server) authorize(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == healthPath || r.URL.Path == readyPath:
		case isCrossOrigin(r):
			writeError(w, http.StatusForbidden, "requests from web pages of another origin are not answered")
			return
		case s.tokenHash != nil && !s.tokenHash.matches(r):
			w.Header().Set("WWW-Authenticate", `Bearer realm="go-message-hub"`)
			writeError(w, http.StatusUnauthorized, "this needs the token, in a header such as Authorization: Bearer 0123456789abcdef")
			return
		case s.tokenHash == nil && !isLoopbackHost(r.Host):
			writeError(w, http.StatusForbidden, fmt.Sprintf("the Host header is %q; without a token it must be localhost or a loopback address", r.Host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isCrossOrigin reports whether a browser says that another site is behind a request.
func isCrossOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "": // no browser, or one from before 2023
	default:
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	originURL, err := url.Parse(origin)
	return err != nil || originURL.Host != r.Host
}

// isLoopbackHost reports whether a Host header names the loopback interface, with any port:
// it may be forwarded.
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.IsLoopback()
}
