package hub_test

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestPermissions_LimitSendListWatchAndBody checks every limit of Permissions except rates
// and Expires.
func TestPermissions_LimitSendListWatchAndBody(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{Authenticate: tokenAuthenticator(map[string]*hub.Permissions{
			"alice": {Subject: "alice", ID: 7, NoList: true, NoWatch: true, MaxBody: 10, CanSend: func(id uint64) bool { return id == 8 }},
			"bob":   {Subject: "bob", ID: 8},
			"guest": {Subject: "guest"},
		})})
		alice, bob, guest := h.connectToken(t, "alice"), h.connectToken(t, "bob"), h.connectToken(t, "guest")
		if alice.ID != 7 || bob.ID != 8 || guest.ID <= hub.MaxGrantedID {
			t.Errorf("ids are %d, %d and %d", alice.ID, bob.ID, guest.ID)
		}
		if c, _ := h.Client(7); c.Subject != "alice" {
			t.Errorf("alice has subject %q", c.Subject)
		}
		if alice.MaxBody != 10 || bob.MaxBody != wire.DefaultMaxBody {
			t.Errorf("max_body is %d and %d", alice.MaxBody, bob.MaxBody)
		}
		seq := alice.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, bob.ID, guest.ID, 12345, bob.ID)
		bob.expectDeliver(7, seq, []byte("x"))
		bob.expectDeliver(7, seq, []byte("x"))
		alice.expectReport(seq, wire.FateReceived, wire.FateRefused, wire.FateRefused, wire.FateReceived)
		alice.send(wire.AppendRelay(nil, []uint64{guest.ID, bob.ID}, []byte("y"))) // a version 1 frame
		bob.expectDeliver(7, 0, []byte("y"))
		alice.sendMessage(make([]byte, 11), 0, 0, bob.ID)
		if kind, payload := alice.nextFrame(); kind != wire.TypeError || !strings.Contains(string(payload), "limit of 10") {
			t.Errorf("body too large: got frame type %#x, %s", kind, payload)
		}
		if ids := alice.requestPage(0, 0); len(ids) != 0 {
			t.Errorf("alice lists %v", ids)
		}
		if ids := bob.requestPage(0, 0); !slices.Equal(ids, []uint64{7, 8, guest.ID}) {
			t.Errorf("bob lists %v", ids)
		}
		alice.send(wire.AppendListRequest(nil))
		if kind, payload := alice.nextFrame(); kind != wire.TypeList || len(payload) != 0 {
			t.Errorf("version 1 list: got frame type %#x, % x", kind, payload)
		}
		alice.send(wire.AppendWatch(nil, wire.Watch{On: true}))
		kind, payload := alice.nextFrame()
		if e, err := wire.ParseError(payload); kind != wire.TypeError || err != nil || e.Code != wire.ErrorRefused {
			t.Errorf("watch: got frame type %#x, %+v, %v", kind, e, err)
		}
		stats := h.Stats()
		if stats.Dropped[hub.DropForbidden] != 3 || stats.Fates[wire.FateRefused] != 2 || stats.Dropped[hub.DropUnknown] != 0 {
			t.Errorf("%d forbidden, fates %v, %d unknown", stats.Dropped[hub.DropForbidden], stats.Fates, stats.Dropped[hub.DropUnknown])
		}
	})
}

// TestAuthenticate_Refused_IsToldAndNotListed checks that rejected clients are told so,
// counted, and never listed.
func TestAuthenticate_Refused_IsToldAndNotListed(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{HandshakeTimeout: 200 * time.Millisecond, Authenticate: tokenAuthenticator(map[string]*hub.Permissions{
			"alice": {Subject: "alice"}, "greedy": {Subject: "greedy", ID: hub.MaxGrantedID + 1}, "nothing": nil,
		})})
		alice := h.connectToken(t, "alice")
		silent := h.connect(t)
		for _, token := range []string{"", "mallory", "greedy", "nothing"} {
			c := &clientV2{clientV1: h.connect(t)}
			c.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: token}))
			if away := c.expectGoAway(wire.GoAwayRefused); away.Reconnect {
				t.Errorf("%q is told to reconnect", token)
			}
		}
		v1 := h.connect(t)
		v1.send(wire.AppendIdentityRequest(nil))
		v1.expectEOF()
		large := h.connect(t)
		// longer than a HELLO can be
		large.send(wire.AppendRelay(nil, []uint64{alice.ID}, make([]byte, 100_000))[:20_000])
		large.expectEOF()
		_, _ = io.Copy(io.Discard, silent) // until the hub closes it
		h.waitDisconnected(t, hub.CloseRefused, 5)
		h.waitDisconnected(t, hub.CloseTooLong, 1)
		h.waitDisconnected(t, hub.CloseHandshake, 1)
		if ids := alice.requestPage(0, 0); !slices.Equal(ids, []uint64{alice.ID}) {
			t.Errorf("listed: %v", ids)
		}
		alice.expectDeliver(alice.ID, alice.sendMessage([]byte("x"), 0, 0, alice.ID), []byte("x"))
	})
}

// TestLimitedLog_UnauthenticatedConns_LogFewLines sends malformed first frames on many
// connections: each connection is counted, and few are logged.
func TestLimitedLog_UnauthenticatedConns_LogFewLines(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		log := &logBuffer{}
		h := tr.start(t, hub.Config{DisableV1: true, Logger: log.logger()})
		const strangers = 50
		for range strangers {
			c := h.connect(t)
			c.send([]byte{255, 255, 255, 255})
			c.expectEOF()
		}
		h.waitDisconnected(t, hub.CloseTooLong, strangers)
		log.waitFor(t, `"reason":"frame too long"`)
		log.mu.Lock()
		defer log.mu.Unlock()
		if lines := bytes.Count(log.lines.Bytes(), []byte("\n")); lines > strangers/2 {
			t.Errorf("%d lines for %d connections:\n%s", lines, strangers, &log.lines)
		}
	})
}

// TestAuthenticate_ExpiredToken_GetsGoAway checks that a client is told to reconnect when its
// token expires, and when it connects with an expired token.
func TestAuthenticate_ExpiredToken_GetsGoAway(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{ResumeWindow: time.Millisecond, Authenticate: func(req hub.AuthRequest) (*hub.Permissions, error) {
			if req.Token == "old" {
				return nil, fmt.Errorf("%w: since yesterday", hub.ErrExpired)
			}
			return &hub.Permissions{Subject: "alice", ID: 5, Expires: time.Now().Add(100 * time.Millisecond)}, nil
		}})
		short := h.connectToken(t, "short")
		if away := short.expectGoAway(wire.GoAwayExpired); !away.Reconnect {
			t.Error("GOAWAY does not tell the client to reconnect")
		}
		h.waitDisconnected(t, hub.CloseExpired, 1)
		expired := &clientV2{clientV1: h.connect(t)}
		expired.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: "old"}))
		if away := expired.expectGoAway(wire.GoAwayExpired); !away.Reconnect || !strings.Contains(away.Reason, "since yesterday") {
			t.Errorf("HELLO with the expired token: got GOAWAY %+v", away)
		}
		h.waitDisconnected(t, hub.CloseRefused, 1)
	})
}

// wallClock is a clock that can be set while timers go on, as after a sleep of the machine or
// when the time was wrong. In virtual time, times have no monotonic clock reading.
type wallClock struct{ offset atomic.Int64 }

func (c *wallClock) now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

// TestPermissions_Expires_FollowsWallClock checks that permissions expire by the wall clock:
// within maxDelay when the clock has jumped beyond Expires, and not before Expires when it
// was set back.
func TestPermissions_Expires_FollowsWallClock(t *testing.T) {
	const maxDelay = 30 * time.Second // as Permissions.Expires promises
	for name, test := range map[string]struct {
		jump     time.Duration
		min, max time.Duration
	}{
		"a clock that goes":              {0, time.Hour, time.Hour},
		"after a sleep of a day":         {24 * time.Hour, 0, maxDelay},
		"after a sleep of half the time": {30 * time.Minute, 30 * time.Minute, 30*time.Minute + maxDelay},
		"a clock that is set back":       {-time.Hour, 2 * time.Hour, 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			onMemoryTransports(t, func(t *testing.T, start startFunc) {
				clock := new(wallClock)
				h := start(t, hub.WithClock(hub.Config{Authenticate: func(hub.AuthRequest) (*hub.Permissions, error) {
					// on both clocks
					return &hub.Permissions{Subject: "alice", Expires: time.Now().Add(time.Hour)}, nil
				}}, clock.now))
				alice := h.connectHello(t, wire.Hello{Version: wire.Version2})
				begin := time.Now()
				clock.offset.Store(int64(test.jump))
				for kind, _ := alice.mustReadFrame(); kind != wire.TypeGoAway; kind, _ = alice.mustReadFrame() {
					go alice.Write(wire.AppendPong(nil, 0)) // fails once the hub has closed the connection
				}
				if after := time.Since(begin); after < test.min || after > test.max {
					t.Errorf("permissions expired after %v, want from %v to %v", after, test.min, test.max)
				}
				_, _ = io.Copy(io.Discard, alice) // until the hub closes it
			})
		})
	}
}

// authenticateExpiring accepts tokens of the form "subject lifetime [id]", and grants just
// that.
func authenticateExpiring(req hub.AuthRequest) (*hub.Permissions, error) {
	var g hub.Permissions
	var lifetime string
	if n, _ := fmt.Sscan(req.Token, &g.Subject, &lifetime, &g.ID); n < 2 {
		return nil, fmt.Errorf("%q is not a token", req.Token)
	}
	d, err := time.ParseDuration(lifetime)
	switch {
	case err != nil:
		return nil, err
	case d <= 0:
		return nil, fmt.Errorf("%w: since yesterday", hub.ErrExpired)
	}
	g.Expires = time.Now().Add(d)
	if g.Subject == "limited" {
		g.Subject, g.CanSend = "alice", func(id uint64) bool { return id == g.ID }
		g.NoList, g.MaxBody = true, 10
	}
	return &g, nil
}

// resumeToken sends HELLO for the session of prev, with a token.
func (h *testHub) resumeToken(t *testing.T, prev *clientV2, token string) *clientV2 {
	t.Helper()
	return h.connectHello(t, wire.Hello{Version: wire.Version2, Token: token, ID: prev.ID, Resume: prev.Resume, Received: prev.received})
}

// expectResumeRefused is resumeToken for a token that the hub rejects with code.
func (h *testHub) expectResumeRefused(t *testing.T, prev *clientV2, token string, code wire.GoAwayCode) {
	t.Helper()
	c := &clientV2{clientV1: h.connect(t)}
	c.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: token, ID: prev.ID, Resume: prev.Resume, Received: prev.received}))
	c.expectGoAway(code)
}

// withExpiringTokens runs f with a hub that authenticates by authenticateExpiring, in virtual
// time.
func withExpiringTokens(t *testing.T, window time.Duration, f func(t *testing.T, h *testHub)) {
	t.Helper()
	inVirtualTimeWith(t, hub.Config{Authenticate: authenticateExpiring, ResumeWindow: window}, f)
}

// TestExpiry_NewToken_ResumesSession resumes with a new token of the same subject: messages
// and reports of the meantime arrive, and no fate is uncertain.
func TestExpiry_NewToken_ResumesSession(t *testing.T) {
	for name, id := range map[string]string{"with an id of the hub": "", "with an id of its own": "7"} {
		t.Run(name, func(t *testing.T) {
			withExpiringTokens(t, testTimeout, func(t *testing.T, h *testHub) {
				alice, bob := h.connectToken(t, "alice 300ms "+id), h.connectToken(t, "bob 1h")
				if alice.Expires != 300 {
					t.Errorf("WELCOME has expires_ms %d, want 300", alice.Expires)
				}
				alice.withholdsAcks = true
				before := bob.sendMessage([]byte("before"), levelOptions(wire.LevelReceived), 0, alice.ID)
				alice.expectDeliver(bob.ID, before, []byte("before")) // and does not acknowledge it
				sent := alice.sendMessage([]byte("from alice"), levelOptions(wire.LevelReceived), 0, bob.ID)
				bob.withholdsAcks = true
				bob.expectDeliver(alice.ID, sent, []byte("from alice"))
				if away := alice.expectGoAway(wire.GoAwayExpired); !away.Reconnect {
					t.Error("GOAWAY does not tell the client to reconnect")
				}
				eventually(t, "detached", func() bool { c, ok := h.Client(alice.ID); return ok && c.Detached })
				bob.send(wire.AppendAck(nil, bob.received)) // before the next message
				between := bob.sendMessage([]byte("between"), levelOptions(wire.LevelReceived), 0, alice.ID)

				h.expectResumeRefused(t, alice, "alice 0s "+id, wire.GoAwayExpired)
				h.expectResumeRefused(t, alice, "", wire.GoAwayRefused)
				for _, token := range []string{"mallory 1h", "alice 1h 8"} { // another subject; another id
					if other := h.resumeToken(t, alice, token); other.Resumed || other.ID == alice.ID {
						t.Errorf("%q resumed the session: %+v", token, other.Welcome)
					}
				}

				back := h.resumeToken(t, alice, "alice 1h "+id)
				if !back.Resumed || back.ID != alice.ID {
					t.Fatalf("resumed as %+v", back.Welcome)
				}
				back.expectReport(sent, wire.FateReceived)
				back.expectDeliver(bob.ID, between, []byte("between"))
				bob.withholdsAcks = false
				bob.expectReport(before, wire.FateReceived)
				bob.expectReport(between, wire.FateReceived)
				after := bob.sendMessage([]byte("after"), levelOptions(wire.LevelReceived), 0, alice.ID)
				back.expectDeliver(bob.ID, after, []byte("after"))
				bob.expectReport(after, wire.FateReceived)
				h.waitDisconnected(t, hub.CloseExpired, 1)
			})
		})
	}
}

// TestExpiry_NewToken_ReplacesPermissions checks that the permissions of the new token hold
// for everything that is sent after it. What was sent before stays sent.
func TestExpiry_NewToken_ReplacesPermissions(t *testing.T) {
	withExpiringTokens(t, testTimeout, func(t *testing.T, h *testHub) {
		alice, bob := h.connectToken(t, "alice 300ms 7"), h.connectToken(t, "bob 1h 8")
		bob.withholdsAcks = true
		first := alice.sendMessage([]byte("while it may"), levelOptions(wire.LevelReceived), 0, bob.ID)
		bob.expectDeliver(alice.ID, first, []byte("while it may"))
		alice.expectGoAway(wire.GoAwayExpired)
		back := h.resumeToken(t, alice, "limited 1h 7")
		if !back.Resumed || back.MaxBody != 10 {
			t.Fatalf("resumed as %+v", back.Welcome)
		}
		bob.send(wire.AppendAck(nil, bob.received))
		back.expectReport(first, wire.FateReceived)
		second := back.sendMessage([]byte("not now"), levelOptions(wire.LevelReceived), 0, bob.ID)
		back.expectReport(second, wire.FateRefused)
		back.sendMessage(make([]byte, 11), 0, 0, back.ID)
		if kind, payload := back.nextFrame(); kind != wire.TypeError || !strings.Contains(string(payload), "limit of 10") {
			t.Errorf("body too large by the new permissions: got frame type %#x, %s", kind, payload)
		}
		if ids := back.requestPage(0, 0); len(ids) != 0 {
			t.Errorf("listed: %v", ids)
		}
	})
}

// TestExpiry_GrantedID_NeedsTokenForIt checks that a token without an id cannot resume a
// session with a granted id.
func TestExpiry_GrantedID_NeedsTokenForIt(t *testing.T) {
	withExpiringTokens(t, testTimeout, func(t *testing.T, h *testHub) {
		alice := h.connectToken(t, "alice 1h 7")
		alice.Close()
		if other := h.resumeToken(t, alice, "alice 1h"); other.Resumed || other.ID == 7 {
			t.Errorf("resumed without the granted id: %+v", other.Welcome)
		}
		if back := h.resumeToken(t, alice, "alice 1h 7"); !back.Resumed {
			t.Errorf("not resumed with the granted id: %+v", back.Welcome)
		}
	})
}

// TestExpiry_Session_EndsByWindowOrDisconnect ends sessions with expired tokens by their
// resume window and by Disconnect, also at the moment at which the token expires.
func TestExpiry_Session_EndsByWindowOrDisconnect(t *testing.T) {
	t.Run("when the window is over", func(t *testing.T) {
		withExpiringTokens(t, 50*time.Millisecond, func(t *testing.T, h *testHub) {
			alice, bob := h.connectToken(t, "alice 100ms"), h.connectToken(t, "bob 1h")
			alice.withholdsAcks = true
			seq := bob.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, alice.ID)
			alice.expectDeliver(bob.ID, seq, []byte("x"))
			alice.expectGoAway(wire.GoAwayExpired)
			bob.expectReport(seq, wire.FateUncertain)
			h.waitDisconnected(t, hub.CloseExpired, 1)
		})
	})
	t.Run("by the operator", func(t *testing.T) {
		withExpiringTokens(t, testTimeout, func(t *testing.T, h *testHub) {
			alice := h.connectToken(t, "alice 50ms")
			alice.expectGoAway(wire.GoAwayExpired)
			eventually(t, "detached", func() bool { c, ok := h.Client(alice.ID); return ok && c.Detached })
			if !h.Disconnect(alice.ID, true) {
				t.Error("Disconnect has not found the detached session")
			}
			if back := h.resumeToken(t, alice, "alice 1h"); back.Resumed {
				t.Error("session resumed after Disconnect")
			}
		})
	})
	t.Run("by the operator at the same time", func(t *testing.T) {
		withExpiringTokens(t, testTimeout, func(t *testing.T, h *testHub) {
			for range 50 {
				alice := h.connectToken(t, "alice 5ms")
				<-time.After(5 * time.Millisecond) // until the token expires
				h.Disconnect(alice.ID, false)
				for kind, _ := alice.mustReadFrame(); kind != wire.TypeGoAway; kind, _ = alice.mustReadFrame() {
				}
				if back := h.resumeToken(t, alice, "alice 1h"); back.Resumed {
					t.Error("session resumed after Disconnect")
				}
			}
		})
	})
}

// TestAuthenticate_SameIDTwice_LastTakesOver checks that the last connection with a granted
// id replaces the one before.
func TestAuthenticate_SameIDTwice_LastTakesOver(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{Authenticate: func(req hub.AuthRequest) (*hub.Permissions, error) {
			return &hub.Permissions{Subject: req.Token, ID: 5}, nil
		}})
		first := h.connectToken(t, "alice")
		second := h.connectToken(t, "alice")
		first.expectGoAway(wire.GoAwayTakenOver)
		if second.ID != 5 || second.Resumed {
			t.Errorf("the second connection got %+v", second.Welcome)
		}
		second.expectDeliver(5, second.sendMessage([]byte("x"), 0, 0, 5), []byte("x"))
		back := h.connectHello(t, wire.Hello{Version: wire.Version2, Token: "alice", ID: 5, Resume: second.Resume, Received: second.received})
		if !back.Resumed {
			t.Error("session not resumed with the right token")
		}
		second.expectGoAway(wire.GoAwayTakenOver)
		mallory := h.connectHello(t, wire.Hello{Version: wire.Version2, Token: "mallory", ID: 5, Resume: back.Resume, Received: back.received})
		if mallory.Resumed {
			t.Error("session resumed by another subject that has the secret")
		}
	})
}

// TestConfig_DisableV1_RefusesVersion1 checks that clients of version 2 are served, and
// clients of version 1 rejected, when Config.DisableV1 is set.
func TestConfig_DisableV1_RefusesVersion1(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{DisableV1: true})
		c := h.connectV2(t)
		v1 := h.connect(t)
		v1.send(wire.AppendIdentityRequest(nil))
		v1.expectEOF()
		h.waitDisconnected(t, hub.CloseRefused, 1)
		if ids := c.requestPage(0, 0); !slices.Equal(ids, []uint64{c.ID}) {
			t.Errorf("listed: %v", ids)
		}
	})
}
