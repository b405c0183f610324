package hub_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// renew sends RENEW and reads the RENEWED.
func (c *clientV2) renew(token string) wire.Renewed {
	c.t.Helper()
	c.send(wire.AppendRenew(nil, &wire.Renew{Token: token}))
	return c.expectRenewed()
}

// expectRenewed reads a RENEWED.
func (c *clientV2) expectRenewed() wire.Renewed {
	c.t.Helper()
	kind, payload := c.nextFrame()
	r, err := wire.ParseRenewed(payload)
	if kind != wire.TypeRenewed || err != nil {
		c.t.Fatalf("a frame of type %#x: %q, want RENEWED: %v", kind, payload, err)
	}
	return r
}

// expectRenewRefused sends RENEW and reads an ERROR with this code.
func (c *clientV2) expectRenewRefused(token string, code wire.ErrorCode) {
	c.t.Helper()
	c.send(wire.AppendRenew(nil, &wire.Renew{Token: token}))
	c.expectError(code)
}

// expectError reads an ERROR with this code that is not about a SEND.
func (c *clientV2) expectError(code wire.ErrorCode) {
	c.t.Helper()
	kind, payload := c.nextFrame()
	if e, err := wire.ParseError(payload); kind != wire.TypeError || err != nil || e.Code != code || e.Seq != 0 {
		c.t.Fatalf("a frame of type %#x: %q, want ERROR %d: %v", kind, payload, code, err)
	}
}

// TestRenew_ThreeTokens_KeepConnection renews the token of a client three times before it expires.
// No message is lost, the connection stays, and it ends with the last token.
func TestRenew_ThreeTokens_KeepConnection(t *testing.T) {
	for name, id := range map[string]string{"with an id of the hub": "", "with an id of its own": "7"} {
		t.Run(name, func(t *testing.T) {
			withExpiringTokens(t, testTimeout, func(t *testing.T, h *testHub) {
				alice, bob := h.connectToken(t, "alice 10s "+id), h.connectToken(t, "bob 1h")
				if !alice.Renew {
					t.Error("WELCOME does not announce RENEW")
				}
				for round := range 3 {
					<-time.After(8 * time.Second)
					seq := bob.sendMessage([]byte("to alice"), levelOptions(wire.LevelReceived), 0, alice.ID)
					if r := alice.renewBehindDeliver(bob.ID, seq, "alice 10s "+id); r != (wire.Renewed{Expires: 10_000, MaxBody: wire.DefaultMaxBody}) {
						t.Fatalf("round %d: %+v", round, r)
					}
					bob.expectReport(seq, wire.FateReceived)
					seq = alice.sendMessage([]byte("to bob"), levelOptions(wire.LevelReceived), 0, bob.ID)
					bob.expectDeliver(alice.ID, seq, []byte("to bob"))
					alice.expectReport(seq, wire.FateReceived)
				}
				begin := time.Now()
				alice.expectGoAway(wire.GoAwayExpired)
				if after := time.Since(begin); after != 10*time.Second {
					t.Errorf("the last token expired after %v", after)
				}
				stats := h.Stats()
				if stats.Renewed != 3 || stats.Connected != 2 || stats.Resumed != 0 {
					t.Errorf("%d renewed, %d connected, %d resumed", stats.Renewed, stats.Connected, stats.Resumed)
				}
			})
		})
	}
}

// renewBehindDeliver reads a DELIVER, and renews the token.
func (c *clientV2) renewBehindDeliver(sender, seq uint64, token string) wire.Renewed {
	c.t.Helper()
	c.expectDeliver(sender, seq, []byte("to alice"))
	return c.renew(token)
}

// TestRenew_NewPermissions_HoldFromRenewOn sends messages before and behind RENEW in one piece. The
// permissions of the new token hold for those behind it only.
func TestRenew_NewPermissions_HoldFromRenewOn(t *testing.T) {
	withExpiringTokens(t, testTimeout, func(t *testing.T, h *testHub) {
		alice, bob := h.connectToken(t, "alice 1h 7"), h.connectToken(t, "bob 1h 8")
		options := levelOptions(wire.LevelReceived)
		body, large := []byte("x"), make([]byte, 11)
		frames := wire.AppendSend(nil, 1, options, 0, []uint64{bob.ID}, large)
		frames = wire.AppendRenew(frames, &wire.Renew{Token: "limited 2h 7"})
		frames = wire.AppendSend(frames, 2, options, 0, []uint64{bob.ID}, body)
		alice.send(wire.AppendSend(frames, 3, options, 0, []uint64{7}, large))
		bob.expectDeliver(alice.ID, 1, large)
		reports := make(map[uint64]wire.Fate)
		for range 4 { // the REPORT of the first message comes at any time
			switch kind, payload := alice.nextFrame(); kind {
			case wire.TypeReport:
				r, _ := wire.ParseReport(payload)
				reports[r.Seq] = wire.Fate(r.Fates[0])
			case wire.TypeRenewed:
				if r, err := wire.ParseRenewed(payload); err != nil || r != (wire.Renewed{Expires: (2 * time.Hour).Milliseconds(), MaxBody: 10}) {
					t.Errorf("%+v, %v", r, err)
				}
			case wire.TypeError:
				if e, err := wire.ParseError(payload); err != nil || e.Seq != 3 || e.Code != wire.ErrorBody {
					t.Errorf("%+v: %s", e, e.Text)
				}
			default:
				t.Errorf("a frame of type %#x", kind)
			}
		}
		if reports[1] != wire.FateReceived || reports[2] != wire.FateRefused {
			t.Errorf("fates %v", reports)
		}
		alice.seq = 3
		if ids := alice.requestPage(0, 0); len(ids) != 0 {
			t.Errorf("listed: %v", ids)
		}
		<-time.After(time.Second)
		alice.renew("alice 1h 7")
		seq := alice.sendMessage(large, options, 0, bob.ID)
		bob.expectDeliver(alice.ID, seq, large)
		alice.expectReport(seq, wire.FateReceived)
	})
}

// TestRenew_WithoutWatch_EndsWatch renews a watching client by a token that forbids to watch.
func TestRenew_WithoutWatch_EndsWatch(t *testing.T) {
	inVirtualTimeWith(t, hub.Config{Authenticate: tokenAuthenticator(map[string]*hub.Permissions{
		"watch": {Subject: "a"}, "blind": {Subject: "a", NoWatch: true}, "other": {},
	})}, func(t *testing.T, h *testHub) {
		watcher := h.connectToken(t, "watch")
		watcher.send(wire.AppendWatch(nil, wire.Watch{On: true}))
		if kind, _ := watcher.nextFrame(); kind != wire.TypePresence {
			t.Fatalf("a frame of type %#x, want PRESENCE", kind)
		}
		if r := watcher.renew("blind"); r.Expires != 0 {
			t.Errorf("%+v", r)
		}
		watcher.expectError(wire.ErrorRefused)
		h.connectToken(t, "other")
		<-time.After(time.Second)
		watcher.fenceV2()
		watcher.renew("blind")
		watcher.fenceV2() // no ERROR: there was no watch
		watcher.send(wire.AppendWatch(nil, wire.Watch{On: true}))
		watcher.expectError(wire.ErrorRefused)
	})
}

// TestRenew_Refused_KeepsPermissions presents tokens that are not valid for the connection. Each
// gets an ERROR, and the connection ends when its first token expires.
func TestRenew_Refused_KeepsPermissions(t *testing.T) {
	withExpiringTokens(t, testTimeout, func(t *testing.T, h *testHub) {
		alice, bob := h.connectToken(t, "alice 10s 7"), h.connectToken(t, "bob 1h 8")
		for _, test := range []struct {
			token string
			code  wire.ErrorCode
		}{
			{"nothing", wire.ErrorTokenRefused},
			{"mallory 1h 7", wire.ErrorTokenRefused},
			{"alice 1h 9", wire.ErrorTokenRefused},
			{"alice 1h", wire.ErrorTokenRefused},
			{"alice 0s 7", wire.ErrorTokenExpired},
		} {
			alice.expectRenewRefused(test.token, test.code)
			seq := alice.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, bob.ID)
			bob.expectDeliver(7, seq, []byte("x"))
			alice.expectReport(seq, wire.FateReceived)
			<-time.After(time.Second)
		}
		begin := time.Now()
		if away := alice.expectGoAway(wire.GoAwayExpired); !away.Reconnect || time.Since(begin) != 5*time.Second {
			t.Errorf("%+v after %v", away, time.Since(begin))
		}
		if back := h.resumeToken(t, alice, "alice 1h 7"); !back.Resumed {
			t.Errorf("%+v", back.Welcome)
		}
		if stats := h.Stats(); stats.Renewed != 0 || stats.Errors[wire.ErrorTokenRefused] != 4 || stats.Errors[wire.ErrorTokenExpired] != 1 {
			t.Errorf("%d renewed, errors %v", stats.Renewed, stats.Errors)
		}
	})
}

// TestRenew_AlreadyExpired_IsRefused has Authenticate return permissions whose time is over. A
// connection of version 2 without expiry stays.
func TestRenew_AlreadyExpired_IsRefused(t *testing.T) {
	inVirtualTimeWith(t, hub.Config{Authenticate: func(req hub.AuthRequest) (*hub.Permissions, error) {
		if req.Renewal {
			return &hub.Permissions{Expires: time.Now()}, nil
		}
		return &hub.Permissions{}, nil
	}}, func(t *testing.T, h *testHub) {
		c := h.connectToken(t, "x")
		c.expectRenewRefused("y", wire.ErrorTokenExpired)
		<-time.After(time.Second)
		c.fenceV2()
	})
}

// TestRenew_Loop_CallsAuthenticateOnceASecond floods the hub with RENEWs.
func TestRenew_Loop_CallsAuthenticateOnceASecond(t *testing.T) {
	var calls atomic.Int64
	inVirtualTimeWith(t, hub.Config{Authenticate: func(req hub.AuthRequest) (*hub.Permissions, error) {
		if req.Renewal {
			calls.Add(1)
		}
		return &hub.Permissions{Subject: "a"}, nil
	}}, func(t *testing.T, h *testHub) {
		calls.Store(0)
		c := h.connectToken(t, "x")
		const rounds, flood = 3, 20
		for range rounds {
			c.send(bytes.Repeat(wire.AppendRenew(nil, &wire.Renew{Token: "y"}), 1+flood))
			c.expectRenewed()
			for range flood {
				c.expectError(wire.ErrorRenewLater)
			}
			<-time.After(time.Second - 1)
			c.expectRenewRefused("y", wire.ErrorRenewLater)
			<-time.After(1)
		}
		if n := calls.Load(); n != rounds {
			t.Errorf("Authenticate was called %d times, want %d", n, rounds)
		}
	})
}

// blockingAuthenticator blocks renewals until unblock is closed.
type blockingAuthenticator struct {
	unblock chan struct{}
	asked   atomic.Int64 // renewals
}

func (a *blockingAuthenticator) authenticate(req hub.AuthRequest) (*hub.Permissions, error) {
	if req.Renewal {
		a.asked.Add(1)
		<-a.unblock
	}
	return &hub.Permissions{Subject: req.Token}, nil
}

// withBlockingAuthenticator runs f with a hub whose renewals block, in virtual time.
func withBlockingAuthenticator(t *testing.T, f func(t *testing.T, h *testHub, a *blockingAuthenticator)) {
	t.Helper()
	onMemoryTransports(t, func(t *testing.T, start startFunc) {
		a := &blockingAuthenticator{unblock: make(chan struct{})}
		f(t, start(t, hub.Config{Authenticate: a.authenticate}), a)
	})
}

// TestRenew_BlockedAuthenticate_StopsOnlyTheClient has Authenticate block for longer than the hub
// waits. What the client has sent before is delivered, and what others send to it. One call is
// under way at a time.
func TestRenew_BlockedAuthenticate_StopsOnlyTheClient(t *testing.T) {
	withBlockingAuthenticator(t, func(t *testing.T, h *testHub, a *blockingAuthenticator) {
		alice, bob := h.connectToken(t, "alice"), h.connectToken(t, "bob")
		renew := wire.AppendRenew(nil, &wire.Renew{Token: "alice"})
		alice.send(append(wire.AppendSend(nil, 1, 0, 0, []uint64{bob.ID}, []byte("before")), renew...))
		alice.seq = 1
		begin := time.Now()
		bob.expectDeliver(alice.ID, 1, []byte("before"))
		alice.expectDeliver(bob.ID, bob.sendMessage([]byte("meanwhile"), 0, 0, alice.ID), []byte("meanwhile"))
		if took := time.Since(begin); took > 0 {
			t.Errorf("deliveries took %v", took)
		}
		alice.expectError(wire.ErrorRenewLater)
		if took := time.Since(begin); took != 5*time.Second { // half of the stall timeout
			t.Errorf("the hub waited for %v", took)
		}
		alice.expectRenewRefused("alice", wire.ErrorRenewLater)
		bob.expectDeliver(alice.ID, alice.sendMessage([]byte("after"), 0, 0, bob.ID), []byte("after"))
		if n := a.asked.Load(); n != 1 {
			t.Errorf("Authenticate was called %d times", n)
		}
		close(a.unblock)
		<-time.After(time.Second)
		alice.renew("alice")
	})
}

// TestRenew_BlockedAuthenticate_ConnEnds ends a connection while Authenticate blocks: nothing waits
// for Authenticate, except Shutdown, and the hub to notice that the client has left.
func TestRenew_BlockedAuthenticate_ConnEnds(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, h *testHub, c *clientV2){
		"by a takeover": func(t *testing.T, h *testHub, c *clientV2) {
			if back := h.resumeToken(t, c, "alice"); !back.Resumed {
				t.Errorf("%+v", back.Welcome)
			}
			c.expectGoAway(wire.GoAwayTakenOver)
		},
		"by the operator": func(_ *testing.T, h *testHub, c *clientV2) {
			h.Disconnect(c.ID, false)
			c.expectGoAway(wire.GoAwayDisconnected)
		},
		"by the client": func(t *testing.T, h *testHub, c *clientV2) {
			c.reset()
			eventually(t, "detached", func() bool { return h.clientInfo(t, c.ID).Detached })
		},
		"by the hub": func(t *testing.T, h *testHub, c *clientV2) {
			if _, err := h.shutdownTimed(t, testTimeout); err != nil {
				t.Error(err)
			}
			c.expectGoAway(wire.GoAwayShutdown)
		},
	} {
		t.Run(name, func(t *testing.T) {
			withBlockingAuthenticator(t, func(t *testing.T, h *testHub, a *blockingAuthenticator) {
				c := h.connectToken(t, "alice")
				c.send(wire.AppendRenew(nil, &wire.Renew{Token: "alice"}))
				eventually(t, "Authenticate is called", func() bool { return a.asked.Load() == 1 })
				begin := time.Now()
				release := time.AfterFunc(4*time.Second, func() { close(a.unblock) })
				end(t, h, c)
				isAtOnce := name == "by a takeover" || name == "by the operator"
				if took := time.Since(begin); took > testTimeout || isAtOnce && took > time.Second/10 {
					t.Errorf("the end took %v", took)
				}
				if release.Stop() {
					close(a.unblock)
				}
			})
		})
	}
}

// TestRenew_BlockedAuthenticate_KeepsSlot ends a connection while Authenticate blocks: until it
// returns, the connection counts against the maximum of clients.
func TestRenew_BlockedAuthenticate_KeepsSlot(t *testing.T) {
	withBlockingAuthenticator(t, func(t *testing.T, h *testHub, a *blockingAuthenticator) {
		h.connectToken(t, "bob")
		alice := h.connectToken(t, "alice")
		if err := h.SetMaxClients(2); err != nil {
			t.Fatal(err)
		}
		alice.send(wire.AppendRenew(nil, &wire.Renew{Token: "alice"}))
		eventually(t, "Authenticate is called", func() bool { return a.asked.Load() == 1 })
		h.Disconnect(alice.ID, false)
		alice.expectGoAway(wire.GoAwayDisconnected)
		<-time.After(time.Second)
		h.expectBusy(t, hub.RejectFull, wire.Hello{Version: wire.Version2, Token: "carol"})
		close(a.unblock)
		<-time.After(time.Second)
		h.connectToken(t, "carol")
	})
}

// TestRenew_OtherRates_Apply renews a client without a rate by a token with a low rate. What it has
// sent before is not charged, and it is slowed down from then on.
func TestRenew_OtherRates_Apply(t *testing.T) {
	inVirtualTimeWith(t, hub.Config{Authenticate: tokenAuthenticator(map[string]*hub.Permissions{
		"fast": {Subject: "a"}, "slow": {Subject: "a", MessageRate: 10}, "slower": {Subject: "a", MessageRate: 5},
	})}, func(t *testing.T, h *testHub) {
		c := h.connectToken(t, "fast")
		count := func(n int) time.Duration {
			begin := time.Now()
			c.send(bytes.Repeat(wire.AppendPing(nil, 1), n))
			for range n {
				if kind, _ := c.nextFrame(); kind != wire.TypePong {
					t.Fatalf("a frame of type %#x, want PONG", kind)
				}
			}
			return time.Since(begin)
		}
		if took := count(1000); took > 0 {
			t.Errorf("without a rate: %v", took)
		}
		for _, test := range []struct {
			token    string
			min, max time.Duration // of 40 messages, of which the burst is free
		}{{"slow", 2900 * time.Millisecond, 3200 * time.Millisecond}, {"slower", 6800 * time.Millisecond, 7200 * time.Millisecond}, {"fast", 0, 0}} {
			<-time.After(time.Minute / 3)
			c.renew(test.token)
			if took := count(40); took < test.min || took > test.max {
				t.Errorf("%s: 40 messages took %v, want from %v to %v", test.token, took, test.min, test.max)
			}
		}
	})
}

// TestRenew_UsedUpWindow_IsAnswered renews the token of a client to which nothing else is written,
// because it does not acknowledge.
func TestRenew_UsedUpWindow_IsAnswered(t *testing.T) {
	inVirtualTimeWith(t, hub.Config{Window: 4 << 10, Authenticate: authenticateExpiring}, func(t *testing.T, h *testHub) {
		alice, bob := h.connectToken(t, "alice 1h"), h.connectToken(t, "bob 1h")
		alice.withholdsAcks = true
		body := make([]byte, 4<<10)
		alice.expectDeliver(bob.ID, bob.sendMessage(body, 0, 0, alice.ID), body)
		seq := bob.sendMessage(body, 0, 0, alice.ID)
		bob.awaitPong()
		alice.renew("alice 1h")
		alice.send(wire.AppendAck(nil, alice.received))
		alice.expectDeliver(bob.ID, seq, body)
	})
}

// TestRenew_NotPossible_IsRefused sends RENEW to a hub that does not authenticate, and frames that
// the hub does not take.
func TestRenew_NotPossible_IsRefused(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		c := h.connectV2(t)
		if c.Renew {
			t.Error("WELCOME announces RENEW")
		}
		c.expectRenewRefused("x", wire.ErrorTokenRefused)
		c.send(wire.AppendRenewed(nil, &wire.Renewed{MaxBody: 1}))
		c.expectError(wire.ErrorFrame)
		for _, payload := range []string{"", "{}", `{"token":7}`, `{"token":"` + strings.Repeat("x", wire.MaxHelloLen) + `"}`} {
			malformed := h.connectV2(t)
			malformed.send(makeFrame(wire.TypeRenew, payload))
			malformed.expectGoAway(wire.GoAwayProtocol)
		}
		c.fenceV2()
	})
}

// TestRenew_LongToken_FitsSmallBodies renews by the longest token on a hub whose bodies are small.
func TestRenew_LongToken_FitsSmallBodies(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		longest := strings.Repeat("x", wire.MaxHelloLen-len(`{"token":""}`))
		h := tr.start(t, hub.Config{MaxBody: 1, Authenticate: func(req hub.AuthRequest) (*hub.Permissions, error) {
			if req.Renewal != (req.Token == longest) || req.Version != wire.Version2 || req.Address == nil {
				return nil, fmt.Errorf("%w: %+.100v", errors.ErrUnsupported, req)
			}
			return &hub.Permissions{}, nil
		}})
		c := h.connectV2(t)
		if r := c.renew(longest); r != (wire.Renewed{MaxBody: 1}) {
			t.Errorf("%+v", r)
		}
		c.send(wire.AppendRelay(nil, []uint64{c.ID}, make([]byte, 2)))
		if tr.web { // where the hub says why
			c.expectGoAway(wire.GoAwayProtocol)
			return
		}
		c.expectEOF() // the limit of bodies has not grown
	})
}
