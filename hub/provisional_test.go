package hub_test

import (
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// fullHubs are hubs with room for three clients.
var fullHubs = map[hub.Refusal]hub.Config{
	hub.RefusedFull:    {MaxClients: 3, ResumeWindow: time.Hour},
	hub.RefusedAddress: {MaxPerAddress: 3, ResumeWindow: time.Hour},
}

// fill starts a hub with that configuration and as many clients as it has room for.
func fill(t *testing.T, config hub.Config) (*testHub, []*guest) {
	t.Helper()
	h := start(t, config)
	return h, []*guest{h.guest(t), h.guest(t), h.guest(t)}
}

// TestProvisional_ResumesOnFullHub has all clients of a full hub lose their connections, or come
// back while the hub still thinks that they are there: each finds room.
func TestProvisional_ResumesOnFullHub(t *testing.T) {
	for why, config := range fullHubs {
		t.Run(why.String(), func(t *testing.T) {
			h, guests := fill(t, config)
			for _, g := range guests {
				g.reset()
			}
			h.allDetached(t)
			if why == hub.RefusedFull { // of an address others may come meanwhile
				h.turnedAway(t, why, wire.Hello{Version: wire.Version2})
			} else {
				guests = append(guests, h.guest(t), h.guest(t), h.guest(t))
			}
			for range 2 { // the second time while they are connected
				for i, g := range guests {
					if guests[i] = h.back(t, g); !guests[i].Resumed {
						t.Fatalf("client %d came back as %+v", g.ID, guests[i].Welcome)
					}
				}
			}
			h.turnedAway(t, why, wire.Hello{Version: wire.Version2})
			if n := h.Stats().Clients; n != len(guests) {
				t.Errorf("%d clients, want %d", n, len(guests))
			}
		})
	}
}

// allDetached waits until all clients have lost their connection.
func (s *testHub) allDetached(t testing.TB) {
	t.Helper()
	eventually(t, "detached", func() bool {
		return !slices.ContainsFunc(s.Clients(0, 1000), func(c hub.ClientInfo) bool { return !c.Detached })
	})
}

// turnedAway connects, says a HELLO, and is told that there is no room.
func (s *testHub) turnedAway(t testing.TB, why hub.Refusal, hello wire.Hello) {
	t.Helper()
	before := s.Stats().Refused[why]
	g := &guest{peer: s.silent(t)}
	g.send(wire.AppendHello(nil, &hello))
	if away := g.sentAway(wire.GoAwayBusy); !away.Reconnect || away.After == 0 || away.Reason != why.String() {
		t.Errorf("told %+v, want to come back later", away)
	}
	if n := s.Stats().Refused[why]; n != before+1 {
		t.Errorf("%d counted, want %d", n, before+1)
	}
}

// TestProvisional_StrangersAreRefused on a full hub, whatever they say.
func TestProvisional_StrangersAreRefused(t *testing.T) {
	for why, config := range fullHubs {
		t.Run(why.String(), func(t *testing.T) {
			t.Parallel() // it takes three seconds until a silent one is refused
			h, guests := fill(t, config)
			known := guests[0]
			for _, hello := range []wire.Hello{
				{Version: wire.Version2},
				{Version: wire.Version2, ID: known.ID, Resume: "guessed"},
				{Version: wire.Version2, ID: known.ID + 1000, Resume: known.Resume},
			} {
				h.turnedAway(t, why, hello)
			}
			for _, frames := range [][]byte{
				nil,
				wire.AppendIdentityRequest(nil),
				wire.AppendRelay(nil, []uint64{known.ID}, []byte("from a stranger")),
				wire.AppendRelay(nil, []uint64{known.ID}, make([]byte, 100_000))[:20_000],
			} {
				p := h.silent(t)
				p.send(frames)
				p.closed()
			}
			eventually(t, "7 refused", func() bool { return h.Stats().Refused[why] == 7 })
			for _, g := range guests { // they are where they were, and heard nothing
				g.delivered(g.ID, g.tell([]byte("x"), 0, 0, g.ID), []byte("x"))
			}
			if ids := known.page(0, 0); len(ids) != len(guests) {
				t.Errorf("listed: %v", ids)
			}
		})
	}
}

// TestProvisional_GrantedIDReplacesItsSession on a full hub: a client that was started anew knows
// its id, and no secret.
func TestProvisional_GrantedIDReplacesItsSession(t *testing.T) {
	h := start(t, hub.Config{MaxClients: 1, Admit: door(map[string]*hub.Grant{
		"alice": {Subject: "alice", ID: 5}, "bob": {Subject: "bob", ID: 6},
	})})
	first := h.show(t, "alice")
	h.turnedAway(t, hub.RefusedFull, wire.Hello{Version: wire.Version2, Token: "bob"})
	second := h.show(t, "alice")
	first.sentAway(wire.GoAwayTakenOver)
	second.delivered(5, second.tell([]byte("x"), 0, 0, 5), []byte("x"))
}

// TestProvisional_Bounded floods a full hub with connections that say nothing: there are never more
// than so many of them, none for longer than the time for a HELLO, and they do not keep a client
// from coming back once they have had half a second.
func TestProvisional_Bounded(t *testing.T) {
	const maxProvisional, timeout, least = 64, 3 * time.Second, 500 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		h := startOn(t, hub.Config{MaxClients: 1}, ln)
		g := greet(virtual(t, ln), wire.Hello{Version: wire.Version2})
		began := time.Now()
		strangers := make([]*peer, maxProvisional)
		for i := range strangers {
			strangers[i] = virtual(t, ln)
		}
		virtual(t, ln).closed()
		if took := time.Since(began); took != 0 {
			t.Errorf("one too many was refused after %v", took)
		}
		<-time.After(least + 1)
		back := virtual(t, ln)
		strangers[0].closed()
		if took := time.Since(began); took != least+1 {
			t.Errorf("the oldest stranger gave way after %v", took)
		}
		again := greet(back, wire.Hello{Version: wire.Version2, ID: g.ID, Resume: g.Resume})
		if !again.Resumed {
			t.Errorf("came back as %+v", again.Welcome)
		}
		for _, p := range strangers[1:] {
			_, _ = io.Copy(io.Discard, p) // until the hub ends it
		}
		if took := time.Since(began); took != timeout {
			t.Errorf("strangers were refused after %v, want %v", took, timeout)
		}
		if n := h.Stats().Refused[hub.RefusedFull]; n != maxProvisional+1 {
			t.Errorf("%d refused, want %d", n, maxProvisional+1)
		}
	})
}
