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

// door lets in who shows a name that it knows as the token.
func door(grants map[string]*hub.Grant) func(hub.Applicant) (*hub.Grant, error) {
	return func(a hub.Applicant) (*hub.Grant, error) {
		if g, ok := grants[a.Token]; ok {
			return g, nil
		}
		return nil, errors.New("nobody of that name")
	}
}

// show says HELLO with a token.
func (s *testHub) show(t testing.TB, token string) *guest {
	t.Helper()
	return s.hello(t, wire.Hello{Version: wire.Version2, Token: token})
}

// TestWhatAGrantAllows of sending, asking, and the size of bodies.
func TestWhatAGrantAllows(t *testing.T) {
	h := start(t, hub.Config{Admit: door(map[string]*hub.Grant{
		"alice": {Subject: "alice", ID: 7, NoList: true, NoWatch: true, MaxBody: 10, May: func(id uint64) bool { return id == 8 }},
		"bob":   {Subject: "bob", ID: 8},
		"guest": {Subject: "guest"},
	})})
	alice, bob, guest := h.show(t, "alice"), h.show(t, "bob"), h.show(t, "guest")
	if alice.ID != 7 || bob.ID != 8 || guest.ID <= hub.GrantedMost {
		t.Errorf("ids are %d, %d and %d", alice.ID, bob.ID, guest.ID)
	}
	if c, _ := h.Client(7); c.Subject != "alice" {
		t.Errorf("alice is shown as %q", c.Subject)
	}
	if alice.MaxBody != 10 || bob.MaxBody != wire.DefaultMaxBody {
		t.Errorf("bodies of %d and %d bytes are allowed", alice.MaxBody, bob.MaxBody)
	}
	seq := alice.tell([]byte("x"), only(wire.LevelReceived), 0, bob.ID, guest.ID, 12345, bob.ID)
	bob.delivered(7, seq, []byte("x"))
	bob.delivered(7, seq, []byte("x"))
	alice.reported(seq, wire.FateReceived, wire.FateRefused, wire.FateRefused, wire.FateReceived)
	alice.send(wire.AppendRelay(nil, []uint64{guest.ID, bob.ID}, []byte("y"))) // as in version 1
	bob.delivered(7, 0, []byte("y"))
	alice.tell(make([]byte, 11), 0, 0, bob.ID)
	if kind, payload := alice.read(); kind != wire.TypeError || !strings.Contains(string(payload), "10 allowed") {
		t.Errorf("a body that is too large: type %#x, %s", kind, payload)
	}
	if ids := alice.page(0, 0); len(ids) != 0 {
		t.Errorf("alice sees %v", ids)
	}
	if ids := bob.page(0, 0); !slices.Equal(ids, []uint64{7, 8, guest.ID}) {
		t.Errorf("bob sees %v", ids)
	}
	alice.send(wire.AppendListRequest(nil))
	if kind, payload := alice.read(); kind != wire.TypeList || len(payload) != 0 {
		t.Errorf("the list of version 1: type %#x, % x", kind, payload)
	}
	alice.send(wire.AppendWatch(nil, wire.Watch{On: true}))
	kind, payload := alice.read()
	if e, err := wire.ParseError(payload); kind != wire.TypeError || err != nil || e.Code != wire.ErrorRefused {
		t.Errorf("a watch: type %#x, %+v, %v", kind, e, err)
	}
	stats := h.Stats()
	if stats.Forbidden != 3 || stats.Fates[wire.FateRefused] != 2 || stats.Unknown != 0 {
		t.Errorf("%d forbidden, fates %v, %d unknown", stats.Forbidden, stats.Fates, stats.Unknown)
	}
}

// TestWhoMayNotComeIn is told why, counted, and never seen by the others.
func TestWhoMayNotComeIn(t *testing.T) {
	h := start(t, hub.Config{HandshakeTimeout: 200 * time.Millisecond, Admit: door(map[string]*hub.Grant{
		"alice": {Subject: "alice"}, "greedy": {Subject: "greedy", ID: hub.GrantedMost + 1}, "nothing": nil,
	})})
	alice := h.show(t, "alice")
	silent := h.silent(t)
	for _, token := range []string{"", "mallory", "greedy", "nothing"} {
		g := &guest{peer: h.silent(t)}
		g.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: token}))
		if away := g.sentAway(wire.GoAwayRefused); away.Reconnect {
			t.Errorf("%q is asked to come back", token)
		}
	}
	classic := h.silent(t)
	classic.send(wire.AppendIdentityRequest(nil))
	classic.closed()
	large := h.silent(t)
	large.send(wire.AppendRelay(nil, []uint64{alice.ID}, make([]byte, 100_000))[:20_000]) // more than a stranger may say
	large.closed()
	_, _ = io.Copy(io.Discard, silent) // until the hub ends it
	h.disconnected(t, hub.ReasonRefused, 5)
	h.disconnected(t, hub.ReasonTooLong, 1)
	h.disconnected(t, hub.ReasonHandshake, 1)
	if ids := alice.page(0, 0); !slices.Equal(ids, []uint64{alice.ID}) {
		t.Errorf("listed: %v", ids)
	}
	alice.delivered(alice.ID, alice.tell([]byte("x"), 0, 0, alice.ID), []byte("x"))
}

// TestStrangersDoNotFillTheLog has connections that are never admitted end for reasons of their
// own: each is counted, and few are logged.
func TestStrangersDoNotFillTheLog(t *testing.T) {
	log := &logbook{}
	h := start(t, hub.Config{NoClassic: true, Logger: log.logger()})
	const strangers = 50
	for range strangers {
		p := h.silent(t)
		p.send([]byte{255, 255, 255, 255})
		p.closed()
	}
	h.disconnected(t, hub.ReasonTooLong, strangers)
	log.has(t, `"reason":"frame too long"`)
	log.mu.Lock()
	defer log.mu.Unlock()
	if lines := bytes.Count(log.lines.Bytes(), []byte("\n")); lines > strangers/2 {
		t.Errorf("%d lines for %d strangers:\n%s", lines, strangers, &log.lines)
	}
}

// TestWhatIsShownEnds sends the client away, on the minute, and one who comes with it later. Both are
// asked to come with something newer.
func TestWhatIsShownEnds(t *testing.T) {
	h := start(t, hub.Config{ResumeWindow: time.Millisecond, Admit: func(a hub.Applicant) (*hub.Grant, error) {
		if a.Token == "old" {
			return nil, fmt.Errorf("%w: since yesterday", hub.ErrExpired)
		}
		return &hub.Grant{Subject: "alice", ID: 5, Until: time.Now().Add(100 * time.Millisecond)}, nil
	}})
	short := h.show(t, "short")
	if away := short.sentAway(wire.GoAwayExpired); !away.Reconnect {
		t.Error("it is not asked to come back")
	}
	h.disconnected(t, hub.ReasonExpired, 1)
	old := &guest{peer: h.silent(t)}
	old.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: "old"}))
	if away := old.sentAway(wire.GoAwayExpired); !away.Reconnect || !strings.Contains(away.Reason, "since yesterday") {
		t.Errorf("one that comes with it later is told %+v", away)
	}
	h.disconnected(t, hub.ReasonRefused, 1)
}

// wallClock is a clock that is set while timers go on: as after a sleep of the machine, or when it was
// wrong. In virtual time a time has no reading of the clock of timers.
type wallClock struct{ ahead atomic.Int64 }

func (c *wallClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// TestGrant_EndsByTheWallClock whatever timers say: soon when the clock has jumped beyond the end, and not before
// the end when it was set back.
func TestGrant_EndsByTheWallClock(t *testing.T) {
	const soon = 30 * time.Second // as Grant.Until promises
	for name, test := range map[string]struct {
		jump     time.Duration
		min, max time.Duration
	}{
		"a clock that goes":              {0, time.Hour, time.Hour},
		"after a sleep of a day":         {24 * time.Hour, 0, soon},
		"after a sleep of half the time": {30 * time.Minute, 30 * time.Minute, 30*time.Minute + soon},
		"a clock that is set back":       {-time.Hour, 2 * time.Hour, 2 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				clock, ln := new(wallClock), newPipes()
				startOn(t, hub.WithClock(hub.Config{Admit: func(hub.Applicant) (*hub.Grant, error) {
					return &hub.Grant{Subject: "alice", Until: time.Now().Add(time.Hour)}, nil // of both clocks
				}}, clock.now), ln)
				alice := greet(virtual(t, ln), wire.Hello{Version: wire.Version2})
				begin := time.Now()
				clock.ahead.Store(int64(test.jump))
				for kind, _ := alice.frame(); kind != wire.TypeGoAway; kind, _ = alice.frame() {
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

// renewable lets in whoever shows "subject life [id]": that subject, for that time.
func renewable(a hub.Applicant) (*hub.Grant, error) {
	var g hub.Grant
	var life string
	if n, _ := fmt.Sscan(a.Token, &g.Subject, &life, &g.ID); n < 2 {
		return nil, fmt.Errorf("%q is no token", a.Token)
	}
	d, err := time.ParseDuration(life)
	switch {
	case err != nil:
		return nil, err
	case d <= 0:
		return nil, fmt.Errorf("%w: since yesterday", hub.ErrExpired)
	}
	g.Until = time.Now().Add(d)
	if g.Subject == "limited" {
		g.Subject, g.May = "alice", func(id uint64) bool { return id == g.ID }
		g.NoList, g.MaxBody = true, 10
	}
	return &g, nil
}

// shown says HELLO with a token, in virtual time.
func (p *pipes) shown(t *testing.T, token string) *guest {
	t.Helper()
	return greet(virtual(t, p), wire.Hello{Version: wire.Version2, Token: token})
}

// again says HELLO for the session of g, with a token.
func (p *pipes) again(t *testing.T, g *guest, token string) *guest {
	t.Helper()
	return greet(virtual(t, p), wire.Hello{Version: wire.Version2, Token: token, ID: g.ID, Resume: g.Resume, Received: g.had})
}

// sentAwayAgain is again for one that may not come in.
func (p *pipes) sentAwayAgain(t *testing.T, g *guest, token string, code wire.GoAwayCode) {
	t.Helper()
	other := &guest{peer: virtual(t, p)}
	other.send(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: token, ID: g.ID, Resume: g.Resume, Received: g.had}))
	other.sentAway(code)
}

// renewing serves a hub that lets in by renewable, in virtual time.
func renewing(t *testing.T, window time.Duration, f func(t *testing.T, h *testHub, ln *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		f(t, startOn(t, hub.Config{Admit: renewable, ResumeWindow: window}, ln), ln)
	})
}

// TestExpiry_SessionWaitsForANewerToken of the same subject: what is sent to it meanwhile, and what it
// waits to hear of, comes with that, and nothing is uncertain.
func TestExpiry_SessionWaitsForANewerToken(t *testing.T) {
	for name, id := range map[string]string{"with an id of the hub": "", "with an id of its own": "7"} {
		t.Run(name, func(t *testing.T) {
			renewing(t, patience, func(t *testing.T, h *testHub, ln *pipes) {
				alice, bob := ln.shown(t, "alice 300ms "+id), ln.shown(t, "bob 1h")
				if alice.Expires != 300 {
					t.Errorf("WELCOME says that the token is good for %d ms", alice.Expires)
				}
				alice.mute = true
				before := bob.tell([]byte("before"), only(wire.LevelReceived), 0, alice.ID)
				alice.delivered(bob.ID, before, []byte("before")) // and does not say so
				asked := alice.tell([]byte("from alice"), only(wire.LevelReceived), 0, bob.ID)
				bob.mute = true
				bob.delivered(alice.ID, asked, []byte("from alice"))
				if away := alice.sentAway(wire.GoAwayExpired); !away.Reconnect {
					t.Error("it is not asked to come back")
				}
				eventually(t, "detached", func() bool { c, there := h.Client(alice.ID); return there && c.Detached })
				bob.send(wire.AppendTaken(nil, bob.had)) // before what it says next
				between := bob.tell([]byte("between"), only(wire.LevelReceived), 0, alice.ID)

				ln.sentAwayAgain(t, alice, "alice 0s "+id, wire.GoAwayExpired)
				ln.sentAwayAgain(t, alice, "", wire.GoAwayRefused)
				for _, token := range []string{"mallory 1h", "alice 1h 8"} { // somebody else; another id
					if other := ln.again(t, alice, token); other.Resumed || other.ID == alice.ID {
						t.Errorf("%q resumes: %+v", token, other.Welcome)
					}
				}

				back := ln.again(t, alice, "alice 1h "+id)
				if !back.Resumed || back.ID != alice.ID {
					t.Fatalf("it came back as %+v", back.Welcome)
				}
				back.reported(asked, wire.FateReceived)
				back.delivered(bob.ID, between, []byte("between"))
				bob.mute = false
				bob.reported(before, wire.FateReceived)
				bob.reported(between, wire.FateReceived)
				after := bob.tell([]byte("after"), only(wire.LevelReceived), 0, alice.ID)
				back.delivered(bob.ID, after, []byte("after"))
				bob.reported(after, wire.FateReceived)
				h.disconnected(t, hub.ReasonExpired, 1)
			})
		})
	}
}

// TestExpiry_NewerTokenCounts for everything that comes after it: rights that are taken away are
// gone at once, and what was sent before stays sent.
func TestExpiry_NewerTokenCounts(t *testing.T) {
	renewing(t, patience, func(t *testing.T, _ *testHub, ln *pipes) {
		alice, bob := ln.shown(t, "alice 300ms 7"), ln.shown(t, "bob 1h 8")
		bob.mute = true
		first := alice.tell([]byte("while it may"), only(wire.LevelReceived), 0, bob.ID)
		bob.delivered(alice.ID, first, []byte("while it may"))
		alice.sentAway(wire.GoAwayExpired)
		back := ln.again(t, alice, "limited 1h 7")
		if !back.Resumed || back.MaxBody != 10 {
			t.Fatalf("it came back as %+v", back.Welcome)
		}
		bob.send(wire.AppendTaken(nil, bob.had))
		back.reported(first, wire.FateReceived)
		second := back.tell([]byte("not now"), only(wire.LevelReceived), 0, bob.ID)
		back.reported(second, wire.FateRefused)
		back.tell(make([]byte, 11), 0, 0, back.ID)
		if kind, payload := back.read(); kind != wire.TypeError || !strings.Contains(string(payload), "10 allowed") {
			t.Errorf("a body that is too large now: type %#x, %s", kind, payload)
		}
		if ids := back.page(0, 0); len(ids) != 0 {
			t.Errorf("it sees %v", ids)
		}
	})
}

// TestExpiry_GrantedIDNeedsItsGrant: a token that names no id cannot go on with one that was granted.
func TestExpiry_GrantedIDNeedsItsGrant(t *testing.T) {
	renewing(t, patience, func(t *testing.T, _ *testHub, ln *pipes) {
		alice := ln.shown(t, "alice 1h 7")
		alice.Close()
		if other := ln.again(t, alice, "alice 1h"); other.Resumed || other.ID == 7 {
			t.Errorf("without its id it resumes: %+v", other.Welcome)
		}
		if back := ln.again(t, alice, "alice 1h 7"); !back.Resumed {
			t.Errorf("with its id it came back as %+v", back.Welcome)
		}
	})
}

// TestExpiry_SessionEnds when nobody comes in time, and when the operator wants it to, at whatever moment.
func TestExpiry_SessionEnds(t *testing.T) {
	t.Run("when the window is over", func(t *testing.T) {
		renewing(t, 50*time.Millisecond, func(t *testing.T, h *testHub, ln *pipes) {
			alice, bob := ln.shown(t, "alice 100ms"), ln.shown(t, "bob 1h")
			alice.mute = true
			seq := bob.tell([]byte("x"), only(wire.LevelReceived), 0, alice.ID)
			alice.delivered(bob.ID, seq, []byte("x"))
			alice.sentAway(wire.GoAwayExpired)
			bob.reported(seq, wire.FateUncertain)
			h.disconnected(t, hub.ReasonExpired, 1)
		})
	})
	t.Run("by the operator", func(t *testing.T) {
		renewing(t, patience, func(t *testing.T, h *testHub, ln *pipes) {
			alice := ln.shown(t, "alice 50ms")
			alice.sentAway(wire.GoAwayExpired)
			eventually(t, "detached", func() bool { c, there := h.Client(alice.ID); return there && c.Detached })
			if !h.Disconnect(alice.ID, true) {
				t.Error("there is nobody to disconnect")
			}
			if back := ln.again(t, alice, "alice 1h"); back.Resumed {
				t.Error("it resumes after that")
			}
		})
	})
	t.Run("by the operator at the same time", func(t *testing.T) {
		renewing(t, patience, func(t *testing.T, h *testHub, ln *pipes) {
			for range 50 {
				alice := ln.shown(t, "alice 5ms")
				time.Sleep(5 * time.Millisecond) // to the moment at which its token ends
				h.Disconnect(alice.ID, false)
				for kind, _ := alice.frame(); kind != wire.TypeGoAway; kind, _ = alice.frame() {
				}
				if back := ln.again(t, alice, "alice 1h"); back.Resumed {
					t.Error("it resumes after that")
				}
			}
		})
	})
}

// TestOneIDTwice has the last one count, whoever has come before.
func TestOneIDTwice(t *testing.T) {
	h := start(t, hub.Config{Admit: func(a hub.Applicant) (*hub.Grant, error) {
		return &hub.Grant{Subject: a.Token, ID: 5}, nil
	}})
	first := h.show(t, "alice")
	second := h.show(t, "alice")
	first.sentAway(wire.GoAwayTakenOver)
	if second.ID != 5 || second.Resumed {
		t.Errorf("the second is %+v", second.Welcome)
	}
	second.delivered(5, second.tell([]byte("x"), 0, 0, 5), []byte("x"))
	back := h.hello(t, wire.Hello{Version: wire.Version2, Token: "alice", ID: 5, Resume: second.Resume, Received: second.had})
	if !back.Resumed {
		t.Error("who has lost its connection cannot come back")
	}
	second.sentAway(wire.GoAwayTakenOver)
	mallory := h.hello(t, wire.Hello{Version: wire.Version2, Token: "mallory", ID: 5, Resume: back.Resume, Received: back.had})
	if mallory.Resumed {
		t.Error("somebody else goes on with a secret that it has found")
	}
}

// TestNoClassic speaks version 2 with everybody, and version 1 with nobody.
func TestNoClassic(t *testing.T) {
	h := start(t, hub.Config{NoClassic: true})
	g := h.guest(t)
	classic := h.silent(t)
	classic.send(wire.AppendIdentityRequest(nil))
	classic.closed()
	h.disconnected(t, hub.ReasonRefused, 1)
	if ids := g.page(0, 0); !slices.Equal(ids, []uint64{g.ID}) {
		t.Errorf("listed: %v", ids)
	}
}
