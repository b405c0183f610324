package hub_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// tokenAuthenticator lets in who shows a name that it knows as the token.
func tokenAuthenticator(grants map[string]*hub.Permissions) func(hub.AuthRequest) (*hub.Permissions, error) {
	return func(req hub.AuthRequest) (*hub.Permissions, error) {
		if g, ok := grants[req.Token]; ok {
			return g, nil
		}
		return nil, errors.New("nobody of that name")
	}
}

// connectToken says HELLO with a token.
func (h *testHub) connectToken(t testing.TB, token string) *clientV2 {
	t.Helper()
	return h.connectHello(t, wire.Hello{Version: wire.Version2, Token: token})
}

// TestPermissions_LimitSendListWatchAndBody of sending, asking, and the size of bodies.
func TestPermissions_LimitSendListWatchAndBody(t *testing.T) {
	h := start(t, hub.Config{Authenticate: tokenAuthenticator(map[string]*hub.Permissions{
		"alice": {Subject: "alice", ID: 7, NoList: true, NoWatch: true, MaxBody: 10, CanSend: func(id uint64) bool { return id == 8 }},
		"bob":   {Subject: "bob", ID: 8},
		"guest": {Subject: "guest"},
	})})
	alice, bob, guest := h.connectToken(t, "alice"), h.connectToken(t, "bob"), h.connectToken(t, "guest")
	if alice.ID != 7 || bob.ID != 8 || guest.ID <= hub.MaxGrantedID {
		t.Errorf("ids are %d, %d and %d", alice.ID, bob.ID, guest.ID)
	}
	if c, _ := h.Client(7); c.Subject != "alice" {
		t.Errorf("alice is shown as %q", c.Subject)
	}
	if alice.MaxBody != 10 || bob.MaxBody != wire.DefaultMaxBody {
		t.Errorf("bodies of %d and %d bytes are allowed", alice.MaxBody, bob.MaxBody)
	}
	seq := alice.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, bob.ID, guest.ID, 12345, bob.ID)
	bob.expectDeliver(7, seq, []byte("x"))
	bob.expectDeliver(7, seq, []byte("x"))
	alice.expectReport(seq, wire.FateReceived, wire.FateRefused, wire.FateRefused, wire.FateReceived)
	alice.send(wire.AppendRelay(nil, []uint64{guest.ID, bob.ID}, []byte("y"))) // as in version 1
	bob.expectDeliver(7, 0, []byte("y"))
	alice.sendMessage(make([]byte, 11), 0, 0, bob.ID)
	if kind, payload := alice.nextFrame(); kind != wire.TypeError || !strings.Contains(string(payload), "limit of 10") {
		t.Errorf("a body that is too large: type %#x, %s", kind, payload)
	}
	if ids := alice.requestPage(0, 0); len(ids) != 0 {
		t.Errorf("alice sees %v", ids)
	}
	if ids := bob.requestPage(0, 0); !slices.Equal(ids, []uint64{7, 8, guest.ID}) {
		t.Errorf("bob sees %v", ids)
	}
	alice.send(wire.AppendListRequest(nil))
	if kind, payload := alice.nextFrame(); kind != wire.TypeList || len(payload) != 0 {
		t.Errorf("the list of version 1: type %#x, % x", kind, payload)
	}
	alice.send(wire.AppendWatch(nil, wire.Watch{On: true}))
	kind, payload := alice.nextFrame()
	if e, err := wire.ParseError(payload); kind != wire.TypeError || err != nil || e.Code != wire.ErrorRefused {
		t.Errorf("a watch: type %#x, %+v, %v", kind, e, err)
	}
	stats := h.Stats()
	if stats.Forbidden != 3 || stats.Fates[wire.FateRefused] != 2 || stats.Unknown != 0 {
		t.Errorf("%d forbidden, fates %v, %d unknown", stats.Forbidden, stats.Fates, stats.Unknown)
	}
}

// TestAuthenticate_Refused_IsToldAndNotListed is told why, counted, and never seen by the others.
func TestAuthenticate_Refused_IsToldAndNotListed(t *testing.T) {
	h := start(t, hub.Config{HandshakeTimeout: 200 * time.Millisecond, Authenticate: tokenAuthenticator(map[string]*hub.Permissions{
		"alice": {Subject: "alice"}, "greedy": {Subject: "greedy", ID: hub.MaxGrantedID + 1}, "nothing": nil,
	})})
	alice := h.connectToken(t, "alice")
	silent := h.connect(t)
	for _, token := range []string{"", "mallory", "greedy", "nothing"} {
		c := &clientV2{clientV1: h.connect(t)}
		c.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: token}))
		if away := c.expectGoAway(wire.GoAwayRefused); away.Reconnect {
			t.Errorf("%q is asked to come back", token)
		}
	}
	v1 := h.connect(t)
	v1.send(wire.AppendIdentityRequest(nil))
	v1.expectEOF()
	large := h.connect(t)
	large.send(wire.AppendRelay(nil, []uint64{alice.ID}, make([]byte, 100_000))[:20_000]) // more than a stranger may say
	large.expectEOF()
	_, _ = io.Copy(io.Discard, silent) // until the hub ends it
	h.waitDisconnected(t, hub.CloseRefused, 5)
	h.waitDisconnected(t, hub.CloseTooLong, 1)
	h.waitDisconnected(t, hub.CloseHandshake, 1)
	if ids := alice.requestPage(0, 0); !slices.Equal(ids, []uint64{alice.ID}) {
		t.Errorf("listed: %v", ids)
	}
	alice.expectDeliver(alice.ID, alice.sendMessage([]byte("x"), 0, 0, alice.ID), []byte("x"))
}

// TestLimitedLog_UnauthenticatedConns_LogFewLines has connections that are never admitted end for reasons of their
// own: each is counted, and few are logged.
func TestLimitedLog_UnauthenticatedConns_LogFewLines(t *testing.T) {
	log := &logBuffer{}
	h := start(t, hub.Config{DisableV1: true, Logger: log.logger()})
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
		t.Errorf("%d lines for %d strangers:\n%s", lines, strangers, &log.lines)
	}
}

// TestAuthenticate_ExpiredToken_GetsGoAway sends the client away, on the minute, and one who comes with it later. Both are
// asked to come with something newer.
func TestAuthenticate_ExpiredToken_GetsGoAway(t *testing.T) {
	h := start(t, hub.Config{ResumeWindow: time.Millisecond, Authenticate: func(req hub.AuthRequest) (*hub.Permissions, error) {
		if req.Token == "old" {
			return nil, fmt.Errorf("%w: since yesterday", hub.ErrExpired)
		}
		return &hub.Permissions{Subject: "alice", ID: 5, Expires: time.Now().Add(100 * time.Millisecond)}, nil
	}})
	short := h.connectToken(t, "short")
	if away := short.expectGoAway(wire.GoAwayExpired); !away.Reconnect {
		t.Error("it is not asked to come back")
	}
	h.waitDisconnected(t, hub.CloseExpired, 1)
	expired := &clientV2{clientV1: h.connect(t)}
	expired.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: "old"}))
	if away := expired.expectGoAway(wire.GoAwayExpired); !away.Reconnect || !strings.Contains(away.Reason, "since yesterday") {
		t.Errorf("one that comes with it later is told %+v", away)
	}
	h.waitDisconnected(t, hub.CloseRefused, 1)
}

// wallClock is a clock that is set while timers go on: as after a sleep of the machine, or when it was
// wrong. In virtual time a time has no reading of the clock of timers.
type wallClock struct{ offset atomic.Int64 }

func (c *wallClock) now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

// TestPermissions_Expires_FollowsWallClock whatever timers say: soon when the clock has jumped beyond the end, and not before
// the end when it was set back.
func TestPermissions_Expires_FollowsWallClock(t *testing.T) {
	const maxDelay = 30 * time.Second // as Grant.Until promises
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
			synctest.Test(t, func(t *testing.T) {
				clock, ln := new(wallClock), newPipeListener()
				startOn(t, hub.WithClock(hub.Config{Authenticate: func(hub.AuthRequest) (*hub.Permissions, error) {
					return &hub.Permissions{Subject: "alice", Expires: time.Now().Add(time.Hour)}, nil // of both clocks
				}}, clock.now), ln)
				alice := handshakeV2(connectPipe(t, ln), wire.Hello{Version: wire.Version2})
				begin := time.Now()
				clock.offset.Store(int64(test.jump))
				for kind, _ := alice.mustReadFrame(); kind != wire.TypeGoAway; kind, _ = alice.mustReadFrame() {
					go alice.Write(wire.AppendPong(nil, 0)) // which the hub reads, or refuses when it has closed
				}
				if after := time.Since(begin); after < test.min || after > test.max {
					t.Errorf("it has to go after %v, want from %v to %v", after, test.min, test.max)
				}
				_, _ = io.Copy(io.Discard, alice) // until the end
			})
		})
	}
}

// authenticateExpiring lets in whoever shows "subject life [id]": that subject, for that time.
func authenticateExpiring(req hub.AuthRequest) (*hub.Permissions, error) {
	var g hub.Permissions
	var lifetime string
	if n, _ := fmt.Sscan(req.Token, &g.Subject, &lifetime, &g.ID); n < 2 {
		return nil, fmt.Errorf("%q is no token", req.Token)
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

// connectToken says HELLO with a token, in virtual time.
func (l *pipeListener) connectToken(t *testing.T, token string) *clientV2 {
	t.Helper()
	return handshakeV2(connectPipe(t, l), wire.Hello{Version: wire.Version2, Token: token})
}

// resumeToken says HELLO for the session of g, with a token.
func (l *pipeListener) resumeToken(t *testing.T, prev *clientV2, token string) *clientV2 {
	t.Helper()
	return handshakeV2(connectPipe(t, l), wire.Hello{Version: wire.Version2, Token: token, ID: prev.ID, Resume: prev.Resume, Received: prev.received})
}

// expectResumeRefused is again for one that may not come in.
func (l *pipeListener) expectResumeRefused(t *testing.T, prev *clientV2, token string, code wire.GoAwayCode) {
	t.Helper()
	c := &clientV2{clientV1: connectPipe(t, l)}
	c.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: token, ID: prev.ID, Resume: prev.Resume, Received: prev.received}))
	c.expectGoAway(code)
}

// withExpiringTokens serves a hub that lets in by renewable, in virtual time.
func withExpiringTokens(t *testing.T, window time.Duration, f func(t *testing.T, h *testHub, ln *pipeListener)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		f(t, startOn(t, hub.Config{Authenticate: authenticateExpiring, ResumeWindow: window}, ln), ln)
	})
}

// TestExpiry_NewToken_ResumesSession of the same subject: what is sent to it meanwhile, and what it
// waits to hear of, comes with that, and nothing is uncertain.
func TestExpiry_NewToken_ResumesSession(t *testing.T) {
	for name, id := range map[string]string{"with an id of the hub": "", "with an id of its own": "7"} {
		t.Run(name, func(t *testing.T) {
			withExpiringTokens(t, testTimeout, func(t *testing.T, h *testHub, ln *pipeListener) {
				alice, bob := ln.connectToken(t, "alice 300ms "+id), ln.connectToken(t, "bob 1h")
				if alice.Expires != 300 {
					t.Errorf("WELCOME says that the token is good for %d ms", alice.Expires)
				}
				alice.withholdsAcks = true
				before := bob.sendMessage([]byte("before"), levelOptions(wire.LevelReceived), 0, alice.ID)
				alice.expectDeliver(bob.ID, before, []byte("before")) // and does not say so
				sent := alice.sendMessage([]byte("from alice"), levelOptions(wire.LevelReceived), 0, bob.ID)
				bob.withholdsAcks = true
				bob.expectDeliver(alice.ID, sent, []byte("from alice"))
				if away := alice.expectGoAway(wire.GoAwayExpired); !away.Reconnect {
					t.Error("it is not asked to come back")
				}
				eventually(t, "detached", func() bool { c, ok := h.Client(alice.ID); return ok && c.Detached })
				bob.send(wire.AppendAck(nil, bob.received)) // before what it says next
				between := bob.sendMessage([]byte("between"), levelOptions(wire.LevelReceived), 0, alice.ID)

				ln.expectResumeRefused(t, alice, "alice 0s "+id, wire.GoAwayExpired)
				ln.expectResumeRefused(t, alice, "", wire.GoAwayRefused)
				for _, token := range []string{"mallory 1h", "alice 1h 8"} { // somebody else; another id
					if other := ln.resumeToken(t, alice, token); other.Resumed || other.ID == alice.ID {
						t.Errorf("%q resumes: %+v", token, other.Welcome)
					}
				}

				back := ln.resumeToken(t, alice, "alice 1h "+id)
				if !back.Resumed || back.ID != alice.ID {
					t.Fatalf("it came back as %+v", back.Welcome)
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

// TestExpiry_NewToken_ReplacesPermissions for everything that comes after it: rights that are taken away are
// gone at once, and what was sent before stays sent.
func TestExpiry_NewToken_ReplacesPermissions(t *testing.T) {
	withExpiringTokens(t, testTimeout, func(t *testing.T, _ *testHub, ln *pipeListener) {
		alice, bob := ln.connectToken(t, "alice 300ms 7"), ln.connectToken(t, "bob 1h 8")
		bob.withholdsAcks = true
		first := alice.sendMessage([]byte("while it may"), levelOptions(wire.LevelReceived), 0, bob.ID)
		bob.expectDeliver(alice.ID, first, []byte("while it may"))
		alice.expectGoAway(wire.GoAwayExpired)
		back := ln.resumeToken(t, alice, "limited 1h 7")
		if !back.Resumed || back.MaxBody != 10 {
			t.Fatalf("it came back as %+v", back.Welcome)
		}
		bob.send(wire.AppendAck(nil, bob.received))
		back.expectReport(first, wire.FateReceived)
		second := back.sendMessage([]byte("not now"), levelOptions(wire.LevelReceived), 0, bob.ID)
		back.expectReport(second, wire.FateRefused)
		back.sendMessage(make([]byte, 11), 0, 0, back.ID)
		if kind, payload := back.nextFrame(); kind != wire.TypeError || !strings.Contains(string(payload), "limit of 10") {
			t.Errorf("a body that is too large now: type %#x, %s", kind, payload)
		}
		if ids := back.requestPage(0, 0); len(ids) != 0 {
			t.Errorf("it sees %v", ids)
		}
	})
}

// TestExpiry_GrantedID_NeedsTokenForIt: a token that names no id cannot go on with one that was granted.
func TestExpiry_GrantedID_NeedsTokenForIt(t *testing.T) {
	withExpiringTokens(t, testTimeout, func(t *testing.T, _ *testHub, ln *pipeListener) {
		alice := ln.connectToken(t, "alice 1h 7")
		alice.Close()
		if other := ln.resumeToken(t, alice, "alice 1h"); other.Resumed || other.ID == 7 {
			t.Errorf("without its id it resumes: %+v", other.Welcome)
		}
		if back := ln.resumeToken(t, alice, "alice 1h 7"); !back.Resumed {
			t.Errorf("with its id it came back as %+v", back.Welcome)
		}
	})
}

// TestExpiry_Session_EndsByWindowOrDisconnect when nobody comes in time, and when the operator wants it to, at whatever moment.
func TestExpiry_Session_EndsByWindowOrDisconnect(t *testing.T) {
	t.Run("when the window is over", func(t *testing.T) {
		withExpiringTokens(t, 50*time.Millisecond, func(t *testing.T, h *testHub, ln *pipeListener) {
			alice, bob := ln.connectToken(t, "alice 100ms"), ln.connectToken(t, "bob 1h")
			alice.withholdsAcks = true
			seq := bob.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, alice.ID)
			alice.expectDeliver(bob.ID, seq, []byte("x"))
			alice.expectGoAway(wire.GoAwayExpired)
			bob.expectReport(seq, wire.FateUncertain)
			h.waitDisconnected(t, hub.CloseExpired, 1)
		})
	})
	t.Run("by the operator", func(t *testing.T) {
		withExpiringTokens(t, testTimeout, func(t *testing.T, h *testHub, ln *pipeListener) {
			alice := ln.connectToken(t, "alice 50ms")
			alice.expectGoAway(wire.GoAwayExpired)
			eventually(t, "detached", func() bool { c, ok := h.Client(alice.ID); return ok && c.Detached })
			if !h.Disconnect(alice.ID, true) {
				t.Error("there is nobody to disconnect")
			}
			if back := ln.resumeToken(t, alice, "alice 1h"); back.Resumed {
				t.Error("it resumes after that")
			}
		})
	})
	t.Run("by the operator at the same time", func(t *testing.T) {
		withExpiringTokens(t, testTimeout, func(t *testing.T, h *testHub, ln *pipeListener) {
			for range 50 {
				alice := ln.connectToken(t, "alice 5ms")
				time.Sleep(5 * time.Millisecond) // to the moment at which its token ends
				h.Disconnect(alice.ID, false)
				for kind, _ := alice.mustReadFrame(); kind != wire.TypeGoAway; kind, _ = alice.mustReadFrame() {
				}
				if back := ln.resumeToken(t, alice, "alice 1h"); back.Resumed {
					t.Error("it resumes after that")
				}
			}
		})
	})
}

// TestAuthenticate_SameIDTwice_LastTakesOver has the last one count, whoever has come before.
func TestAuthenticate_SameIDTwice_LastTakesOver(t *testing.T) {
	h := start(t, hub.Config{Authenticate: func(req hub.AuthRequest) (*hub.Permissions, error) {
		return &hub.Permissions{Subject: req.Token, ID: 5}, nil
	}})
	first := h.connectToken(t, "alice")
	second := h.connectToken(t, "alice")
	first.expectGoAway(wire.GoAwayTakenOver)
	if second.ID != 5 || second.Resumed {
		t.Errorf("the second is %+v", second.Welcome)
	}
	second.expectDeliver(5, second.sendMessage([]byte("x"), 0, 0, 5), []byte("x"))
	back := h.connectHello(t, wire.Hello{Version: wire.Version2, Token: "alice", ID: 5, Resume: second.Resume, Received: second.received})
	if !back.Resumed {
		t.Error("who has lost its connection cannot come back")
	}
	second.expectGoAway(wire.GoAwayTakenOver)
	mallory := h.connectHello(t, wire.Hello{Version: wire.Version2, Token: "mallory", ID: 5, Resume: back.Resume, Received: back.received})
	if mallory.Resumed {
		t.Error("somebody else goes on with a secret that it has found")
	}
}

// TestConfig_DisableV1_RefusesVersion1 speaks version 2 with everybody, and version 1 with nobody.
func TestConfig_DisableV1_RefusesVersion1(t *testing.T) {
	h := start(t, hub.Config{DisableV1: true})
	c := h.connectV2(t)
	v1 := h.connect(t)
	v1.send(wire.AppendIdentityRequest(nil))
	v1.expectEOF()
	h.waitDisconnected(t, hub.CloseRefused, 1)
	if ids := c.requestPage(0, 0); !slices.Equal(ids, []uint64{c.ID}) {
		t.Errorf("listed: %v", ids)
	}
}
