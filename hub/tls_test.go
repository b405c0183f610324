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

// startTLS serves a hub over TLS, and returns how its clients trust it.
func startTLS(t testing.TB, config hub.Config) (*testHub, *tls.Config) {
	t.Helper()
	return startTLSBy(t, config, hub.NewTLSListener)
}

func startTLSBy(t testing.TB, config hub.Config, listener func(net.Listener, *tls.Config) net.Listener) (*testHub, *tls.Config) {
	t.Helper()
	authority := testcerts.NewAuthority(t)
	server := &tls.Config{Certificates: []tls.Certificate{authority.Local().TLS(t)}, NextProtos: []string{wire.ALPN}}
	h := startOn(t, config, listener(listen(t), server))
	return h, &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", NextProtos: []string{wire.ALPN}}
}

// TestMessagesOverTLS sends bodies of all sizes, many little ones among them, between clients of
// both versions, over the hub's own listener and that of crypto/tls.
func TestMessagesOverTLS(t *testing.T) {
	t.Run("of the hub", func(t *testing.T) { messagesOverTLS(t, hub.NewTLSListener) })
	t.Run("of crypto", func(t *testing.T) { messagesOverTLS(t, tls.NewListener) })
}

func messagesOverTLS(t *testing.T, listener func(net.Listener, *tls.Config) net.Listener) {
	h, trust := startTLSBy(t, hub.Config{}, listener)
	var clients []*client.Client
	var ids []uint64
	for i := range 4 {
		c, err := client.Dial(t.Context(), h.addr, &client.Options{TLS: trust, Version: 1 + i%2})
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
				if err := clients[i].Send(t.Context(), ids, numbered(uint64(i), n, size(n))); err != nil {
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
			if n := next[from]; !bytes.Equal(m.Body, numbered(from, n, size(n))) {
				return fmt.Errorf("client %d: a body of %d bytes that is not message %d of client %d", i, len(m.Body), n, from)
			}
			next[from]++
			m.Release()
		}
		return nil
	})
}

// TestNoHandshake has those who do not speak TLS, or say nothing, or speak it for something
// else: they are cut and counted, and nobody else ever sees them.
func TestNoHandshake(t *testing.T) {
	h, trust := startTLS(t, hub.Config{HandshakeTimeout: 200 * time.Millisecond})
	watcher, err := client.Dial(t.Context(), h.addr, &client.Options{TLS: trust})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { watcher.Close() })
	silent := h.silent(t)
	plain := h.silent(t)
	plain.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2}))
	if others, err := watcher.List(t.Context()); err != nil || len(others) != 0 {
		t.Errorf("listed before the handshake: %v, %v", others, err)
	}
	begun := time.Now()
	for _, p := range []*peer{silent, plain} {
		if _, err := io.Copy(io.Discard, p); err != nil {
			var reset net.Error
			if errors.As(err, &reset) && reset.Timeout() {
				t.Error("still connected")
			}
		}
	}
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("cut after %v", took)
	}
	other := trust.Clone()
	other.NextProtos = []string{"h2"}
	if c, err := tls.Dial("tcp", h.addr, other); err == nil {
		c.Close()
		t.Error("one that speaks another protocol came in")
	}
	h.disconnected(t, hub.ReasonHandshake, 3)
	if n := h.Stats().Clients; n != 1 {
		t.Errorf("%d clients, want 1", n)
	}
}

// TestShutdownInAHandshake does not wait for it.
func TestShutdownInAHandshake(t *testing.T) {
	h, _ := startTLS(t, hub.Config{HandshakeTimeout: time.Hour})
	h.silent(t)
	eventually(t, "accepted", func() bool { return h.Stats().Connected == 1 })
	if err := h.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	h.disconnected(t, hub.ReasonShutdown, 1)
}

// TestAStalledReceiverOverTLS is cut although TLS would take its leave first.
func TestAStalledReceiverOverTLS(t *testing.T) {
	h, trust := startTLS(t, hub.Config{StallTimeout: 300 * time.Millisecond})
	nc, err := tls.Dial("tcp", h.addr, trust)
	if err != nil {
		t.Fatal(err)
	}
	slow := adopt(t, nc)
	slow.send(wire.AppendIdentityRequest(nil))
	slow.id = slow.identity()
	sender, err := client.Dial(t.Context(), h.addr, &client.Options{TLS: trust})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sender.Close() })
	body := make([]byte, 1<<20)
	for h.Stats().Disconnected[hub.ReasonStalled] == 0 {
		if err := sender.Send(t.Context(), []uint64{slow.id}, body); err != nil {
			t.Fatal(err)
		}
	}
}
