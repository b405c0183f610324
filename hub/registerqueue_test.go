package hub_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// A silent connection is not registered before registerDelay, and is registered after both
// times.
const (
	registerDelay = time.Second
	registerSlack = 10 * time.Millisecond
)

// presenceChecker is a version 2 client that watches presence and tries to reach other
// clients.
type presenceChecker struct {
	*clientV2
	t *testing.T
	h *testHub
}

// startPresenceChecker connects a presenceChecker in virtual time, and reads its first
// PRESENCE.
func startPresenceChecker(t *testing.T, h *testHub) *presenceChecker {
	t.Helper()
	pc := &presenceChecker{h.connectHello(t, wire.Hello{Version: wire.Version2}), t, h}
	w := pc.startWatch(0)
	w.readUntil(func() bool { return len(w.present) == 1 })
	return pc
}

// expectAlone fails unless the client is alone by every way to find out: no list, count or
// message shows one of ids.
func (pc *presenceChecker) expectAlone(ids ...uint64) {
	pc.t.Helper()
	synctest.Wait()
	if listed := pc.requestPage(0, 0); !slices.Equal(listed, []uint64{pc.id}) || pc.h.Stats().Clients != 1 {
		pc.t.Errorf("listed: %v, %d clients", listed, pc.h.Stats().Clients)
	}
	for _, id := range ids {
		pc.expectReport(pc.sendMessage([]byte("?"), levelOptions(wire.LevelWritten), 0, id), wire.FateUnknown)
		if _, ok := pc.h.Client(id); ok {
			pc.t.Errorf("the hub knows client %d", id)
		}
	}
}

// expectPresence reads the next PRESENCE, which must come within the time for which the hub
// gathers changes.
func (pc *presenceChecker) expectPresence(joined, left []uint64) {
	pc.t.Helper()
	began := time.Now()
	kind, payload := pc.nextFrame()
	p, err := wire.ParsePresence(payload)
	if kind != wire.TypePresence || err != nil {
		pc.t.Fatalf("got frame type %#x, want PRESENCE: %v", kind, err)
	}
	if !slices.Equal(p.Joined.AppendTo(nil), joined) || !slices.Equal(p.Left.AppendTo(nil), left) {
		pc.t.Errorf("%v joined and %v left, want %v and %v", p.Joined.AppendTo(nil), p.Left.AppendTo(nil), joined, left)
	}
	if took := time.Since(began); took > 100*time.Millisecond {
		pc.t.Errorf("PRESENCE after %v", took)
	}
}

// expectNoPresence fails if the client gets a PRESENCE within d.
func (pc *presenceChecker) expectNoPresence(d time.Duration) {
	pc.t.Helper()
	<-time.After(d)
	pc.awaitPong() // fails on any other frame
}

// TestRegisterQueue_SilentClient_IsListedAfterDelay connects a client of version 1 that only
// receives.
func TestRegisterQueue_SilentClient_IsListedAfterDelay(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		pc := startPresenceChecker(t, h)
		silent := h.connect(t)
		<-time.After(registerDelay - 1)
		pc.expectAlone(2, 3, 4)
		<-time.After(1 + registerSlack)
		synctest.Wait()
		ids := pc.requestPage(0, 0)
		silent.id = ids[slices.IndexFunc(ids, func(id uint64) bool { return id != pc.id })]
		pc.expectPresence([]uint64{silent.id}, nil)
		seq := pc.sendMessage([]byte("hello"), levelOptions(wire.LevelWritten), 0, silent.id)
		silent.expectRelay([]byte("hello"))
		pc.expectReport(seq, wire.FateWritten)
		silent.fence()
	})
}

// TestRegisterQueue_FirstFrame_RegistersAtOnce sends a first frame of version 1.
func TestRegisterQueue_FirstFrame_RegistersAtOnce(t *testing.T) {
	for name, frame := range map[string][]byte{
		"identity": wire.AppendIdentityRequest(nil),
		"list":     wire.AppendListRequest(nil),
		"relay":    wire.AppendRelay(nil, []uint64{1000}, []byte("unknown id")),
		"empty":    {0, 0, 0, 0},
		"unknown":  {0, 0, 0, 1, 200},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, h *testHub) {
				startPresenceChecker(t, h)
				c := h.connect(t)
				go func() { _, _ = c.Read(make([]byte, 1000)) }() // ends with the reply, or the test
				began := time.Now()
				c.send(frame)
				synctest.Wait()
				if n := h.Stats().Clients; n != 2 || time.Since(began) != 0 {
					t.Errorf("%d clients after %v, want 2 at once", n, time.Since(began))
				}
			})
		})
	}
}

// TestRegisterQueue_SlowHello_JoinsOnce sends HELLO slowly, also byte by byte: until HELLO is
// whole the client is not registered, and afterwards it is a version 2 client for all others.
func TestRegisterQueue_SlowHello_JoinsOnce(t *testing.T) {
	for name, pauses := range map[string]func(i int) time.Duration{
		"late":  func(i int) time.Duration { return time.Duration(1-min(i, 1)) * (registerDelay - 1) },
		"drips": func(int) time.Duration { return registerDelay / 100 },
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, h *testHub) {
				pc := startPresenceChecker(t, h)
				c := h.connect(t)
				hello := wire.AppendHello(nil, &wire.Hello{Version: wire.Version2})
				for i := range hello {
					<-time.After(pauses(i))
					pc.expectAlone(2, 3, 4)
					c.send(hello[i : i+1])
				}
				_, payload := c.mustReadFrame()
				w, err := wire.ParseWelcome(payload)
				if err != nil {
					t.Fatal(err)
				}
				v2 := &clientV2{clientV1: c, Welcome: w}
				pc.expectPresence([]uint64{w.ID}, nil)
				seq := pc.sendMessage([]byte("welcome"), levelOptions(wire.LevelReceived), 0, w.ID)
				v2.expectDeliver(pc.id, seq, []byte("welcome"))
				pc.expectReport(seq, wire.FateReceived)
				pc.expectNoPresence(10 * time.Second)
			})
		})
	}
}

// TestRegisterQueue_Resume_IsNotAnnounced resumes a session on a connection that is slow to
// send HELLO: presence watchers learn of no client that left or joined.
func TestRegisterQueue_Resume_IsNotAnnounced(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		pc := startPresenceChecker(t, h)
		v2 := h.connectHello(t, wire.Hello{Version: wire.Version2})
		pc.expectPresence([]uint64{v2.ID}, nil)
		for range 3 {
			v2.Close()
			<-time.After(registerDelay)
			c := h.connect(t)
			<-time.After(registerDelay - 1)
			seq := pc.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, v2.ID)
			v2 = handshakeV2(c, wire.Hello{Version: wire.Version2, ID: v2.ID, Resume: v2.Resume, Received: v2.received})
			if !v2.Resumed {
				t.Fatalf("resumed as %+v", v2.Welcome)
			}
			v2.expectDeliver(pc.id, seq, []byte("x"))
			pc.expectReport(seq, wire.FateReceived)
		}
		pc.expectNoPresence(10 * time.Second)
		if n := h.Stats().PeakClients; n != 2 {
			t.Errorf("peak of %d clients, want 2", n)
		}
	})
}

// TestRegisterQueue_HealthProbes_AreNoClients connects and closes, as load balancers do to
// check whether the port is open.
func TestRegisterQueue_HealthProbes_AreNoClients(t *testing.T) {
	log := &logBuffer{}
	h := start(t, hub.Config{Logger: log.logger()})
	for n := range uint64(20) {
		h.connect(t).Close()
		h.waitDisconnected(t, hub.CloseLeft, n+1)
	}
	if n := h.Stats().PeakClients; n != 0 {
		t.Errorf("peak of %d clients, want none", n)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if log.lines.Len() > 0 {
		t.Errorf("logged: %s", &log.lines)
	}
}
