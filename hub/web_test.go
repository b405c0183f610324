package hub_test

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestWebHandler_BadRequests_AreAnswered sends requests that do not become a WebSocket.
func TestWebHandler_BadRequests_AreAnswered(t *testing.T) {
	onWebSockets(t, hub.Config{}, hub.WebConfig{AllowedOrigins: []string{"https://friend.example"}}, func(t *testing.T, h *testHub) {
		refused := func() uint64 { s := h.Stats(); return s.Rejected[hub.RejectOrigin] + s.Rejected[hub.RejectUpgrade] }
		for _, test := range []struct {
			name, request string
			status        int
			body, header  string // of the response: a part of the body, and "Name: value"
			uncounted     bool   // package http answers without the handler
		}{
			{"foreign origin", h.upgradeRequest("Origin: https://evil.example"), 403, "-web-origins", "", false},
			{"origin null", h.upgradeRequest("Origin: null"), 403, "-web-origins", "", false},
			{"no subprotocol", h.upgradeRequest("Sec-WebSocket-Protocol:"), 400, wire.Subprotocol, "", false},
			{"another subprotocol", h.upgradeRequest("Sec-WebSocket-Protocol: mqtt"), 400, wire.Subprotocol, "", false},
			{"another version", h.upgradeRequest("Sec-WebSocket-Version: 8"), 426, "13", "Sec-WebSocket-Version: 13", false},
			{"no key", h.upgradeRequest("Sec-WebSocket-Key:"), 400, "Sec-WebSocket-Key", "", false},
			{"no upgrade", h.upgradeRequest("Upgrade:"), 426, "WebSocket", "Upgrade: websocket", false},
			{"a body", h.upgradeRequest("Content-Length: 3") + "abc", 400, "body", "", false},
			{"a frame behind the request", h.upgradeRequest() + string(maskedFrame(0x82, hello())), 400, "wait", "", false},
			{"POST", strings.Replace(h.upgradeRequest("Content-Length: 0"), "GET", "POST", 1), 405, "GET", "Allow: GET", false},
			{"HTTP/1.0", strings.Replace(h.upgradeRequest(), "HTTP/1.1", "HTTP/1.0", 1), 505, "HTTP/1.1", "", false},
			{"another path", strings.Replace(h.upgradeRequest(), wire.WebPath, "/other", 1), 404, wire.WebPath, "", false},
			{"a path below", strings.Replace(h.upgradeRequest(), wire.WebPath, wire.WebPath+"/", 1), 404, wire.WebPath, "", false},
			{"head of 9 KiB", h.upgradeRequest("X: " + strings.Repeat("x", 9<<10)), 431, "", "", true},
			{"no HTTP", "\x00\x00\x00\x01\x01\r\n\r\n", 400, "", "", true},
			{"an empty host", strings.Replace(h.upgradeRequest(), "Host: "+h.web.addr, "Host:", 1), 400, "Host", "", false},
			{"no host", "GET " + wire.WebPath + " HTTP/1.1\r\n\r\n", 400, "", "", true},
		} {
			before := refused()
			response, body := h.request(t, test.request)
			name, value, _ := strings.Cut(test.header, ": ")
			if response.StatusCode != test.status || !strings.Contains(body, test.body) || name != "" && response.Header.Get(name) != value {
				t.Errorf("%s: %s, %v, %q", test.name, response.Status, response.Header, body)
			}
			if !test.uncounted { // perhaps after the response
				eventually(t, test.name+" is counted", func() bool { return refused() == before+1 })
			}
		}
		if n := h.Stats().Rejected[hub.RejectOrigin]; n != 2 {
			t.Errorf("%d foreign origins, want 2", n)
		}
		for _, origin := range []string{"https://friend.example", h.web.origin()} {
			c := handshakeV2(h.upgrade(t, "Origin: "+origin).stream, wire.Hello{Version: wire.Version2})
			c.send(wire.AppendBye(nil))
			c.expectEOF()
		}
	})
}

// TestWebHandler_Limits_AnswerUnavailable reaches each limit of connections. A request beyond it is
// answered before it becomes a WebSocket.
func TestWebHandler_Limits_AnswerUnavailable(t *testing.T) {
	for reason, config := range map[hub.RejectReason]hub.Config{
		hub.RejectFull:    {MaxClients: 1},
		hub.RejectAddress: {MaxPerAddress: 1},
		hub.RejectRate:    {ConnectRate: 0.001},
	} {
		t.Run(reason.String(), func(t *testing.T) {
			for _, tr := range webSocketTransports {
				tr.test(t, func(t *testing.T, tr testTransport) {
					h := tr.start(t, config)
					c := h.upgrade(t)
					response, body := h.request(t, h.upgradeRequest())
					if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != "1" || !strings.Contains(body, reason.String()) {
						t.Errorf("%s, %v, %q", response.Status, response.Header, body)
					}
					if n := h.Stats().Rejected[reason]; n != 1 {
						t.Errorf("%d rejected", n)
					}
					handshakeV2(c.stream, wire.Hello{Version: wire.Version2})
				})
			}
		})
	}
}

// TestWebHandler_FullHub_AcceptsResume resumes a session of a full hub. A new client is upgraded,
// because the hub learns only from its HELLO that it resumes nothing, and told to come back.
func TestWebHandler_FullHub_AcceptsResume(t *testing.T) {
	for name, config := range map[string]hub.Config{"clients": {MaxClients: 1}, "address": {MaxPerAddress: 1}} {
		t.Run(name, func(t *testing.T) {
			config.ResumeWindow = testTimeout
			for _, tr := range webSocketTransports {
				tr.test(t, func(t *testing.T, tr testTransport) {
					h := tr.start(t, config)
					c := h.connectV2(t)
					again := h.resume(t, c) // takes the session over
					if !again.Resumed || again.ID != c.ID {
						t.Fatalf("%+v", again.Welcome)
					}
					stranger := h.upgrade(t)
					stranger.send(maskedFrame(0x82, hello()))
					if code := stranger.expectClose(ws.StatusCode(1013)); code != wire.GoAwayBusy {
						t.Errorf("GOAWAY %q", code)
					}
					again.reset()
					if again = h.resume(t, again); !again.Resumed {
						t.Errorf("%+v", again.Welcome)
					}
				})
			}
		})
	}
}

// TestWebHandler_Proxy_NamesClient checks what the address of a client behind a proxy is used for.
func TestWebHandler_Proxy_NamesClient(t *testing.T) {
	const from = "X-Forwarded-For: 192.0.2.66, 203.0.113.9"
	webConfig := hub.WebConfig{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	addresses := make(chan net.Addr, 100)
	log := &logBuffer{}
	config := hub.Config{MaxPerAddress: 2, Logger: log.logger(), Authenticate: func(r hub.AuthRequest) (*hub.Permissions, error) {
		addresses <- r.Address
		if (r.TLS != nil) != (r.Token == "over TLS") {
			return nil, fmt.Errorf("TLS is %v", r.TLS)
		}
		return new(hub.Permissions), nil
	}}
	for _, tr := range webSocketTransports {
		tr.test(t, func(t *testing.T, tr testTransport) {
			h := tr.serveWeb(t, startOn(t, withLongTimeouts(config), tr.listen(t)), webConfig)
			hello := wire.Hello{Version: wire.Version2}
			if tr.secure {
				hello.Token = "over TLS"
			}
			for range 2 {
				c := handshakeV2(h.upgrade(t, from).stream, hello)
				if addr := <-addresses; addr.String() != "203.0.113.9:0" || h.clientInfo(t, c.ID).Address.String() != addr.String() {
					t.Errorf("the address is %v", addr)
				}
			}
			stranger := h.upgrade(t, from) // can only resume
			stranger.send(maskedFrame(0x82, wire.AppendHello(nil, &hello)))
			if code := stranger.expectClose(ws.StatusCode(1013)); code != wire.GoAwayBusy {
				t.Errorf("GOAWAY %q", code)
			}
			<-addresses
			log.waitFor(t, `"address":"203.0.113.9:0"`)
			other := handshakeV2(h.upgrade(t, "X-Forwarded-For: 203.0.113.10").stream, hello)
			if addr := <-addresses; addr.String() != "203.0.113.10:0" {
				t.Errorf("the address is %v", addr)
			}
			other.awaitPong()
			if response, _ := h.request(t, h.upgradeRequest("X-Forwarded-For: nonsense")); response.StatusCode != http.StatusBadRequest {
				t.Errorf("%s", response.Status)
			}
		})
	}
}

func TestWebConfig_Invalid(t *testing.T) {
	for want, config := range map[string]hub.WebConfig{
		"AllowedOrigins: origin \"example.com\"": {AllowedOrigins: []string{"https://a.example", "example.com"}},
		"TokenCookie: \"a b\"":                   {TokenCookie: "a b"},
		"every web page":                         {TokenCookie: "a", AllowedOrigins: []string{"*"}},
		"TrustedProxies: invalid Prefix":         {TrustedProxies: make([]netip.Prefix, 1)},
		"TrustedProxies: ::ffff:10.0.0.0/104":    {TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::ffff:10.0.0.0/104")}},
	} {
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", config, err, want)
		}
		if _, err := hub.NewWebHandler(nil, config); err == nil {
			t.Errorf("%+v is accepted", config)
		}
	}
}

// TestWebHandler_SetConfig_AppliesToNextRequest changes the origins of a running handler.
func TestWebHandler_SetConfig_AppliesToNextRequest(t *testing.T) {
	h := overWebSocket.start(t, hub.Config{})
	const page = "Origin: https://page.example"
	if response, _ := h.request(t, h.upgradeRequest(page)); response.StatusCode != http.StatusForbidden {
		t.Errorf("before: %s", response.Status)
	}
	if err := h.web.handler.SetConfig(hub.WebConfig{AllowedOrigins: []string{"https://page.example"}}); err != nil {
		t.Fatal(err)
	}
	h.upgrade(t, page)
	if err := h.web.handler.SetConfig(hub.WebConfig{AllowedOrigins: []string{"page.example"}}); err == nil {
		t.Error("an invalid origin is accepted")
	}
	h.upgrade(t, page)
}

// TestWebHandler_TooManyPending_AreCounted opens more connections than can be without a request, and
// upgrades another.
func TestWebHandler_TooManyPending_AreCounted(t *testing.T) {
	const maxPending = 1000
	webSocketInMemory.test(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		first := h.connectRaw(t)
		for range maxPending {
			h.connectRaw(t)
		}
		first.expectEOF()
		h.connectV2(t).awaitPong()
		if n := h.Stats().Rejected[hub.RejectPending]; n != 2 {
			t.Errorf("%d rejected, want 2", n)
		}
	})
}
