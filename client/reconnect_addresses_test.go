package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

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
