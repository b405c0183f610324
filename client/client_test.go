package client_test

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

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

// TestClient_EchoUnderLoad receives and sends in one loop, while others send more messages than
// the loop can answer. The reports and ACKs of the answers must not wait behind those messages.
func TestClient_EchoUnderLoad(t *testing.T) {
	h, addr := newHub(t)
	worker := dial(t, addr, 1)[0]
	const producers, messages = 4, 10_000
	var producing sync.WaitGroup
	for range producers {
		answers := 0
		done := make(chan struct{})
		c, err := client.Dial(t.Context(), addr, &client.Options{OnMessage: func(client.Message) {
			if answers++; answers == messages {
				close(done)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		producing.Go(func() {
			for range messages {
				if err := c.Send(t.Context(), []uint64{worker.ID()}, make([]byte, 400)); err != nil {
					t.Error(err)
					return
				}
			}
			<-done
		})
	}
	n := 0
	for m, err := range worker.Messages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if err := worker.Send(t.Context(), []uint64{m.From}, m.Body); err != nil {
			t.Fatal(err)
		}
		if n++; n == producers*messages {
			break
		}
	}
	producing.Wait()
	if stats := h.Stats(); stats.Disconnected[hub.CloseStalled] != 0 {
		t.Errorf("disconnected: %v", stats.Disconnected)
	}
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

func TestGoAway_HubShutdown(t *testing.T) {
	h, addr := newHub(t)
	d := newFlakyDialer(addr)
	c := d.newClient(t)
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	e := d.wantEvent(t, client.EventDisconnected)
	var away *client.GoAwayError
	if !errors.As(e.Err, &away) || away.Code != wire.GoAwayShutdown || !away.Reconnect || !errors.Is(e.Err, client.ErrHubClosed) {
		t.Errorf("the event has %v", e.Err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if e := d.wantEvent(t, client.EventClosed); !errors.Is(e.Err, client.ErrClosed) {
		t.Errorf("closed: %v", e.Err)
	}
}

// TestVersion1_ReportsErrVersion makes calls that require version 2.
func TestVersion1_ReportsErrVersion(t *testing.T) {
	_, addr := newHub(t)
	c := dialWith(t, addr, 1, &client.Options{Version: 1})[0]
	if c.Version() != 1 {
		t.Errorf("version %d", c.Version())
	}
	_, report := c.SendReport(t.Context(), nil, nil, nil)
	_, page := c.ListPage(t.Context(), 0, 0)
	_, ping := c.Ping(t.Context())
	for _, err := range []error{report, page, ping} {
		if !errors.Is(err, client.ErrVersion) {
			t.Errorf("got %v, want %v", err, client.ErrVersion)
		}
	}
	for _, err := range c.Watch(t.Context()) {
		if !errors.Is(err, client.ErrVersion) {
			t.Errorf("Watch: %v, want %v", err, client.ErrVersion)
		}
	}
}
