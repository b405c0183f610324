package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/wire"
)

// killableHub is a hub that a test can end before the end of the test.
type killableHub struct {
	*hub.Hub
	addr   string
	served chan error
}

func startKillableHub(t *testing.T) *killableHub {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	k := &killableHub{h, ln.Addr().String(), make(chan error, 1)}
	go func() { k.served <- h.Serve(context.Background(), ln) }() // ends with stop
	t.Cleanup(func() { k.stop(context.Background()) })
	return k
}

// stop shuts the hub down. With a canceled ctx, the hub just closes its connections.
func (k *killableHub) stop(ctx context.Context) {
	_ = k.Shutdown(ctx) // the error of ctx
	if k.served != nil {
		<-k.served
		k.served = nil
	}
}

// TestReconnect_HubKilled kills the hub of a client, and then the next one, while another one
// lives. The last hub says GOAWAY.
func TestReconnect_HubKilled(t *testing.T) {
	hubs := []*killableHub{startKillableHub(t), startKillableHub(t), startKillableHub(t)}
	var addrs []string
	byAddr := make(map[string]*killableHub)
	for _, h := range hubs {
		addrs = append(addrs, h.addr)
		byAddr[h.addr] = h
	}
	events := make(chan client.Event, 1000)
	c, err := client.Dial(t.Context(), strings.Join(addrs, ","), &client.Options{OnEvent: func(e client.Event) { events <- e }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	killed, cancel := context.WithCancel(context.Background())
	cancel()
	for _, ctx := range []context.Context{killed, context.Background()} {
		old := c.Addr()
		byAddr[old].stop(ctx)
		delete(byAddr, old)
		waitForEvent(t, events, client.EventNewID)
		if byAddr[c.Addr()] == nil {
			t.Fatalf("the client is connected to %s", c.Addr())
		}
		report, err := c.SendReport(t.Context(), []uint64{c.ID()}, []byte("still here"), &client.SendOptions{Level: wire.LevelWritten})
		wantFates(t, report, err, wire.FateWritten)
	}
	byAddr[c.Addr()].stop(context.Background())
	e := waitForEvent(t, events, client.EventReconnectFailed)
	var at *client.AddressError
	if !errors.As(e.Err, &at) || !strings.Contains(e.Err.Error(), at.Addr+": dial tcp") {
		t.Errorf("the attempt failed with %v", e.Err)
	}
}

// waitForEvent skips the events before one of that kind.
func waitForEvent(t *testing.T, events <-chan client.Event, kind client.EventKind) client.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	for {
		select {
		case e := <-events:
			if e.Kind == kind {
				return e
			}
		case <-ctx.Done():
			t.Fatalf("timeout: event %v", kind)
		}
	}
}

// TestDial_SpreadsOverHubs: of three addresses, nobody listens at one, and one hub is full.
func TestDial_SpreadsOverHubs(t *testing.T) {
	const n = 40
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	a, addrA := newHub(t)
	b, addrB := newHubWith(t, hub.Config{MaxClients: 1})
	for range n {
		dialWith(t, strings.Join([]string{addrA, ln.Addr().String(), addrB}, ","), 1, &client.Options{NoReconnect: true})
	}
	if atA, atB := len(a.Clients(0, 2*n)), len(b.Clients(0, 2*n)); atA != n-1 || atB != 1 {
		t.Errorf("%d and %d clients, want %d and 1", atA, atB, n-1)
	}
	_, err = client.Dial(t.Context(), ln.Addr().String()+", "+addrB, &client.Options{InOrder: true})
	if err == nil || !strings.Contains(err.Error(), "client: no connection: "+ln.Addr().String()+": dial tcp ") || !strings.Contains(err.Error(), "; "+addrB+": handshake with ") {
		t.Errorf("error %v, want one that names both addresses", err)
	}
}

// TestDial_ServerNamePerAddress has hubs whose certificates are for one name each.
func TestDial_ServerNamePerAddress(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	var addrs []string
	for _, name := range []string{"localhost", "127.0.0.1"} {
		port := newTLSHubWith(t, authority.Issue(time.Now().Add(time.Hour), name))
		addrs = append(addrs, "hubs://"+net.JoinHostPort(name, port))
	}
	for _, addr := range []string{addrs[0] + "," + addrs[1], addrs[1] + "," + addrs[0]} {
		c, err := client.Dial(t.Context(), addr, &client.Options{InOrder: true, TLS: &tls.Config{RootCAs: authority.Pool()}})
		if err != nil {
			t.Fatal(err)
		}
		if want, _, _ := strings.Cut(addr, ","); c.Addr() != want {
			t.Errorf("connected to %s, want %s", c.Addr(), want)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
