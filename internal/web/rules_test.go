package web

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// upgradeHeader returns the header of a valid request, changed by pairs of a name and a value. A
// header with an empty value is missing.
func upgradeHeader(pairs ...string) http.Header {
	h := http.Header{}
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", "websocket")
	h.Set("Sec-WebSocket-Version", "13")
	h.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	h.Set("Sec-WebSocket-Protocol", "test.v2")
	for i := 0; i < len(pairs); i += 2 {
		if h.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			h.Del(pairs[i])
		}
	}
	return h
}

func TestRules_CheckUpgrade(t *testing.T) {
	rules := Rules{Subprotocol: "test.v2"}
	two := func(name, a, b string) http.Header {
		h := upgradeHeader()
		h[name] = []string{a, b}
		return h
	}
	for _, test := range []struct {
		name   string
		header http.Header
		change func(*http.Request)
		status int // 0: accepted
	}{
		{"valid", upgradeHeader(), nil, 0},
		{"as Firefox sends it", upgradeHeader("Connection", "keep-alive, Upgrade", "Upgrade", "WebSocket"), nil, 0},
		{"several subprotocols", upgradeHeader("Sec-WebSocket-Protocol", "other , test.v2"), nil, 0},
		{"several subprotocol headers", two("Sec-Websocket-Protocol", "other", "test.v2"), nil, 0},
		{"POST", upgradeHeader(), func(r *http.Request) { r.Method = http.MethodPost }, 405},
		{"HEAD", upgradeHeader(), func(r *http.Request) { r.Method = http.MethodHead }, 405},
		{"HTTP/1.0", upgradeHeader(), func(r *http.Request) { r.ProtoMinor = 0 }, 505},
		{"HTTP/2", upgradeHeader(), func(r *http.Request) { r.ProtoMajor, r.ProtoMinor = 2, 0 }, 505},
		{"no Connection", upgradeHeader("Connection", ""), nil, 426},
		{"no Upgrade", upgradeHeader("Upgrade", ""), nil, 426},
		{"another Upgrade", upgradeHeader("Upgrade", "h2c"), nil, 426},
		{"no version", upgradeHeader("Sec-WebSocket-Version", ""), nil, 426},
		{"another version", upgradeHeader("Sec-WebSocket-Version", "8"), nil, 426},
		{"two versions", two("Sec-Websocket-Version", "13", "8"), nil, 426},
		{"no key", upgradeHeader("Sec-WebSocket-Key", ""), nil, 400},
		{"short key", upgradeHeader("Sec-WebSocket-Key", "dGhlIHNhbXBsZQ=="), nil, 400},
		{"no base64", upgradeHeader("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j*Q=="), nil, 400},
		{"two keys", two("Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="), nil, 400},
		{"no subprotocol", upgradeHeader("Sec-WebSocket-Protocol", ""), nil, 400},
		{"another subprotocol", upgradeHeader("Sec-WebSocket-Protocol", "test.v3"), nil, 400},
		{"the subprotocol in capitals", upgradeHeader("Sec-WebSocket-Protocol", "TEST.V2"), nil, 400},
		{"no host", upgradeHeader(), func(r *http.Request) { r.Host = "" }, 400},
		{"a body", upgradeHeader(), func(r *http.Request) { r.ContentLength = 5 }, 400},
		{"a chunked body", upgradeHeader(), func(r *http.Request) { r.ContentLength = -1 }, 400},
	} {
		r := testRequest("192.0.2.1:443", "198.51.100.7:5000", "hub.example", test.header)
		if test.change != nil {
			test.change(r)
		}
		_, err := rules.Check(r)
		var refused *Error
		if errors.As(err, &refused); err == nil && test.status != 0 || refused != nil && refused.Status != test.status {
			t.Errorf("%s: %v, want %d", test.name, err, test.status)
		}
		if refused == nil {
			continue
		}
		w := httptest.NewRecorder()
		refused.Write(w)
		if h := w.Header(); w.Code != test.status || !strings.Contains(w.Body.String(), err.Error()) || !strings.Contains(h.Get("Connection"), "close") ||
			(w.Code == 426) != (h.Get("Sec-WebSocket-Version") == "13") || (w.Code == 405) != (h.Get("Allow") == "GET") {
			t.Errorf("%s: the response is %d %q with %v", test.name, w.Code, w.Body, h)
		}
	}
}

// TestRules_Cookie_NeedsOrigin checks that a cookie counts only together with a checked origin.
func TestRules_Cookie_NeedsOrigin(t *testing.T) {
	for _, test := range []struct {
		name, origin, cookie, want string
		refused                    bool
	}{
		{"same origin", "https://hub.example", "token=secret", "secret", false},
		{"another cookie", "https://hub.example", "session=secret", "", false},
		{"no cookie", "https://hub.example", "", "", false},
		{"no origin", "", "token=secret", "", false},
		{"foreign origin", "https://evil.example", "token=secret", "", true},
		{"longest cookie", "https://hub.example", "token=" + strings.Repeat("x", 4096), strings.Repeat("x", 4096), false},
		{"longer cookie", "https://hub.example", "token=" + strings.Repeat("x", 4097), "", true},
	} {
		rules := Rules{Subprotocol: "test.v2", TokenCookie: "token"}
		header := upgradeHeader("Origin", test.origin, "Cookie", test.cookie)
		request, err := rules.Check(testRequest("192.0.2.1:443", "198.51.100.7:5000", "hub.example", header))
		if request.Token != test.want || (err != nil) != test.refused {
			t.Errorf("%s: the token is %q, %v", test.name, request.Token, err)
		}
	}
}
