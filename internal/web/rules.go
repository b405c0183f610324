// Package web is the HTTP side of a hub: it decides which requests become WebSockets, finds out
// where they come from, and serves them with limits that a hostile peer cannot exceed.
//
// It does not know hubs or frames. No message passes through this package: a connection leaves
// it with the response to its upgrade request.
package web

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// version is the version of the WebSocket protocol, RFC 6455.
const version = "13"

// maxTokenLen is the maximum length of a token in a cookie, in bytes. A browser keeps no longer cookie
// (RFC 6265, section 6.1), and a client that has not authenticated must not make the hub keep more.
const maxTokenLen = 4096

// Rules decide which requests become WebSockets. They are static.
type Rules struct {
	Subprotocol    string         // the only one that is accepted
	Origins        Origins        // of the web pages that can connect, besides those of the same origin
	TokenCookie    string         // the name of the cookie that holds a token; empty: none
	TrustedProxies []netip.Prefix // whose word about the address of a client is believed
}

// Request is what an accepted request says about its client.
type Request struct {
	Addr   net.Addr // of the client
	Origin string   // of the web page; empty: the client is no browser
	Token  string   // from Rules.TokenCookie; empty: none
}

// Error says why a request does not become a WebSocket, and how it is answered.
type Error struct {
	Status        int  // of the response
	ForeignOrigin bool // a web page of an origin that is not permitted has sent the request
	text          string
}

// Error implements error.
func (e *Error) Error() string { return e.text }

// NewError returns an error with that status and text.
func NewError(status int, format string, args ...any) *Error {
	return &Error{Status: status, text: fmt.Sprintf(format, args...)}
}

// Write answers the request with the error. The connection ends with the response.
func (e *Error) Write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Connection", "close")
	switch e.Status {
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodGet)
	case http.StatusUpgradeRequired:
		h.Set("Upgrade", "websocket")
		h.Set("Connection", "Upgrade, close")
		h.Set("Sec-WebSocket-Version", version)
	}
	http.Error(w, e.text, e.Status)
}

// Check returns what r says about its client, or why r does not become a WebSocket. The error is
// an *Error. The address of the client is known in both cases.
func (rules *Rules) Check(r *http.Request) (request Request, err error) {
	request.Addr, err = rules.ClientAddr(r)
	if err == nil {
		err = rules.checkUpgrade(r)
	}
	if err == nil {
		request.Origin, err = rules.checkOrigin(r)
	}
	if err != nil {
		return Request{Addr: request.Addr}, err
	}
	// A browser adds the cookie to requests of every page, and always sends the Origin of the page.
	// A cookie therefore counts only together with an Origin that was checked.
	if request.Origin != "" && rules.TokenCookie != "" {
		if cookie, err := r.Cookie(rules.TokenCookie); err == nil {
			request.Token = cookie.Value
		}
		if len(request.Token) > maxTokenLen {
			return Request{Addr: request.Addr}, NewError(http.StatusBadRequest, "the cookie %s has more than %d bytes", rules.TokenCookie, maxTokenLen)
		}
	}
	return request, nil
}

// checkUpgrade returns an error unless r is a complete upgrade request with the subprotocol.
func (rules *Rules) checkUpgrade(r *http.Request) error {
	h := r.Header
	switch {
	case r.Method != http.MethodGet:
		return NewError(http.StatusMethodNotAllowed, "the method must be GET")
	case r.ProtoMajor != 1 || r.ProtoMinor != 1:
		return NewError(http.StatusHTTPVersionNotSupported, "a WebSocket requires HTTP/1.1")
	case r.Host == "": // package http accepts an empty one
		return NewError(http.StatusBadRequest, "the header Host must name the host")
	case !hasToken(h["Connection"], "upgrade") || !hasToken(h["Upgrade"], "websocket"):
		return NewError(http.StatusUpgradeRequired, "this address accepts WebSockets only, with the subprotocol %s", rules.Subprotocol)
	case len(h["Sec-Websocket-Version"]) != 1 || h["Sec-Websocket-Version"][0] != version:
		return NewError(http.StatusUpgradeRequired, "the version of the WebSocket protocol must be %s", version)
	case len(h["Sec-Websocket-Key"]) != 1 || !isKey(h["Sec-Websocket-Key"][0]):
		return NewError(http.StatusBadRequest, "the header Sec-WebSocket-Key must be 16 bytes in base64")
	case !slices.ContainsFunc(h["Sec-Websocket-Protocol"], rules.offers):
		return NewError(http.StatusBadRequest, "the WebSocket must offer the subprotocol %s", rules.Subprotocol)
	case r.ContentLength != 0: // its bytes would count as frames
		return NewError(http.StatusBadRequest, "the request must not have a body")
	}
	return nil
}

// offers reports whether a header Sec-WebSocket-Protocol offers the subprotocol. Case matters.
func (rules *Rules) offers(list string) bool {
	for name := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(name) == rules.Subprotocol {
			return true
		}
	}
	return false
}

// isKey reports whether text is the nonce of a client: 16 bytes in base64.
func isKey(text string) bool {
	const length = 24
	return len(text) == length && strings.HasSuffix(text, "==") && !strings.ContainsFunc(text[:length-2], func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '+' && r != '/'
	})
}

// hasToken reports whether a header that holds a list has token, in any case.
func hasToken(values []string, token string) bool {
	return slices.ContainsFunc(values, func(value string) bool {
		for part := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
		return false
	})
}
