package simulation

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
)

func TestRun_ConnectionRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	_, err = Run(t.Context(), smallConfig(addr))
	if err == nil || !strings.Contains(err.Error(), "cannot connect to "+addr) {
		t.Errorf("got %v", err)
	}
}

func TestRun_ConnectTimeout(t *testing.T) {
	h := (&fakeHub{silent: true}).start(t)
	c := smallConfig(h.addr)
	c.Timeout = 100 * time.Millisecond
	_, err := Run(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("got %v", err)
	}
}

func TestRun_RejectsDuplicateIDs(t *testing.T) {
	h := (&fakeHub{sameID: true}).start(t)
	_, err := Run(t.Context(), smallConfig(h.addr))
	if err == nil || !strings.Contains(err.Error(), "the id 1 to two clients") {
		t.Errorf("got %v", err)
	}
}

// TestDial_SpreadsClients has two hubs, and an address at which nobody listens: its clients go to
// both hubs. With broken connections, a client stays at its address.
func TestDial_SpreadsClients(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	a, b := startHub(t), startHub(t)
	for reconnects, want := range [][]int{{6, 0, 6}, {4, 4}} {
		c := smallConfig(a + "," + listener.Addr().String() + "," + b)
		if reconnects > 0 {
			c.Addr = a + "," + b
		}
		c.Protocol, c.Reconnects, c.Clients = 2, reconnects, len(want)*4
		counts := dialAll(t, c)
		for i, addr := range c.addrs() {
			if counts[i] != (AddressCount{addr, want[i]}) {
				t.Errorf("%d breaks: %+v, want %d at %s", reconnects, counts[i], want[i], addr)
			}
		}
	}
}

// dialAll connects the clients of c and returns where they are connected.
func dialAll(t *testing.T, c Config) []AddressCount {
	t.Helper()
	r := newRun(c.withDefaults())
	defer r.closeProxies()
	if c.Reconnects > 0 {
		if err := r.startProxies(); err != nil {
			t.Fatal(err)
		}
	}
	var clients []*client.Client
	defer func() { _, _ = disconnect(clients) }()
	for i, rcv := range r.receivers {
		cl, err := dial(t.Context(), r.config, i, rcv, r.proxyDialers[i])
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, cl)
	}
	return countAddresses(c.addrs(), clients)
}
