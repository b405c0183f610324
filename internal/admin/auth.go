package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// minTokenLen is the minimum length of a token, in characters. 16 random characters cannot be
// guessed over a network.
const minTokenLen = 16

// Errors of New and CheckAccess.
var (
	// ErrTokenRequired says that other machines can reach the listener and there is no token.
	ErrTokenRequired = errors.New("no token")

	// ErrInvalidToken says that the token is too short or has characters that are not allowed.
	ErrInvalidToken = errors.New("unusable token")
)

// CheckAccess returns the error that New returns for a listener at addr and a token.
func CheckAccess(addr net.Addr, token string) error {
	switch {
	case token != "":
		return CheckToken(token)
	case !isLoopback(addr):
		return fmt.Errorf("%w: %s can be reached from other machines", ErrTokenRequired, addr)
	}
	return nil
}

// CheckToken returns an error that wraps ErrInvalidToken unless token is valid as Config.Token.
func CheckToken(token string) error {
	switch {
	case len(token) < minTokenLen:
		return fmt.Errorf("%w: %d characters, want at least %d", ErrInvalidToken, len(token), minTokenLen)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("%w: want printable ASCII characters without spaces", ErrInvalidToken)
	}
	return nil
}

// isLoopback reports whether addr is a loopback address, which other machines cannot reach.
func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// tokenHash is the hash of the token. A comparison of hashes takes the same time for every token.
type tokenHash [sha256.Size]byte

func hashToken(token string) *tokenHash {
	h := tokenHash(sha256.Sum256([]byte(token)))
	return &h
}

// matches reports whether a request has the token in its Authorization header.
func (h *tokenHash) matches(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sent := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(h[:], sent[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// authorize returns a handler that rejects requests that are not allowed, and passes the others to
// next. required is the token of the requests; nil: they need none. It allows all requests for the
// probes, and for the files of the console.
//
// Without a token every process on this machine can send requests, a browser included.
// authorize therefore rejects requests from web pages. A page whose host name resolves to this
// machine (DNS rebinding) is recognized by the Host header. A page of another origin is
// recognized by the headers that browsers add to each request. Such a page cannot send a
// DELETE at all, because the browser sends a CORS preflight request before, and no response
// allows one.
func authorize(required *tokenHash, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == healthPath || r.URL.Path == readyPath || isConsoleFile(r.URL.Path):
		case isCrossOrigin(r):
			writeError(w, http.StatusForbidden, "requests from web pages of another origin are not allowed")
			return
		case required != nil && !required.matches(r):
			w.Header().Set("WWW-Authenticate", `Bearer realm="go-message-hub"`)
			writeError(w, http.StatusUnauthorized, "token missing or wrong; want a header such as Authorization: Bearer 0123456789abcdef")
			return
		case required == nil && !isLoopbackHost(r.Host):
			writeError(w, http.StatusForbidden, fmt.Sprintf("the Host header is %q; without a token it must be localhost or a loopback address", r.Host))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isCrossOrigin reports whether the headers that browsers add name another origin.
func isCrossOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "": // not a browser, or a browser from before 2023
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

// isLoopbackHost reports whether a Host header names the loopback interface. It allows any port,
// because the port can be forwarded.
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
