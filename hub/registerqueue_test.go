package hub_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// A connection that says nothing is not registered before the first of these times, and is after both.
const (
	registerDelay = time.Second
	registerSlack = 10 * time.Millisecond
)

// presenceChecker is a client of version 2 that watches, and tries to reach whoever connects.
type presenceChecker struct {
	*clientV2
	t *testing.T
	h *testHub
}

// startPresenceChecker connects an observer in virtual time. It has had the first PRESENCE when it returns.
func startPresenceChecker(t *testing.T, h *testHub, ln *pipeListener) *presenceChecker {
	t.Helper()
	pc := &presenceChecker{handshakeV2(connectPipe(t, ln), wire.Hello{Version: wire.Version2}), t, h}
	w := pc.startWatch(0)
	w.readUntil(func() bool { return len(w.present) == 1 })
	return pc
}

// expectAlone fails unless the observer is alone, by every way to look: there is no list, count or
// message by which it finds one of ids.
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

// expectPresence reads the next PRESENCE, which comes within the time in which changes are gathered.
func (pc *presenceChecker) expectPresence(joined, left []uint64) {
	pc.t.Helper()
	began := time.Now()
	kind, payload := pc.nextFrame()
	p, err := wire.ParsePresence(payload)
	if kind != wire.TypePresence || err != nil {
		pc.t.Fatalf("a frame of type %#x, want PRESENCE: %v", kind, err)
	}
	if !slices.Equal(p.Joined.AppendTo(nil), joined) || !slices.Equal(p.Left.AppendTo(nil), left) {
		pc.t.Errorf("%v joined and %v left, want %v and %v", p.Joined.AppendTo(nil), p.Left.AppendTo(nil), joined, left)
	}
	if took := time.Since(began); took > 100*time.Millisecond {
		pc.t.Errorf("told after %v", took)
	}
}

// expectNoPresence fails if the observer is told something within the time.
func (pc *presenceChecker) expectNoPresence(d time.Duration) {
	pc.t.Helper()
	<-time.After(d)
	pc.awaitPong() // fails on a frame that is no answer
}

// TestRegisterQueue_SilentClient_IsListedAfterDelay in version 1, which may listen only.
func TestRegisterQueue_SilentClient_IsListedAfterDelay(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
		pc := startPresenceChecker(t, h, ln)
		silent := connectPipe(t, ln)
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

// TestRegisterQueue_FirstFrame_RegistersAtOnce in version 1.
func TestRegisterQueue_FirstFrame_RegistersAtOnce(t *testing.T) {
	for name, frame := range map[string][]byte{
		"identity": wire.AppendIdentityRequest(nil),
		"list":     wire.AppendListRequest(nil),
		"relay":    wire.AppendRelay(nil, []uint64{1000}, []byte("to nobody")),
		"empty":    {0, 0, 0, 0},
		"unknown":  {0, 0, 0, 1, 200},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
				startPresenceChecker(t, h, ln)
				c := connectPipe(t, ln)
				go func() { _, _ = c.Read(make([]byte, 1000)) }() // ends with the answer, or the test
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

// TestRegisterQueue_SlowHello_JoinsOnce lets a HELLO take its time, byte by byte too: until it is whole there
// is no client, and then it is one of version 2 for everybody.
func TestRegisterQueue_SlowHello_JoinsOnce(t *testing.T) {
	for name, pauses := range map[string]func(i int) time.Duration{
		"late":  func(i int) time.Duration { return time.Duration(1-min(i, 1)) * (registerDelay - 1) },
		"drips": func(int) time.Duration { return registerDelay / 100 },
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
				pc := startPresenceChecker(t, h, ln)
				c := connectPipe(t, ln)
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

// TestRegisterQueue_Resume_IsNotAnnounced by those who watch, however long the new connection takes to say
// HELLO: nobody left, and nobody came.
func TestRegisterQueue_Resume_IsNotAnnounced(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
		pc := startPresenceChecker(t, h, ln)
		v2 := handshakeV2(connectPipe(t, ln), wire.Hello{Version: wire.Version2})
		pc.expectPresence([]uint64{v2.ID}, nil)
		for range 3 {
			v2.Close()
			<-time.After(registerDelay)
			c := connectPipe(t, ln)
			<-time.After(registerDelay - 1)
			seq := pc.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, v2.ID)
			v2 = handshakeV2(c, wire.Hello{Version: wire.Version2, ID: v2.ID, Resume: v2.Resume, Received: v2.received})
			if !v2.Resumed {
				t.Fatalf("came back as %+v", v2.Welcome)
			}
			v2.expectDeliver(pc.id, seq, []byte("x"))
			pc.expectReport(seq, wire.FateReceived)
		}
		pc.expectNoPresence(10 * time.Second)
		if n := h.Stats().PeakClients; n != 2 {
			t.Errorf("there were %d clients at one time, want 2", n)
		}
	})
}

// TestRegisterQueue_HealthProbes_AreNoClients connects and closes, as load balancers do to see whether the port
// is open.
func TestRegisterQueue_HealthProbes_AreNoClients(t *testing.T) {
	log := &logBuffer{}
	h := start(t, hub.Config{Logger: log.logger()})
	for n := range uint64(20) {
		h.connect(t).Close()
		h.waitDisconnected(t, hub.CloseLeft, n+1)
	}
	if n := h.Stats().PeakClients; n != 0 {
		t.Errorf("%d clients at one time, want none", n)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	if log.lines.Len() > 0 {
		t.Errorf("logged: %s", &log.lines)
	}
}
