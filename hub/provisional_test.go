package hub_test

import (
	"io"
	"slices"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// fullConfigs are configurations with room for three clients.
var fullConfigs = map[hub.RejectReason]hub.Config{
	hub.RejectFull:    {MaxClients: 3, ResumeWindow: time.Hour},
	hub.RejectAddress: {MaxPerAddress: 3, ResumeWindow: time.Hour},
}

// startFull starts a hub with that configuration, and connects as many clients as it has room
// for.
func startFull(t *testing.T, tr testTransport, config hub.Config) (*testHub, []*clientV2) {
	t.Helper()
	h := tr.start(t, config)
	return h, []*clientV2{h.connectV2(t), h.connectV2(t), h.connectV2(t)}
}

// TestProvisional_FullHub_AdmitsResume resumes all sessions of a full hub, first detached and
// then while their connections are still open: each finds room.
func TestProvisional_FullHub_AdmitsResume(t *testing.T) {
	for reason, config := range fullConfigs {
		t.Run(reason.String(), func(t *testing.T) {
			onAllTransports(t, func(t *testing.T, tr testTransport) {
				h, clients := startFull(t, tr, config)
				for _, c := range clients {
					c.reset()
				}
				h.waitAllDetached(t)
				if reason == hub.RejectFull { // detached sessions do not count for Config.MaxPerAddress
					h.expectBusy(t, reason, wire.Hello{Version: wire.Version2})
				} else {
					clients = append(clients, h.connectV2(t), h.connectV2(t), h.connectV2(t))
				}
				for range 2 { // the second time while they are connected
					for i, c := range clients {
						if clients[i] = h.resume(t, c); !clients[i].Resumed {
							t.Fatalf("client %d resumed as %+v", c.ID, clients[i].Welcome)
						}
					}
				}
				h.expectBusy(t, reason, wire.Hello{Version: wire.Version2})
				if n := h.Stats().Clients; n != len(clients) {
					t.Errorf("%d clients, want %d", n, len(clients))
				}
			})
		})
	}
}

// waitAllDetached waits until all sessions are detached.
func (h *testHub) waitAllDetached(t testing.TB) {
	t.Helper()
	eventually(t, "detached", func() bool {
		return !slices.ContainsFunc(h.Clients(0, 1000), func(c hub.ClientInfo) bool { return !c.Detached })
	})
}

// expectBusy connects, sends HELLO, and is told that the hub has no room.
func (h *testHub) expectBusy(t testing.TB, reason hub.RejectReason, hello wire.Hello) {
	t.Helper()
	before := h.Stats().Rejected[reason]
	c := &clientV2{clientV1: h.connect(t)}
	c.send(wire.AppendHello(nil, &hello))
	if away := c.expectGoAway(wire.GoAwayBusy); !away.Reconnect || away.After == 0 || away.Reason != reason.String() {
		t.Errorf("got %+v, want to reconnect later", away)
	}
	if n := h.Stats().Rejected[reason]; n != before+1 {
		t.Errorf("%d counted, want %d", n, before+1)
	}
}

// TestProvisional_FullHub_RejectsNewClients sends every kind of first frame to a full hub.
func TestProvisional_FullHub_RejectsNewClients(t *testing.T) {
	t.Parallel() // it mostly waits
	for reason, config := range fullConfigs {
		t.Run(reason.String(), func(t *testing.T) {
			t.Parallel() // a silent connection is rejected after three seconds
			onTransports(t, func(t *testing.T, tr testTransport) {
				h, clients := startFull(t, tr, config)
				known := clients[0]
				for _, hello := range []wire.Hello{
					{Version: wire.Version2},
					{Version: wire.Version2, ID: known.ID, Resume: "guessed"},
					{Version: wire.Version2, ID: known.ID + 1000, Resume: known.Resume},
				} {
					h.expectBusy(t, reason, hello)
				}
				for _, frames := range [][]byte{
					nil,
					wire.AppendIdentityRequest(nil),
					wire.AppendRelay(nil, []uint64{known.ID}, []byte("from a stranger")),
					wire.AppendRelay(nil, []uint64{known.ID}, make([]byte, 100_000))[:20_000],
				} {
					c := h.connect(t)
					c.send(frames)
					c.expectEOF()
				}
				eventually(t, "7 rejected", func() bool { return h.Stats().Rejected[reason] == 7 })
				for _, c := range clients { // the clients are undisturbed
					c.expectDeliver(c.ID, c.sendMessage([]byte("x"), 0, 0, c.ID), []byte("x"))
				}
				if ids := known.requestPage(0, 0); len(ids) != len(clients) {
					t.Errorf("listed: %v", ids)
				}
			})
		})
	}
}

// TestProvisional_GrantedID_ReplacesItsSession connects to a full hub with a granted id and
// without the secret of its session, as a client does that was restarted.
func TestProvisional_GrantedID_ReplacesItsSession(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{MaxClients: 1, Authenticate: tokenAuthenticator(map[string]*hub.Permissions{
			"alice": {Subject: "alice", ID: 5}, "bob": {Subject: "bob", ID: 6},
		})})
		first := h.connectToken(t, "alice")
		h.expectBusy(t, hub.RejectFull, wire.Hello{Version: wire.Version2, Token: "bob"})
		second := h.connectToken(t, "alice")
		first.expectGoAway(wire.GoAwayTakenOver)
		second.expectDeliver(5, second.sendMessage([]byte("x"), 0, 0, 5), []byte("x"))
	})
}

// TestProvisional_CountAndTime_AreBounded floods a full hub with silent connections: there
// are never more than maxProvisional, none lives longer than provisionalTimeout, and after
// minTime they do not keep a client from resuming its session.
func TestProvisional_CountAndTime_AreBounded(t *testing.T) {
	const maxProvisional, provisionalTimeout, minTime = 64, 3 * time.Second, 500 * time.Millisecond
	onMemoryTransports(t, func(t *testing.T, start startFunc) {
		h := start(t, hub.Config{MaxClients: 1})
		v2 := h.connectHello(t, wire.Hello{Version: wire.Version2})
		began := time.Now()
		newcomers := make([]*clientV1, maxProvisional)
		for i := range newcomers {
			newcomers[i] = h.connect(t)
		}
		h.connect(t).expectEOF()
		if took := time.Since(began); took != 0 {
			t.Errorf("the connection above the maximum was rejected after %v, want 0", took)
		}
		<-time.After(minTime + 1)
		back := h.connect(t)
		newcomers[0].expectEOF()
		if took := time.Since(began); took != minTime+1 {
			t.Errorf("the oldest provisional connection was rejected after %v", took)
		}
		again := handshakeV2(back, wire.Hello{Version: wire.Version2, ID: v2.ID, Resume: v2.Resume})
		if !again.Resumed {
			t.Errorf("resumed as %+v", again.Welcome)
		}
		for _, c := range newcomers[1:] {
			_, _ = io.Copy(io.Discard, c) // until the hub closes it
		}
		if took := time.Since(began); took != provisionalTimeout {
			t.Errorf("provisional connections were rejected after %v, want %v", took, provisionalTimeout)
		}
		if n := h.Stats().Rejected[hub.RejectFull]; n != maxProvisional+1 {
			t.Errorf("%d rejected, want %d", n, maxProvisional+1)
		}
	})
}
