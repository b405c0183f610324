package client

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// errRefused is the error of a dial to a hub that is down.
var errRefused = &net.OpError{Op: "dial", Err: errors.New("connection refused")}

// testNet is a network with the hubs a, b and c. The test plays the hubs that are up.
type testNet struct {
	t        testing.TB
	client   *Client
	attempts chan attempt // all dials
	hubs     map[string]chan *fakeHub
	events   chan Event
	lastAddr string // of the last event

	mu   sync.Mutex
	down []string // guarded by mu
}

// attempt is one dial.
type attempt struct {
	addr string
	at   time.Time
}

// dialTestNet connects a client, in order, to the first hub that is up, and returns that hub.
func dialTestNet(t testing.TB, change func(*Options), down ...string) (*testNet, *fakeHub) {
	t.Helper()
	n := newTestNet(t, down...)
	o := Options{OnEvent: func(e Event) { n.events <- e }}
	if change != nil {
		change(&o)
	}
	made := n.dial(t.Context(), o)
	for _, addr := range testNetAddrs {
		n.wantAttempt(addr)
		if !n.isDown(addr) {
			h := <-n.hubs[addr]
			h.acceptHello(&wire.Hello{Version: wire.Version2}, testWelcome)
			if err := <-made; err != nil {
				t.Fatal(err)
			}
			n.wantAddr(addr)
			return n, h
		}
	}
	panic("all hubs are down")
}

var testNetAddrs = []string{"a", "b", "c"}

func newTestNet(t testing.TB, down ...string) *testNet {
	n := &testNet{t: t, attempts: make(chan attempt, 1000), hubs: make(map[string]chan *fakeHub), events: make(chan Event, 1000), down: down}
	for _, addr := range testNetAddrs {
		n.hubs[addr] = make(chan *fakeHub, 10)
	}
	return n
}

// dial makes the first connection of the client, which ends with the test.
func (n *testNet) dial(ctx context.Context, o Options) <-chan error {
	resolved, err := o.withDefaults()
	if err != nil {
		n.t.Fatal(err)
	}
	d := dialer{options: resolved, maxBodyUnset: true}
	for _, addr := range testNetAddrs {
		d.endpoints = append(d.endpoints, endpoint{addr, func(ctx context.Context) (net.Conn, error) { return n.connect(ctx, addr) }})
	}
	n.t.Cleanup(func() {
		if n.client != nil {
			n.client.session.end(ErrClosed)
			n.client.Close()
		}
	})
	return runAsync(func() (err error) {
		n.client, err = d.dialAny(ctx)
		return err
	})
}

// setDown makes dials to these addresses fail, and to no other.
func (n *testNet) setDown(addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = addrs
}

func (n *testNet) isDown(addr string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.down, addr)
}

func (n *testNet) connect(_ context.Context, addr string) (net.Conn, error) {
	n.attempts <- attempt{addr, time.Now()}
	if n.isDown(addr) {
		return nil, errRefused
	}
	near, far := net.Pipe()
	n.t.Cleanup(func() { far.Close() })
	n.hubs[addr] <- &fakeHub{n.t, far}
	return near, nil
}

// wantAttempt takes the next dial, which must be to addr, and returns its time.
func (n *testNet) wantAttempt(addr string) time.Time {
	n.t.Helper()
	got := <-n.attempts
	if got.addr != addr {
		n.t.Errorf("the client dials %s, want %s", got.addr, addr)
	}
	return got.at
}

// wantFailed takes the next event, which must be a failed attempt at addr with err.
func (n *testNet) wantFailed(number int, addr string, err error) {
	n.t.Helper()
	e := n.wantEvent(EventReconnectFailed)
	var at *AddressError
	if e.Attempt != number || !errors.As(e.Err, &at) || at.Addr != addr || !errors.Is(e.Err, err) {
		n.t.Errorf("failed attempt %d: %v, want attempt %d, at %s, with %v", e.Attempt, e.Err, number, addr, err)
	}
}

func (n *testNet) wantEvent(kind EventKind) Event {
	n.t.Helper()
	e := <-n.events
	if e.Kind != kind {
		n.t.Errorf("event %v (%v), want %v", e.Kind, e.Err, kind)
	}
	n.lastAddr = e.Addr
	return e
}

func (n *testNet) wantAddr(want string) {
	n.t.Helper()
	if got := n.client.Addr(); got != want || n.lastAddr != "" && n.lastAddr != want {
		n.t.Errorf("the client is connected to %q, and %q by its last event, want %q", got, n.lastAddr, want)
	}
}

// accept accepts the client at addr, with w in answer to a HELLO that resumes.
func (n *testNet) accept(addr string, w wire.Welcome) *fakeHub {
	n.t.Helper()
	h := <-n.hubs[addr]
	h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"}, w)
	return h
}

// reject answers HELLO at addr with a GOAWAY.
func (n *testNet) reject(addr string, away wire.GoAway) {
	n.t.Helper()
	h := <-n.hubs[addr]
	h.wantType(wire.TypeHello)
	h.wantType(wire.TypeIdentity)
	h.send(wire.AppendGoAway(nil, &away))
	h.Close()
}

// otherHub is the WELCOME of a hub that does not have the session of the client.
func otherHub() wire.Welcome {
	w := testWelcome
	w.ID, w.Epoch, w.Resume = 1<<40, 2, "other"
	return w
}
