package client

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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

// TestReconnect_ResumesAtSameAddressFirst: the session is at the hub of the lost connection.
func TestReconnect_ResumesAtSameAddressFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, h := dialTestNet(t, nil, "a") // connected to b
		n.setDown()
		for range 3 {
			lost := time.Now()
			h.Close()
			n.wantEvent(EventDisconnected)
			if wait := n.wantAttempt("b").Sub(lost); wait > minBackoff {
				t.Errorf("waited for %v, at most %v are allowed", wait, minBackoff)
			}
			h = n.accept("b", resumedWelcome(func(*wire.Welcome) {}))
			n.wantEvent(EventResumed)
			n.wantAddr("b")
		}
	})
}

// TestReconnect_OtherHubsAtOnce: the hub of the client and the next one are down. The third one
// does not have the session.
func TestReconnect_OtherHubsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, h := dialTestNet(t, nil, "a")
		n.setDown("b", "c")
		h.Close()
		n.wantEvent(EventDisconnected)
		first := n.wantAttempt("b")
		n.wantFailed(1, "b", errRefused)
		n.wantAttempt("c")
		n.wantFailed(2, "c", errRefused)
		if wait := n.wantAttempt("a").Sub(first); wait != 0 {
			t.Errorf("the round took %v, want no delay within it", wait)
		}
		h = n.accept("a", otherHub())
		n.wantEvent(EventNewID)
		n.wantAddr("a")
		n.setDown()
		h.Close()
		n.wantEvent(EventDisconnected)
		n.wantAttempt("a") // which has the session now
	})
}

// TestReconnect_BackoffPerRound: all hubs are down, until one is up.
func TestReconnect_BackoffPerRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, h := dialTestNet(t, nil)
		n.setDown(testNetAddrs...)
		last, number := time.Now(), 0
		h.Close()
		n.wantEvent(EventDisconnected)
		for round := range 20 {
			first := n.wantAttempt("a")
			second, third := n.wantAttempt("b"), n.wantAttempt("c")
			if maxWait := min(maxBackoff, minBackoff<<min(round, 16)); first.Sub(last) > maxWait || third != first || second != first {
				t.Errorf("round %d begins after %v, at most %v are allowed, and takes %v", round, first.Sub(last), maxWait, third.Sub(first))
			}
			last = third
			for _, addr := range testNetAddrs {
				number++
				n.wantFailed(number, addr, errRefused)
			}
		}
		synctest.Wait()
		n.setDown("a", "c")
		n.wantAttempt("a")
		n.wantAttempt("b")
		n.accept("b", otherHub())
		n.wantFailed(number+1, "a", errRefused)
		n.wantEvent(EventNewID)
	})
}

// TestReconnect_SilentHub: a hub that does not answer takes the limit of an attempt, which grows
// with the rounds.
func TestReconnect_SilentHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, h := dialTestNet(t, nil)
		n.setDown("b", "c")
		h.Close()
		n.wantEvent(EventDisconnected)
		for round, limit := range []time.Duration{3 * time.Second, 6 * time.Second, 10 * time.Second, 10 * time.Second} {
			begin := n.wantAttempt("a")
			h := <-n.hubs["a"]
			h.wantType(wire.TypeHello)
			h.wantType(wire.TypeIdentity)
			n.wantFailed(3*round+1, "a", context.DeadlineExceeded)
			if took := n.wantAttempt("b").Sub(begin); took != limit {
				t.Errorf("round %d: went on after %v, want %v", round, took, limit)
			}
			n.wantFailed(3*round+2, "b", errRefused)
			n.wantAttempt("c")
			n.wantFailed(3*round+3, "c", errRefused)
		}
	})
}

// TestGoAway_RedirectsToOtherAddress: after shutdown and busy, the client comes back last.
func TestGoAway_RedirectsToOtherAddress(t *testing.T) {
	for code, want := range map[wire.GoAwayCode][]string{
		wire.GoAwayShutdown:     {"b", "c", "a"},
		wire.GoAwayBusy:         {"b", "c", "a"},
		wire.GoAwayDisconnected: {"a", "b", "c"},
		"a code of the future":  {"a", "b", "c"},
	} {
		synctest.Test(t, func(t *testing.T) {
			n, h := dialTestNet(t, nil)
			n.setDown(testNetAddrs...)
			begin := time.Now()
			h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: code, Reconnect: true, After: 60_000}))
			h.Close()
			n.wantEvent(EventDisconnected)
			for range 2 { // rounds
				for i, addr := range want {
					at := n.wantAttempt(addr)
					if wait := at.Sub(begin); wait < time.Minute || wait > time.Minute+3*minBackoff {
						t.Errorf("%s: attempt %d after %v, want the delay of GOAWAY before it", code, i, wait)
					}
				}
			}
		})
	}
}

// TestGoAway_BusyDuringRound: the client tries the next address at once. The delay that the busy
// hub has asked for comes before the next round.
func TestGoAway_BusyDuringRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, h := dialTestNet(t, nil)
		n.setDown("b", "c")
		h.Close()
		n.wantEvent(EventDisconnected)
		begin := n.wantAttempt("a")
		n.reject("a", wire.GoAway{Code: wire.GoAwayBusy, Reconnect: true, After: 60_000})
		n.wantFailed(1, "a", ErrHubClosed)
		if wait := n.wantAttempt("b").Sub(begin); wait != 0 {
			t.Errorf("tried the next address after %v", wait)
		}
		n.wantAttempt("c")
		if wait := n.wantAttempt("a").Sub(begin); wait < time.Minute || wait > time.Minute+2*minBackoff {
			t.Errorf("the next round began after %v", wait)
		}
		n.accept("a", resumedWelcome(func(*wire.Welcome) {}))
		n.wantFailed(2, "b", errRefused)
		n.wantFailed(3, "c", errRefused)
		n.wantEvent(EventResumed)
	})
}

// TestReconnect_RejectedByAll: one address that rejects the client does not end it, but all do.
func TestReconnect_RejectedByAll(t *testing.T) {
	refused := wire.GoAway{Code: wire.GoAwayRefused, Reason: "no token"}
	synctest.Test(t, func(t *testing.T) {
		n, h := dialTestNet(t, nil)
		n.setDown("c")
		h.Close()
		n.wantEvent(EventDisconnected)
		n.reject("a", refused)
		n.reject("b", wire.GoAway{Code: wire.GoAwayVersion})
		n.wantFailed(1, "a", ErrHubClosed)
		n.wantFailed(2, "b", ErrHubClosed)
		n.wantFailed(3, "c", errRefused) // which is no rejection
		synctest.Wait()
		n.setDown()
		n.reject("a", refused)
		n.reject("b", refused)
		h = <-n.hubs["c"]
		h.wantType(wire.TypeHello)
		h.wantType(wire.TypeIdentity)
		h.send([]byte("HTTP/1.1 400 Bad Request\r\n"))
		<-n.client.Done()
		var at *AddressError
		if err := n.client.Err(); !errors.Is(err, ErrProtocol) || !errors.As(err, &at) || at.Addr != "c" {
			t.Errorf("the end is %v", err)
		}
	})
}

// TestReconnect_ConnectedHubEndsClient: other addresses do not help after taken_over.
func TestReconnect_ConnectedHubEndsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, h := dialTestNet(t, nil)
		h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayTakenOver}))
		h.Close()
		<-n.client.Done()
		var away *GoAwayError
		if err := n.client.Err(); !errors.As(err, &away) || away.Code != wire.GoAwayTakenOver {
			t.Errorf("the end is %v", err)
		}
	})
}

// TestReconnect_NoTokenEndsRound: without a token, the client does not knock at every hub.
func TestReconnect_NoTokenEndsRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, noToken := 0, errors.New("no token")
		n, h := dialTestNet(t, func(o *Options) {
			o.GetToken = func(context.Context) (string, error) {
				if calls++; calls > 1 && calls < 4 {
					return "", noToken
				}
				return "", nil
			}
		})
		h.Close()
		n.wantEvent(EventDisconnected)
		for range 2 {
			n.wantAttempt("a")
			<-n.hubs["a"]
			if e := n.wantEvent(EventReconnectFailed); !errors.Is(e.Err, noToken) {
				t.Errorf("the attempt failed with %v", e.Err)
			}
		}
		n.wantAttempt("a")
		n.accept("a", resumedWelcome(func(*wire.Welcome) {}))
		n.wantEvent(EventResumed)
	})
}

// TestDial_AllAddressesFail: the error names each address with its cause.
func TestDial_AllAddressesFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t, "b")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		begin := time.Now()
		made := n.dial(ctx, Options{})
		n.reject("a", wire.GoAway{Code: wire.GoAwayRefused, Reason: "bad token"})
		h := <-n.hubs["c"]
		h.wantType(wire.TypeHello) // and no answer
		h.wantType(wire.TypeIdentity)
		h.wantBytes(wire.AppendBye(nil))
		err := <-made
		const want = "client: no connection: a: handshake with pipe: hub sent GOAWAY (refused): bad token; b: dial: connection refused; c: handshake with pipe: context deadline exceeded"
		if err == nil || err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
		var failed *DialError
		var away *GoAwayError
		if !errors.As(err, &failed) || len(failed.Attempts) != 3 || !errors.As(err, &away) || !errors.Is(err, errRefused) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%#v does not wrap the errors", err)
		}
		if took := time.Since(begin); took != maxDialTimeout {
			t.Errorf("took %v, want %v", took, maxDialTimeout)
		}
	})
}

// TestDial_EndsEarly: other addresses do not help without time or without a token.
func TestDial_EndsEarly(t *testing.T) {
	noToken := errors.New("no such file")
	for name, test := range map[string]struct {
		options Options
		want    string
	}{
		"no token": {Options{GetToken: func(context.Context) (string, error) { return "", noToken }}, "client: no connection: a: get token: no such file"},
		"no time":  {Options{}, "client: no connection: a: handshake with pipe: context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newTestNet(t)
				ctx, cancel := context.WithCancel(t.Context())
				made := n.dial(ctx, test.options)
				h := <-n.hubs["a"]
				if test.options.GetToken == nil {
					h.wantType(wire.TypeHello)
					h.wantType(wire.TypeIdentity)
				}
				cancel()
				if err := <-made; err == nil || err.Error() != test.want {
					t.Errorf("error %v, want %s", err, test.want)
				}
				if len(n.hubs["b"]) > 0 {
					t.Error("the client dials b")
				}
			})
		})
	}
}

// TestDial_BlockedCallbackEndsAttempts: a second attempt could call OnMessage concurrently.
func TestDial_BlockedCallbackEndsAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newTestNet(t)
		release := make(chan struct{})
		made := n.dial(t.Context(), Options{OnMessage: func(Message) { <-release }})
		h := <-n.hubs["a"]
		h.wantType(wire.TypeHello)
		h.wantType(wire.TypeIdentity)
		h.send(deliveryFrame("before the id"))
		if err := <-made; !errors.Is(err, ErrCallbackBlocked) || strings.Contains(err.Error(), "b: ") {
			t.Errorf("error %v, want one of a alone", err)
		}
		close(release)
	})
}
