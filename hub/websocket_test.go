package hub_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// webSocketTransports are the transports of WebSockets.
var webSocketTransports = []testTransport{overWebSocket, overSecureWebSocket, webSocketInMemory}

// onWebSockets runs a test over WebSockets: over TCP, over TLS, and in memory. The bystanders of the
// test, which are WebSockets themselves, must notice nothing.
func onWebSockets(t *testing.T, config hub.Config, webConfig hub.WebConfig, test func(t *testing.T, h *testHub)) {
	t.Helper()
	for _, tr := range webSocketTransports {
		tr.test(t, func(t *testing.T, tr testTransport) {
			h := tr.serveWeb(t, startOn(t, withLongTimeouts(config), tr.listen(t)), webConfig)
			bystanders := h.startBystanders(t)
			test(t, h)
			bystanders.waitRounds(3)
		})
	}
}

// connectRaw connects to the web address and sends nothing.
func (h *testHub) connectRaw(t testing.TB) *clientV1 {
	t.Helper()
	nc, err := h.web.dial()
	if err != nil {
		t.Fatal(err)
	}
	return newClientV1(t, nc)
}

// upgradeLines are the header lines of a valid upgrade request, without Host.
func upgradeLines() []string {
	return []string{
		"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
		"Sec-WebSocket-Protocol: " + wire.Subprotocol,
	}
}

// upgradeRequest returns an upgrade request with changed headers. A change replaces the line of the
// same header, or adds a line. A change without a value removes it.
func (h *testHub) upgradeRequest(changes ...string) string {
	lines := upgradeLines()
	for _, change := range changes {
		name, value, _ := strings.Cut(change, ":")
		lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, name+":") })
		if value != "" {
			lines = append(lines, change)
		}
	}
	return "GET " + wire.WebPath + " HTTP/1.1\r\nHost: " + h.web.addr + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// request sends text to the web address and returns the response, whose body was read. The hub
// must end the connection.
func (h *testHub) request(t testing.TB, text string) (*http.Response, string) {
	t.Helper()
	c := h.connectRaw(t)
	_, _ = io.WriteString(c, text) // the hub can answer before it has read all of it
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("after %.200q: %v", text, err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	c.expectEOF()
	return response, string(body)
}

// webSocketClient is a WebSocket, and the connection that carries it.
type webSocketClient struct {
	*clientV1           // below the WebSocket
	stream    *clientV1 // of the WebSocket
}

// upgrade connects a WebSocket with an upgrade request that has these changes.
func (h *testHub) upgrade(t testing.TB, changes ...string) *webSocketClient {
	t.Helper()
	c := h.connectRaw(t)
	c.send([]byte(h.upgradeRequest(changes...)))
	response, err := http.ReadResponse(bufio.NewReaderSize(onlyByte{c}, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Sec-WebSocket-Protocol") != wire.Subprotocol {
		t.Fatalf("%s, %v", response.Status, response.Header)
	}
	return &webSocketClient{c, &clientV1{Conn: newWebSocketStream(c.Conn), t: t}}
}

// onlyByte reads one byte at a time, and thus nothing behind what is parsed.
type onlyByte struct{ io.Reader }

func (r onlyByte) Read(p []byte) (int, error) { return r.Reader.Read(p[:1]) }

// expectClose reads frames of the hub until its Close frame, which must have that status. It returns
// the code of the GOAWAY before it, if any.
func (c *webSocketClient) expectClose(status ws.StatusCode) wire.GoAwayCode {
	c.t.Helper()
	s := c.stream
	var code wire.GoAwayCode
	for {
		kind, payload, err := s.readFrame()
		if err != nil {
			break
		}
		if away, err := wire.ParseGoAway(payload); kind == wire.TypeGoAway && err == nil {
			code = away.Code
			if away.Reconnect && away.Code == wire.GoAwayProtocol {
				c.t.Error("a client that breaks the protocol is asked to reconnect")
			}
		}
	}
	if got := s.Conn.(*webSocketStream).status; got != status {
		c.t.Errorf("closed with the status %d, want %d", got, status)
	}
	return code
}

// maskedFrame returns a WebSocket frame with these first bytes of a header, whose length the
// function adds, and with the payload masked.
func maskedFrame(first byte, payload []byte) []byte {
	f := ws.NewFrame(ws.OpCode(first&0xf), first&0x80 != 0, bytes.Clone(payload))
	f.Header.Rsv = first >> 4 & 7
	return ws.MustCompileFrame(ws.MaskFrameInPlaceWith(f, [4]byte{1, 2, 3, 4}))
}

// unmaskedFrame returns a WebSocket frame that only a server can send.
func unmaskedFrame(payload []byte) []byte { return ws.MustCompileFrame(ws.NewBinaryFrame(payload)) }

func hello() []byte { return wire.AppendHello(nil, &wire.Hello{Version: wire.Version2}) }

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

// origin returns the origin of a page that the web address would serve.
func (w *webServer) origin() string {
	if w.clientTLS != nil {
		return "https://" + w.addr
	}
	return "http://" + w.addr
}

// TestWebHandler_BadFrames_EndTheirConn breaks the rules of WebSocket, or those of the protocol of
// the hub in a WebSocket, before and after HELLO.
func TestWebHandler_BadFrames_EndTheirConn(t *testing.T) {
	tooLong := binary.BigEndian.AppendUint32(nil, 1<<30)
	for _, test := range []struct {
		name   string
		bytes  []byte
		status ws.StatusCode
		reason hub.CloseReason
		code   wire.GoAwayCode
	}{
		{"unmasked", unmaskedFrame([]byte("x")), 1002, hub.CloseWebSocket, wire.GoAwayProtocol},
		{"RSV1", maskedFrame(0xc2, []byte("x")), 1002, hub.CloseWebSocket, wire.GoAwayProtocol},
		{"RSV2", maskedFrame(0xa2, []byte("x")), 1002, hub.CloseWebSocket, wire.GoAwayProtocol},
		{"RSV3", maskedFrame(0x92, []byte("x")), 1002, hub.CloseWebSocket, wire.GoAwayProtocol},
		{"reserved opcode", maskedFrame(0x83, []byte("x")), 1002, hub.CloseWebSocket, wire.GoAwayProtocol},
		{"reserved control opcode", maskedFrame(0x8b, nil), 1002, hub.CloseWebSocket, wire.GoAwayProtocol},
		{"fragmented ping", maskedFrame(0x09, nil), 1002, hub.CloseWebSocket, wire.GoAwayProtocol},
		{"long ping", maskedFrame(0x89, make([]byte, 126)), 1002, hub.CloseWebSocket, wire.GoAwayProtocol},
		{"continuation of nothing", maskedFrame(0x80, nil), 1002, hub.CloseWebSocket, wire.GoAwayProtocol},
		{"a message within a message", slices.Concat(maskedFrame(0x02, nil), maskedFrame(0x82, nil)), 1002, hub.CloseWebSocket, wire.GoAwayProtocol},
		{"a length of 64 bits", []byte{0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, 1002, hub.CloseWebSocket, wire.GoAwayProtocol},
		{"text", maskedFrame(0x81, []byte("hello")), 1003, hub.CloseText, wire.GoAwayProtocol},
		{"close status out of range", maskedFrame(0x88, []byte{0, 1}), 1002, hub.CloseWebSocket, wire.GoAwayProtocol},
		{"close with one byte", maskedFrame(0x88, []byte{3}), 1002, hub.CloseWebSocket, wire.GoAwayProtocol},
		{"frame of the hub too long", maskedFrame(0x82, tooLong), 1009, hub.CloseTooLong, wire.GoAwayProtocol},
		{"close", maskedFrame(0x88, []byte{3, 232}), 1000, hub.CloseLeft, ""},
		{"close without a status", maskedFrame(0x88, nil), ws.StatusNoStatusRcvd, hub.CloseLeft, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			onWebSockets(t, hub.Config{ResumeWindow: time.Millisecond}, hub.WebConfig{}, func(t *testing.T, h *testHub) {
				for n := range uint64(2) {
					c := h.upgrade(t)
					if n == 1 {
						handshakeV2(c.stream, wire.Hello{Version: wire.Version2})
					}
					c.send(test.bytes)
					if code := c.expectClose(test.status); code != test.code {
						t.Errorf("GOAWAY %q, want %q", code, test.code)
					}
					h.waitDisconnected(t, test.reason, n+1)
				}
			})
		})
	}
}

// TestWebHandler_FirstFrame_MustBeHello sends frames of version 1, which has no WebSocket.
func TestWebHandler_FirstFrame_MustBeHello(t *testing.T) {
	onWebSockets(t, hub.Config{}, hub.WebConfig{}, func(t *testing.T, h *testHub) {
		for n, frame := range [][]byte{
			wire.AppendIdentityRequest(nil), wire.AppendListRequest(nil), wire.AppendRelay(nil, []uint64{1}, []byte("x")), {0, 0, 0, 0},
			wire.AppendSend(nil, 1, 0, 0, []uint64{1}, nil),
		} {
			c := h.upgrade(t)
			c.send(maskedFrame(0x82, frame))
			if code := c.expectClose(ws.StatusProtocolError); code != wire.GoAwayVersion {
				t.Errorf("after %x: GOAWAY %q", frame, code)
			}
			h.waitDisconnected(t, hub.CloseVersion, uint64(n)+1)
		}
	})
}

// TestWebHandler_NoHello_IsClosed upgrades and sends nothing. Such a client is never registered.
func TestWebHandler_NoHello_IsClosed(t *testing.T) {
	config := hub.Config{HandshakeTimeout: 2 * time.Second}
	onWebSockets(t, config, hub.WebConfig{}, func(t *testing.T, h *testHub) {
		c := h.upgrade(t)
		if n := h.Stats().Clients; n != 2 {
			t.Errorf("%d clients beside the bystanders", n-2)
		}
		c.expectClose(ws.StatusPolicyViolation)
		h.waitDisconnected(t, hub.CloseHandshake, 1)
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

// TestWebHandler_Credentials_ReachAuthenticate checks which token and which origin a client has.
func TestWebHandler_Credentials_ReachAuthenticate(t *testing.T) {
	requests := make(chan hub.AuthRequest, 1)
	config := hub.Config{Authenticate: func(r hub.AuthRequest) (*hub.Permissions, error) {
		requests <- r
		if r.Token == "" {
			return nil, errors.New("no token")
		}
		return new(hub.Permissions), nil
	}}
	h := startOn(t, withLongTimeouts(config), listen(t))
	web := h.serveWeb(t, hub.WebConfig{TokenCookie: "hub_token"}, true)
	const cookie = "Cookie: a=b; hub_token=from-the-cookie"
	own := "Origin: " + web.origin()
	for _, test := range []struct {
		name          string
		changes       []string
		inHello       string
		token, origin string
	}{
		{"cookie", []string{own, cookie}, "", "from-the-cookie", web.origin()},
		{"HELLO", []string{own}, "from-hello", "from-hello", web.origin()},
		{"both", []string{own, cookie}, "from-hello", "from-hello", web.origin()},
		{"cookie without an origin", []string{cookie}, "", "", ""},
		{"neither", []string{own}, "", "", web.origin()},
		{"no browser", nil, "from-hello", "from-hello", ""},
	} {
		c := h.upgrade(t, test.changes...)
		c.send(maskedFrame(0x82, wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: test.inHello})))
		if r := <-requests; r.Token != test.token || r.Origin != test.origin || r.TLS == nil || r.Version != wire.Version2 {
			t.Errorf("%s: %+v", test.name, r)
		}
		if test.token != "" {
			if kind, _ := c.stream.mustReadFrame(); kind != wire.TypeWelcome {
				t.Errorf("%s: a frame of type %#x", test.name, kind)
			}
			continue
		}
		if code := c.expectClose(ws.StatusPolicyViolation); code != wire.GoAwayRefused {
			t.Errorf("%s: GOAWAY %q", test.name, code)
		}
	}
}

func TestWebConfig_Invalid(t *testing.T) {
	for want, config := range map[string]hub.WebConfig{
		"AllowedOrigins: origin \"example.com\"": {AllowedOrigins: []string{"https://a.example", "example.com"}},
		"TokenCookie: \"a b\"":                   {TokenCookie: "a b"},
		"every web page":                         {TokenCookie: "a", AllowedOrigins: []string{"*"}},
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

// TestWebHandler_EachEnd_HasItsStatus ends WebSockets in ways that are not mistakes of the client.
func TestWebHandler_EachEnd_HasItsStatus(t *testing.T) {
	for name, test := range map[string]struct {
		end    func(t *testing.T, h *testHub, c *clientV2)
		status ws.StatusCode
		code   wire.GoAwayCode
	}{
		"BYE":      {func(_ *testing.T, _ *testHub, c *clientV2) { c.send(wire.AppendBye(nil)) }, ws.StatusNormalClosure, ""},
		"operator": {func(_ *testing.T, h *testHub, c *clientV2) { h.Disconnect(c.ID, false) }, ws.StatusPolicyViolation, wire.GoAwayDisconnected},
		"takeover": {func(t *testing.T, h *testHub, c *clientV2) { h.resume(t, c) }, ws.StatusNormalClosure, wire.GoAwayTakenOver},
		"GOAWAY before the shutdown": {func(t *testing.T, h *testHub, _ *clientV2) {
			if err := h.SendGoAway(t.Context(), 0); err != nil {
				t.Error(err)
			}
		}, ws.StatusGoingAway, wire.GoAwayShutdown},
		"shutdown": {func(t *testing.T, h *testHub, _ *clientV2) {
			background(t, func() error { return h.Shutdown(context.WithoutCancel(t.Context())) })
		}, ws.StatusGoingAway, wire.GoAwayShutdown},
	} {
		t.Run(name, func(t *testing.T) {
			for _, tr := range webSocketTransports {
				tr.test(t, func(t *testing.T, tr testTransport) {
					h := tr.start(t, hub.Config{})
					c := h.upgrade(t)
					test.end(t, h, handshakeV2(c.stream, wire.Hello{Version: wire.Version2}))
					if code := c.expectClose(test.status); code != test.code {
						t.Errorf("GOAWAY %q, want %q", code, test.code)
					}
				})
			}
		})
	}
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
