package hub_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/wire"
)

// kill makes a hub unreachable for other hubs, and waits until they have lost it.
func (tc *testCluster) kill(t testing.TB, i int) {
	t.Helper()
	tc.bus.Isolate(cluster.Node(i + 1))
	for j, h := range tc.hubs {
		if j != i {
			eventually(t, "the hub is lost", func() bool { return h.hubsUp() == len(tc.hubs)-1 })
		}
	}
}

// TestKeptID_HubLost has a client resume a session whose hub is lost. It keeps its id, under which
// other clients reach it at once, and which the hub gives up when it comes back.
func TestKeptID_HubLost(t *testing.T) {
	tc := startCluster(t, 3, hub.Config{Authenticate: tokenAuthenticator(map[string]*hub.Permissions{
		"a": {Subject: "a"}, "b": {Subject: "b"}, "granted": {Subject: "granted", ID: 5},
	})})
	c, granted := tc.hubs[0].connectToken(t, "a"), tc.hubs[0].connectToken(t, "granted")
	other := tc.hubs[2].connectToken(t, "b")
	tc.kill(t, 0)
	hello := wire.Hello{Version: wire.Version2, ID: c.ID, Resume: c.Resume, Received: 9}
	for name, change := range map[string]func(h *wire.Hello){
		"other subject": func(h *wire.Hello) { h.Token = "b" },
		"other id":      func(h *wire.Hello) { h.Token, h.ID = "a", c.ID+1 },
		"other secret":  func(h *wire.Hello) { h.Token, h.Resume = "a", c.Resume[:len(c.Resume)-1]+"x" },
	} {
		hostile := hello
		change(&hostile)
		if got := tc.hubs[1].connectHello(t, hostile); got.KeptID || got.ID == c.ID || got.ID == hostile.ID {
			t.Errorf("%s: the id %#x, kept: %v", name, got.ID, got.KeptID)
		}
	}
	hello.Token = "a"
	kept := tc.hubs[1].connectHello(t, hello)
	if kept.ID != c.ID || !kept.KeptID || kept.Resumed || kept.Seq != 0 || kept.Cluster != c.Cluster || kept.Cluster == "" {
		t.Fatalf("WELCOME %+v", kept.Welcome)
	}
	back := tc.hubs[1].connectHello(t, wire.Hello{Version: wire.Version2, Token: "granted", ID: 5, Resume: granted.Resume})
	if back.ID != 5 || !back.KeptID || back.Resumed {
		t.Errorf("WELCOME of the granted id: %+v", back.Welcome)
	}
	var seq uint64
	eventually(t, "the client is known at its new hub", func() bool {
		seq = other.sendMessage([]byte("x"), levelOptions(wire.LevelWritten), 0, c.ID)
		_, fates := other.readReport()
		return fates[0] == wire.FateWritten
	})
	kept.expectDeliver(other.ID, seq, []byte("x"))
	kept = tc.hubs[2].connectHelloRetry(t, wire.Hello{Version: wire.Version2, Token: "a", ID: kept.ID, Resume: kept.Resume, Received: 1})
	if !kept.Resumed {
		t.Error("the new session was not resumed at a third hub")
	}
	tc.bus.Rejoin(1)
	tc.waitComplete(t)
	c.expectGoAway(wire.GoAwayTakenOver)
	granted.expectGoAway(wire.GoAwayTakenOver)
	kept.fenceV2()
	back.fenceV2()
}

// movingDialer dials one of several hubs, and can cut the connection.
type movingDialer struct {
	mu   sync.Mutex
	hub  *testHub
	conn net.Conn
}

func (d *movingDialer) dial(context.Context) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	nc, err := d.hub.dial()
	d.conn = nc
	return nc, err
}

// move cuts the connection, and has the next one go to h.
func (d *movingDialer) move(h *testHub) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hub = h
	d.conn.Close()
}

// TestKeptID_ResendIsOnceAndInOrder kills the hub of a sender in the middle of its messages. The
// sender keeps its id and sends again what was not reported. The receiver gets each message once.
func TestKeptID_ResendIsOnceAndInOrder(t *testing.T) {
	const messages = 3000
	tc := startCluster(t, 3, hub.Config{})
	dialer, events := &movingDialer{hub: tc.hubs[0]}, make(chan client.Event, 100)
	sender := tc.hubs[0].dialWith(t, &client.Options{Resend: true, Dial: dialer.dial, OnEvent: func(e client.Event) { events <- e }})
	receiver := tc.hubs[1].dialClient(t)
	t.Cleanup(func() { sender.Close() })
	tc.waitKnown(t, 2)
	id, reports := sender.ID(), make(chan error, messages)
	background(t, func() error {
		for n := range messages {
			err := sender.SendFunc(t.Context(), []uint64{receiver.ID()}, []byte(fmt.Sprint(n)), nil, func(r *client.Report, err error) {
				if err == nil && r.Fates[0] != wire.FateReceived {
					err = fmt.Errorf("message %d is %v", n, r.Fates[0])
				}
				reports <- err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	for n := range messages {
		if n == messages/3 {
			tc.bus.Isolate(1)
			dialer.move(tc.hubs[2])
		}
		m, err := receiver.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Body) != fmt.Sprint(n) || m.From != id {
			t.Fatalf("message %q from %#x, want %d from %#x", m.Body, m.From, n, id)
		}
	}
	for range messages {
		if err := <-reports; err != nil {
			t.Fatal(err)
		}
	}
	for e := range events {
		if e.Kind == client.EventKeptID {
			break
		}
	}
	if sender.ID() != id {
		t.Errorf("the id is %#x, was %#x", sender.ID(), id)
	}
	tc.bus.Rejoin(1)
	tc.waitComplete(t)
}
