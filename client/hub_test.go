package client_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
)

// newHub starts a hub and returns its address. The hub ends with the test.
func newHub(t testing.TB) (h *hub.Hub, addr string) {
	t.Helper()
	return newHubWith(t, hub.Config{})
}

// newHubWith starts a hub with a configuration. The hub ends with the test.
func newHubWith(t testing.TB, config hub.Config) (h *hub.Hub, addr string) {
	t.Helper()
	h, err := hub.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(context.Background(), ln) }() // ends with Shutdown
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, hub.ErrClosed) {
			t.Error(err)
		}
	})
	return h, ln.Addr().String()
}

// dial connects n clients, which are closed at the end of the test.
func dial(t testing.TB, addr string, n int) (clients []*client.Client) {
	t.Helper()
	return dialWith(t, addr, n, nil)
}

func dialWith(t testing.TB, addr string, n int, options *client.Options) (clients []*client.Client) {
	t.Helper()
	for range n {
		c, err := client.Dial(t.Context(), addr, options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		clients = append(clients, c)
	}
	return clients
}

func TestClient_ListAndSend(t *testing.T) {
	_, addr := newHub(t)
	clients := dial(t, addr, 3)
	for i, c := range clients {
		want := slices.Delete([]uint64{clients[0].ID(), clients[1].ID(), clients[2].ID()}, i, i+1)
		if got, err := c.List(t.Context()); err != nil || !slices.Equal(got, want) {
			t.Errorf("client %d sees %v (%v), want %v", c.ID(), got, err, want)
		}
	}
	a, b, c := clients[0], clients[1], clients[2]
	for _, size := range []int{0, 1, 5000, 70_000, 1 << 20} {
		body := bytes.Repeat([]byte{byte(size)}, size)
		if err := a.Send(t.Context(), []uint64{b.ID(), c.ID(), a.ID(), 999}, body); err != nil {
			t.Fatal(err)
		}
		for _, receiver := range clients {
			m, err := receiver.Receive(t.Context())
			if err != nil || !bytes.Equal(m.Body, body) {
				t.Errorf("client %d received %d bytes (%v), want %d", receiver.ID(), len(m.Body), err, size)
			}
			m.Release()
		}
	}
}

// TestClient_AllToAll checks that no message is lost, duplicated or reordered.
func TestClient_AllToAll(t *testing.T) {
	const n, each = 6, 150
	_, addr := newHub(t)
	clients := dial(t, addr, n)
	var ids []uint64
	for _, c := range clients {
		ids = append(ids, c.ID())
	}
	var wg sync.WaitGroup
	for sender, c := range clients {
		wg.Go(func() {
			for i := range each {
				body := append([]byte{byte(sender), byte(i)}, make([]byte, i*i)...)
				if err := c.Send(t.Context(), ids, body); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			var next [n]int
			left := n * each
			for m, err := range c.Messages(t.Context()) {
				if err != nil {
					t.Error(err)
					return
				}
				from, i := m.Body[0], int(m.Body[1])
				if i != next[from] || len(m.Body) != 2+i*i {
					t.Errorf("message %d of %d came (%d bytes), want %d", i, from, len(m.Body), next[from])
				}
				next[from]++
				m.Release()
				if left--; left == 0 {
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestClose_QueuedSendsArrive(t *testing.T) {
	const all = 300
	_, addr := newHub(t)
	clients := dial(t, addr, 2)
	a, b := clients[0], clients[1]
	for i := range all {
		if err := a.Send(t.Context(), []uint64{b.ID()}, make([]byte, i*10)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	for i := range all {
		if m, err := b.Receive(t.Context()); err != nil || len(m.Body) != i*10 {
			t.Fatalf("message %d: %d bytes, %v", i, len(m.Body), err)
		}
	}
}

func TestClient_HubShutdown(t *testing.T) {
	h, addr := newHub(t)
	clients := dialWith(t, addr, 2, &client.Options{NoReconnect: true})
	a, b := clients[0], clients[1]
	if err := a.Send(t.Context(), []uint64{b.ID()}, []byte("the last")); err != nil {
		t.Fatal(err)
	}
	if _, err := a.List(t.Context()); err != nil { // the reply comes behind the message
		t.Fatal(err)
	}
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if m, err := b.Receive(t.Context()); err != nil || string(m.Body) != "the last" {
		t.Errorf("received %q, %v", m.Body, err)
	}
	for _, c := range clients {
		<-c.Done()
		if err := c.Err(); !errors.Is(err, client.ErrHubClosed) {
			t.Errorf("client %d: %v, want %v", c.ID(), err, client.ErrHubClosed)
		}
		if err := c.Close(); err != nil {
			t.Errorf("client %d lost something: %v", c.ID(), err)
		}
	}
}
