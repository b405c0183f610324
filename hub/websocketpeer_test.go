package hub_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// peerTransports are the WebSockets that a library can dial by itself.
var peerTransports = []testTransport{overWebSocket, overSecureWebSocket}

// dialCoder connects by github.com/coder/websocket.
func (w *webServer) dialCoder(ctx context.Context, header http.Header) (*websocket.Conn, error) {
	options := &websocket.DialOptions{
		Subprotocols: []string{wire.Subprotocol}, HTTPHeader: header,
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: w.clientTLS, DisableKeepAlives: true}},
	}
	c, _, err := websocket.Dial(ctx, w.url().String(), options)
	if err == nil {
		c.SetReadLimit(-1)
	}
	return c, err
}

// connectCoder connects a client of version 2 by github.com/coder/websocket.
func (h *testHub) connectCoder(t *testing.T) (*websocket.Conn, *clientV2) {
	t.Helper()
	c, err := h.web.dialCoder(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() }) // fails if the test has closed it
	nc := websocket.NetConn(context.WithoutCancel(t.Context()), c, websocket.MessageBinary)
	return c, handshakeV2(h.newClient(t, nc), wire.Hello{Version: wire.Version2, Name: "coder"})
}

// TestWebSocket_Coder_GetsEveryBody has two clients of github.com/coder/websocket and one over TCP
// exchange bodies of the lengths at which the header of a WebSocket frame grows.
func TestWebSocket_Coder_GetsEveryBody(t *testing.T) {
	for _, tr := range peerTransports {
		tr.test(t, func(t *testing.T, tr testTransport) {
			h := tr.serveWeb(t, startOn(t, withLongTimeouts(hub.Config{}), tr.listen(t)), hub.WebConfig{})
			_, a := h.connectCoder(t)
			_, b := h.connectCoder(t)
			tcp := handshakeV2(h.connect(t), wire.Hello{Version: wire.Version2, Name: "tcp"})
			all := []*clientV2{a, b, tcp}
			for _, from := range all {
				for seq, size := range []int{0, 1, 90, 125, 126, 127, 4096, 65_400, 65_535, 65_536, 70_000, 1 << 20} {
					body := pattern(size, byte(seq))
					from.sendMessage(body, 0, 0, a.id, b.id, tcp.id)
					for _, to := range all {
						to.expectDeliver(from.id, uint64(seq)+1, body)
					}
				}
			}
			for _, c := range all {
				c.fenceV2()
			}
		})
	}
}

// TestWebSocket_Coder_Closes checks the close frames of both sides, and the answer to a Ping.
func TestWebSocket_Coder_Closes(t *testing.T) {
	for _, tr := range peerTransports {
		tr.test(t, func(t *testing.T, tr testTransport) {
			h := tr.serveWeb(t, startOn(t, withLongTimeouts(hub.Config{}), tr.listen(t)), hub.WebConfig{})
			c, _ := h.connectCoder(t)
			ended := make(chan error, 1)
			go func() { // ends with the connection
				_, _, err := c.Read(context.WithoutCancel(t.Context()))
				ended <- err
			}()
			if err := c.Ping(t.Context()); err != nil {
				t.Errorf("Ping: %v", err)
			}
			if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
				t.Errorf("Close: %v", err)
			}
			<-ended

			c, err := h.web.dialCoder(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Write(t.Context(), websocket.MessageBinary, wire.AppendHello(nil, &wire.Hello{Version: wire.Version2})); err != nil {
				t.Fatal(err)
			}
			_, welcome, err := c.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, payload := wire.Split(welcome)
			w, err := wire.ParseWelcome(payload)
			if err != nil {
				t.Fatal(err)
			}
			h.Disconnect(w.ID, false)
			_, message, err := c.Read(t.Context())
			if kind, _ := wire.Split(message); err != nil || kind != wire.TypeGoAway {
				t.Errorf("the client that was disconnected got %x, %v", message, err)
			}
			if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
				t.Errorf("the client that was disconnected got %v", err)
			}
		})
	}
}

// TestWebSocket_Coder_SeesRefusal checks what a program learns whose page cannot connect.
func TestWebSocket_Coder_SeesRefusal(t *testing.T) {
	for _, tr := range peerTransports {
		tr.test(t, func(t *testing.T, tr testTransport) {
			h := tr.serveWeb(t, startOn(t, withLongTimeouts(hub.Config{}), tr.listen(t)), hub.WebConfig{})
			_, err := h.web.dialCoder(t.Context(), http.Header{"Origin": {"https://foreign.example"}})
			if err == nil || errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "403") {
				t.Errorf("got %v, want the status 403", err)
			}
		})
	}
}
