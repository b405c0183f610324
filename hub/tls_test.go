package hub_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/wire"
)

// startTLS serves a hub over TLS and returns the TLS configuration of its clients.
func startTLS(t testing.TB, config hub.Config) (*testHub, *tls.Config) {
	t.Helper()
	return startTLSOn(t, config, hub.NewTLSListener)
}

func startTLSOn(t testing.TB, config hub.Config, newListener func(net.Listener, *tls.Config) net.Listener) (*testHub, *tls.Config) {
	t.Helper()
	authority := testcerts.NewAuthority(t)
	serverTLS := &tls.Config{Certificates: []tls.Certificate{authority.IssueLocal().TLS(t)}, NextProtos: []string{wire.ALPN}}
	h := startOn(t, config, newListener(listen(t), serverTLS))
	return h, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", NextProtos: []string{wire.ALPN}}
}

// TestTLS_Messages_ArriveInOrder sends bodies of many lengths, most of them small, between
// clients of both versions, over the hub's own TLS listener and that of crypto/tls.
func TestTLS_Messages_ArriveInOrder(t *testing.T) {
	t.Run("hub listener", func(t *testing.T) { testMessagesOverTLS(t, hub.NewTLSListener) })
	t.Run("crypto listener", func(t *testing.T) { testMessagesOverTLS(t, tls.NewListener) })
}

func testMessagesOverTLS(t *testing.T, newListener func(net.Listener, *tls.Config) net.Listener) {
	h, clientTLS := startTLSOn(t, hub.Config{}, newListener)
	var clients []*client.Client
	var ids []uint64
	for i := range 4 {
		c, err := client.Dial(t.Context(), h.addr, &client.Options{TLS: clientTLS, Version: 1 + i%2})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		clients, ids = append(clients, c), append(ids, c.ID())
	}
	const messages = 300
	size := func(n int) int {
		if n%50 == 0 {
			return n * 3000 // to 750,000
		}
		return n * n % 5000
	}
	parallel(t, 2*len(clients), func(i int) error {
		if i < len(clients) {
			for n := range messages {
				if err := clients[i].Send(t.Context(), ids, numberedBody(uint64(i), n, size(n))); err != nil {
					return err
				}
			}
			return nil
		}
		i -= len(clients)
		next := make([]int, len(clients))
		for range messages * len(clients) {
			m, err := clients[i].Receive(t.Context())
			if err != nil {
				return err
			}
			from := binary.BigEndian.Uint64(m.Body) % uint64(len(clients))
			if n := next[from]; !bytes.Equal(m.Body, numberedBody(from, n, size(n))) {
				return fmt.Errorf("client %d: a body of %d bytes that is not message %d of client %d", i, len(m.Body), n, from)
			}
			next[from]++
			m.Release()
		}
		return nil
	})
}

// TestTLS_NoHandshake_IsDisconnected has clients that do not speak TLS, send nothing, or ask
// for another ALPN protocol. The hub disconnects and counts them, and never lists them.
func TestTLS_NoHandshake_IsDisconnected(t *testing.T) {
	h, clientTLS := startTLS(t, hub.Config{HandshakeTimeout: 200 * time.Millisecond})
	lister, err := client.Dial(t.Context(), h.addr, &client.Options{TLS: clientTLS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lister.Close() })
	silent := h.connect(t)
	plain := h.connect(t)
	plain.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2}))
	if others, err := lister.List(t.Context()); err != nil || len(others) != 0 {
		t.Errorf("listed before the handshake: %v, %v", others, err)
	}
	begun := time.Now()
	for _, c := range []*clientV1{silent, plain} {
		if _, err := io.Copy(io.Discard, c); err != nil {
			var netErr net.Error
			if errors.As(err, &netErr) && netErr.Timeout() {
				t.Error("still connected")
			}
		}
	}
	if took := time.Since(begun); took > testTimeout/2 {
		t.Errorf("disconnected after %v", took)
	}
	wrongALPN := clientTLS.Clone()
	wrongALPN.NextProtos = []string{"h2"}
	if c, err := tls.Dial("tcp", h.addr, wrongALPN); err == nil {
		c.Close()
		t.Error("a client with another ALPN protocol was accepted")
	}
	h.waitDisconnected(t, hub.CloseHandshake, 3)
	if n := h.Stats().Clients; n != 1 {
		t.Errorf("%d clients, want 1", n)
	}
}

// TestShutdown_DuringTLSHandshake checks that Shutdown does not wait for a TLS handshake.
func TestShutdown_DuringTLSHandshake(t *testing.T) {
	h, _ := startTLS(t, hub.Config{HandshakeTimeout: time.Hour})
	h.connect(t)
	eventually(t, "accepted", func() bool { return h.Stats().Connected == 1 })
	if err := h.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	h.waitDisconnected(t, hub.CloseShutdown, 1)
}

// TestTLS_StalledReceiver_IsDisconnected checks that a stalled TLS connection is closed
// although crypto/tls would first write a close_notify alert.
func TestTLS_StalledReceiver_IsDisconnected(t *testing.T) {
	h, clientTLS := startTLS(t, hub.Config{StallTimeout: 300 * time.Millisecond})
	nc, err := tls.Dial("tcp", h.addr, clientTLS)
	if err != nil {
		t.Fatal(err)
	}
	slow := newClientV1(t, nc)
	slow.send(wire.AppendIdentityRequest(nil))
	slow.id = slow.readIdentity()
	sender, err := client.Dial(t.Context(), h.addr, &client.Options{TLS: clientTLS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sender.Close() })
	body := make([]byte, 1<<20)
	for h.Stats().Disconnected[hub.CloseStalled] == 0 {
		if err := sender.Send(t.Context(), []uint64{slow.id}, body); err != nil {
			t.Fatal(err)
		}
	}
}
