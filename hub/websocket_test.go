package hub_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
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

// onWebSockets runs a test over WebSockets: over TCP, over TLS, and in memory, side by side. The
// bystanders of the test, which are WebSockets themselves, must notice nothing.
func onWebSockets(t *testing.T, config hub.Config, webConfig hub.WebConfig, test func(t *testing.T, h *testHub)) {
	t.Helper()
	sideBySide(t, func(t *testing.T, tr testTransport) {
		h := tr.serveWeb(t, startOn(t, withLongTimeouts(config), tr.listen(t)), webConfig)
		bystanders := h.startBystanders(t)
		test(t, h)
		bystanders.waitRounds(3)
	}, webSocketTransports...)
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

// expectClose reads frames of the hub until its Close frame, which must have that status. It
// returns the code of the GOAWAY before it, if any.
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
