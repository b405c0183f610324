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
	registerAfter = time.Second
	registerSlack = 10 * time.Millisecond
)

// observer is a client of version 2 that watches, and tries to reach whoever connects.
type observer struct {
	*guest
	t *testing.T
	h *testHub
}

// observe connects an observer in virtual time. It has had the first PRESENCE when it returns.
func observe(t *testing.T, h *testHub, ln *pipes) *observer {
	t.Helper()
	o := &observer{greet(virtual(t, ln), wire.Hello{Version: wire.Version2}), t, h}
	w := o.watch(0)
	w.follow(func() bool { return len(w.there) == 1 })
	return o
}

// nobody fails unless the observer is alone, by every way to look: there is no list, count or
// message by which it finds one of ids.
func (o *observer) nobody(ids ...uint64) {
	o.t.Helper()
	synctest.Wait()
	if listed := o.page(0, 0); !slices.Equal(listed, []uint64{o.id}) || o.h.Stats().Clients != 1 {
		o.t.Errorf("listed: %v, %d clients", listed, o.h.Stats().Clients)
	}
	for _, id := range ids {
		o.reported(o.tell([]byte("?"), only(wire.LevelWritten), 0, id), wire.FateUnknown)
		if _, there := o.h.Client(id); there {
			o.t.Errorf("the hub knows client %d", id)
		}
	}
}

// sees reads the next PRESENCE, which comes within the time in which changes are gathered.
func (o *observer) sees(joined, left []uint64) {
	o.t.Helper()
	began := time.Now()
	kind, payload := o.read()
	p, err := wire.ParsePresence(payload)
	if kind != wire.TypePresence || err != nil {
		o.t.Fatalf("a frame of type %#x, want PRESENCE: %v", kind, err)
	}
	if !slices.Equal(p.Joined.AppendTo(nil), joined) || !slices.Equal(p.Left.AppendTo(nil), left) {
		o.t.Errorf("%v joined and %v left, want %v and %v", p.Joined.AppendTo(nil), p.Left.AppendTo(nil), joined, left)
	}
	if took := time.Since(began); took > 100*time.Millisecond {
		o.t.Errorf("told after %v", took)
	}
}

// quiet fails if the observer is told something within the time.
func (o *observer) quiet(d time.Duration) {
	o.t.Helper()
	<-time.After(d)
	o.catchUp() // fails on a frame that is no answer
}

// TestUnregistered_SilentClientIsFoundAfterASecond in version 1, which may listen only.
func TestUnregistered_SilentClientIsFoundAfterASecond(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		o := observe(t, h, ln)
		silent := virtual(t, ln)
		<-time.After(registerAfter - 1)
		o.nobody(2, 3, 4)
		<-time.After(1 + registerSlack)
		synctest.Wait()
		ids := o.page(0, 0)
		silent.id = ids[slices.IndexFunc(ids, func(id uint64) bool { return id != o.id })]
		o.sees([]uint64{silent.id}, nil)
		seq := o.tell([]byte("hello"), only(wire.LevelWritten), 0, silent.id)
		silent.hears([]byte("hello"))
		o.reported(seq, wire.FateWritten)
		silent.fence()
	})
}

// TestUnregistered_FirstFrameRegistersAtOnce in version 1.
func TestUnregistered_FirstFrameRegistersAtOnce(t *testing.T) {
	for name, frame := range map[string][]byte{
		"identity": wire.AppendIdentityRequest(nil),
		"list":     wire.AppendListRequest(nil),
		"relay":    wire.AppendRelay(nil, []uint64{1000}, []byte("to nobody")),
		"empty":    {0, 0, 0, 0},
		"unknown":  {0, 0, 0, 1, 200},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
				observe(t, h, ln)
				p := virtual(t, ln)
				go func() { _, _ = p.Read(make([]byte, 1000)) }() // ends with the answer, or the test
				began := time.Now()
				p.send(frame)
				synctest.Wait()
				if n := h.Stats().Clients; n != 2 || time.Since(began) != 0 {
					t.Errorf("%d clients after %v, want 2 at once", n, time.Since(began))
				}
			})
		})
	}
}

// TestUnregistered_HelloJoinsOnce lets a HELLO take its time, byte by byte too: until it is whole there
// is no client, and then it is one of version 2 for everybody.
func TestUnregistered_HelloJoinsOnce(t *testing.T) {
	for name, pauses := range map[string]func(i int) time.Duration{
		"late":  func(i int) time.Duration { return time.Duration(1-min(i, 1)) * (registerAfter - 1) },
		"drips": func(int) time.Duration { return registerAfter / 100 },
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
				o := observe(t, h, ln)
				p := virtual(t, ln)
				hello := wire.AppendHello(nil, &wire.Hello{Version: wire.Version2})
				for i := range hello {
					<-time.After(pauses(i))
					o.nobody(2, 3, 4)
					p.send(hello[i : i+1])
				}
				_, payload := p.frame()
				w, err := wire.ParseWelcome(payload)
				if err != nil {
					t.Fatal(err)
				}
				g := &guest{peer: p, Welcome: w}
				o.sees([]uint64{w.ID}, nil)
				seq := o.tell([]byte("welcome"), only(wire.LevelReceived), 0, w.ID)
				g.delivered(o.id, seq, []byte("welcome"))
				o.reported(seq, wire.FateReceived)
				o.quiet(10 * time.Second)
			})
		})
	}
}

// TestUnregistered_ResumeIsNotSeen by those who watch, however long the new connection takes to say
// HELLO: nobody left, and nobody came.
func TestUnregistered_ResumeIsNotSeen(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		o := observe(t, h, ln)
		g := greet(virtual(t, ln), wire.Hello{Version: wire.Version2})
		o.sees([]uint64{g.ID}, nil)
		for range 3 {
			g.Close()
			<-time.After(registerAfter)
			p := virtual(t, ln)
			<-time.After(registerAfter - 1)
			seq := o.tell([]byte("x"), only(wire.LevelReceived), 0, g.ID)
			g = greet(p, wire.Hello{Version: wire.Version2, ID: g.ID, Resume: g.Resume, Received: g.had})
			if !g.Resumed {
				t.Fatalf("came back as %+v", g.Welcome)
			}
			g.delivered(o.id, seq, []byte("x"))
			o.reported(seq, wire.FateReceived)
		}
		o.quiet(10 * time.Second)
		if n := h.Stats().PeakClients; n != 2 {
			t.Errorf("there were %d clients at one time, want 2", n)
		}
	})
}

// TestUnregistered_ProbesAreNoClients connects and closes, as load balancers do to see whether the port
// is open.
func TestUnregistered_ProbesAreNoClients(t *testing.T) {
	log := &logbook{}
	h := start(t, hub.Config{Logger: log.logger()})
	for n := range uint64(20) {
		h.silent(t).Close()
		h.disconnected(t, hub.ReasonLeft, n+1)
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
