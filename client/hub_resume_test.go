package client_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

func TestResume_Transparent(t *testing.T) {
	h, addr := newHub(t)
	la, lb := newFlakyDialer(addr), newFlakyDialer(addr)
	a, b := la.newClient(t), lb.newClient(t)
	ids := []uint64{a.ID(), b.ID()}
	for i, d := range []*flakyDialer{la, lb, la, lb} {
		d.cut(i%2 == 0)
		if err := a.Send(t.Context(), ids[1:], []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if m, err := b.Receive(t.Context()); err != nil || string(m.Body) != fmt.Sprint(i) || m.From != ids[0] {
			t.Fatalf("received %q from %d, %v", m.Body, m.From, err)
		}
		d.wantEvent(t, client.EventDisconnected)
		d.wantEvent(t, client.EventResumed)
	}
	if others, err := a.List(t.Context()); err != nil || !slices.Equal(others, ids[1:]) {
		t.Errorf("List: %v, %v", others, err)
	}
	if a.ID() != ids[0] || b.ID() != ids[1] {
		t.Errorf("ids are %d and %d", a.ID(), b.ID())
	}
	if n := h.Stats().Resumed; n != 4 {
		t.Errorf("%d resumed, want 4", n)
	}
}

// droppingConn is a connection that drops every Write except the first.
type droppingConn struct {
	net.Conn
	written atomic.Bool
}

func (f *droppingConn) Write(b []byte) (int, error) {
	if f.written.Swap(true) {
		return len(b), nil
	}
	return f.Conn.Write(b)
}

// TestResume_FirstFramesLost loses a connection and all frames after HELLO, with the ACK of the
// WELCOME among them. The client must resume its session.
func TestResume_FirstFramesLost(t *testing.T) {
	_, addr := newHubWith(t, hub.Config{})
	var first atomic.Pointer[droppingConn]
	events := make(chan client.Event, 100)
	c, err := client.Dial(t.Context(), "", &client.Options{
		OnEvent: func(e client.Event) { events <- e },
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			nc, err := d.DialContext(ctx, "tcp", addr)
			if err == nil && first.Load() == nil {
				first.Store(&droppingConn{Conn: nc})
				return first.Load(), nil
			}
			return nc, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	id := c.ID()
	first.Load().Close()
	for e := range events {
		if e.Kind == client.EventResumed && e.ID == id {
			break
		}
		if e.Kind != client.EventDisconnected && e.Kind != client.EventReconnectFailed {
			t.Fatalf("event %v as %d (%v), want to resume as %d", e.Kind, e.ID, e.Err, id)
		}
	}
	if report, err := c.SendReport(t.Context(), []uint64{id}, []byte("to itself"), &client.SendOptions{Level: wire.LevelWritten}); err != nil || report.Fates[0] != wire.FateWritten {
		t.Errorf("report %+v, %v", report, err)
	}
}

// TestResume_ManyDisconnects breaks every connection at least ten times, at random moments,
// while all clients send to some others and ask for reports.
func TestResume_ManyDisconnects(t *testing.T) {
	clients, messages, cuts := 100, 300, 10
	if testing.Short() {
		clients, messages = 20, 100
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	// No session ends and no report times out on a busy machine.
	h, addr := newHubWith(t, hub.Config{
		ResumeWindow: time.Hour, StallTimeout: time.Hour, ReportTimeout: time.Hour, MaxQueuedBytes: 1 << 30,
	})
	flaky := make([]*flakyClient, clients)
	for i := range flaky {
		flaky[i] = newFlakyClient(t, addr, i, clients, messages, rand.New(rand.NewPCG(seed, uint64(i))))
	}
	var wg sync.WaitGroup
	for _, fc := range flaky {
		fc.clients = flaky
		wg.Go(fc.send)
		wg.Go(func() { fc.cut(cuts) })
	}
	finished := make(chan struct{})
	go func() { // ends when all messages have arrived, or with the program
		defer close(finished)
		wg.Wait()
		for _, fc := range flaky {
			fc.wait()
		}
	}()
	waitWhileProgressing(t, finished, flaky)
	for _, fc := range flaky {
		fc.check(cuts)
	}
	if s := h.Stats(); s.Fates[wire.FateReceived] != uint64(clients*messages*receiversPerMessage) {
		t.Errorf("the hub has counted %d received messages, want %d", s.Fates[wire.FateReceived], clients*messages*receiversPerMessage)
	}
}
