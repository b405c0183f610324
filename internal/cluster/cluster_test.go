package cluster_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// inWorld runs a test in virtual time, with hubs that know each other.
func inWorld(t *testing.T, hubs int, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		for range hubs {
			w.startHub(64 << 20)
		}
		pass(time.Second)
		test(t, w)
		for len(w.hubs) > 0 {
			h := w.hubs[0]
			w.endHub(h, false)
			h.timers.Wait()
		}
		w.check()
	})
}

func levelOptions(level wire.Level) relay.Options {
	return relay.Options{IsSend: true, Wire: wire.MakeOptions(level, wire.OverflowBlock)}
}

func wantLists(t *testing.T, w *world, want ...uint64) {
	t.Helper()
	for _, h := range w.hubs {
		if got := h.registry.IDs(); !slices.Equal(got, want) {
			t.Errorf("hub %d lists %d, want %d", h.node, got, want)
		}
	}
}

// wantFates checks the report of a message, after a second.
func wantFates(t *testing.T, w *world, m *worldMessage, want ...wire.Fate) {
	t.Helper()
	pass(10 * time.Millisecond)
	w.acknowledge()
	pass(time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(m.fates, want) {
		t.Errorf("the fates are %v, want %v", m.fates, want)
	}
}

func TestCluster_Fates(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		a := w.hubs[0].join(1)
		w.hubs[1].join(2)
		w.hubs[2].join(3)
		pass(time.Second)
		wantLists(t, w, 1, 2, 3)
		wantFates(t, w, a.send(levelOptions(wire.LevelWritten), 1, 100, 3, 1, 9, 2)[0],
			wire.FateWritten, wire.FateWritten, wire.FateUnknown, wire.FateWritten)
		wantFates(t, w, a.send(levelOptions(wire.LevelReceived), 1, 100_000, 2, 3)[0], wire.FateReceived, wire.FateReceived)
	})
}

// TestCluster_ReceiverMoves sends to a client that has just moved to a third hub, before and after
// the other hubs have heard of it.
func TestCluster_ReceiverMoves(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		a, b := w.hubs[0].join(1), w.hubs[1].join(2)
		pass(time.Second)
		b.end()
		w.hubs[2].join(2)
		wantFates(t, w, a.send(levelOptions(wire.LevelWritten), 1, 100, 2)[0], wire.FateUnknown)
		wantFates(t, w, a.send(levelOptions(wire.LevelWritten), 1, 100, 2)[0], wire.FateWritten)
	})
}

// TestCluster_Claims_Converge connects a client to two hubs, one after the other or at the same
// time. The later connection stays, of two at the same time that at the hub with the larger number,
// and a third hub finds it.
func TestCluster_Claims_Converge(t *testing.T) {
	for _, between := range []time.Duration{0, time.Microsecond, 50 * time.Millisecond, time.Second} {
		inWorld(t, 3, func(t *testing.T, w *world) {
			first := w.hubs[1].join(5)
			if between > 0 {
				pass(between)
			}
			second := w.hubs[0].join(5)
			a := w.hubs[2].join(1)
			pass(time.Second)
			winner := second
			if between == 0 {
				winner = first
			}
			if sessions := w.sessionsOf(nil); len(sessions) != 2 || !slices.Contains(sessions, winner) {
				t.Errorf("after %v, the sessions are %v", between, sessions)
			}
			wantLists(t, w, 1, 5)
			m := a.send(levelOptions(wire.LevelReceived), 1, 10, 5)[0]
			wantFates(t, w, m, wire.FateReceived)
			for _, h := range w.hubs {
				if isHere := h.session(5) != nil; isHere != (h == winner.hub) {
					t.Errorf("after %v, hub %d has the client: %v", between, h.node, isHere)
				}
			}
		})
	}
}

// TestCluster_Lost_Unreachable cuts a hub off. When it has crashed, its clients stay unreachable,
// and when it comes back they are listed again.
func TestCluster_Lost_Unreachable(t *testing.T) {
	for _, crash := range []bool{false, true} {
		inWorld(t, 3, func(t *testing.T, w *world) {
			a, b, c := w.hubs[0].join(1), w.hubs[1].join(2), w.hubs[2].join(3)
			pass(time.Second)
			lost := c.hub
			if crash {
				w.endHub(lost, true)
			} else {
				w.bus.Isolate(lost.node)
			}
			m := a.send(levelOptions(wire.LevelReceived), 1, 10, 2, 3)[0]
			pass(10 * time.Millisecond)
			w.acknowledge()
			pass(6 * time.Second)
			if ids := a.hub.registry.IDs(); !slices.Equal(ids, []uint64{1, 2}) {
				t.Errorf("6 s later, the list is %d", ids)
			}
			if want := []wire.Fate{wire.FateReceived, wire.FateUncertain}; !slices.Equal(m.fates, want) {
				t.Errorf("the fates are %v, want %v", m.fates, want)
			}
			wantFates(t, w, a.send(levelOptions(wire.LevelReceived), 1, 10, 3, 2)[0], wire.FateUnreachable, wire.FateReceived)
			if !crash {
				if ids := c.hub.registry.IDs(); !slices.Equal(ids, []uint64{3}) {
					t.Errorf("the hub that is cut off lists %d", ids)
				}
				w.bus.Rejoin(lost.node)
				pass(4 * time.Second)
				wantLists(t, w, 1, 2, 3)
				wantFates(t, w, b.send(levelOptions(wire.LevelReceived), 1, 10, 3)[0], wire.FateReceived)
			}
		})
	}
}

// TestCluster_Leave_Unknown has a hub leave: its clients are gone at once.
func TestCluster_Leave_Unknown(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		a := w.hubs[0].join(1)
		w.hubs[1].join(2)
		pass(time.Second)
		w.endHub(w.hubs[1], false)
		synctest.Wait()
		wantLists(t, w, 1)
		if n := len(w.hubs[0].cluster.Hubs()); n != 1 {
			t.Errorf("%d hubs are known", n)
		}
		wantFates(t, w, a.send(levelOptions(wire.LevelReceived), 1, 10, 2)[0], wire.FateUnknown)
	})
}

// TestCluster_Close_Drains sends much just before the end of the hub. All of it arrives.
func TestCluster_Close_Drains(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		a := w.hubs[0].join(1)
		w.hubs[1].join(2)
		pass(time.Second)
		var sent []*worldMessage
		for range 30 {
			sent = append(sent, a.send(levelOptions(wire.LevelNone), 1, 300_000, 2)...)
		}
		h := a.hub
		go func() { // until Close returns
			for range 100 {
				<-time.After(5 * time.Millisecond)
				w.acknowledge()
			}
		}()
		h.cluster.Close(nil)
		for i, m := range sent {
			w.mu.Lock()
			if m.delivered[2] != 1 {
				t.Errorf("message %d arrives %d times", i, m.delivered[2])
			}
			w.mu.Unlock()
		}
		pass(time.Second)
		w.hubs = slices.DeleteFunc(w.hubs, func(other *worldHub) bool { return other == h })
		after := a.send(levelOptions(wire.LevelWritten), 1, 10, 2)[0] // of the hub that has ended
		wantFates(t, w, after, wire.FateUnknown)
		h.carrier.Close()
		a.end()
		h.timers.Wait()
	})
}

// TestCluster_Close_WaitsNotLong ends a hub while another one does not answer.
func TestCluster_Close_WaitsNotLong(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		a, b := w.hubs[0].join(1), w.hubs[1].join(2)
		pass(time.Second)
		b.conn.setBlocked(true)
		for range 10 {
			a.send(levelOptions(wire.LevelNone), 1, 300_000, 2)
		}
		begun := time.Now()
		h := a.hub
		w.hubs = w.hubs[1:]
		h.cluster.Close(nil)
		if took := time.Since(begun); took > 6*time.Second || took < 4*time.Second {
			t.Errorf("Close takes %v", took)
		}
		a.end()
		h.carrier.Close()
		h.timers.Wait()
	})
}

// TestCluster_OtherKey keeps hubs of another cluster out.
func TestCluster_OtherKey(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		w.startHubAt(9, w.bus.Join(9), 1<<20, "other key")
		pass(10 * time.Second)
		for _, h := range w.hubs {
			want := 2
			if h.node == 9 {
				want = 1
			}
			if hubs := h.cluster.Hubs(); len(hubs) != want || !slices.IsSortedFunc(hubs, func(a, b cluster.Info) int { return int(a.Node) - int(b.Node) }) {
				t.Errorf("hub %d knows %+v", h.node, hubs)
			}
		}
	})
}

// TestCluster_SlowReceiver_LeavesOthersAlone has one receiver at the other hub read nothing.
// Another one gets everything meanwhile, and the memory at the other hub is bounded.
func TestCluster_SlowReceiver_LeavesOthersAlone(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		a := w.hubs[0].join(1)
		slow, fast := w.hubs[1].join(2), w.hubs[1].join(3)
		pass(time.Second)
		slow.conn.setBlocked(true)
		for range 40 {
			a.send(levelOptions(wire.LevelNone), 1, 300_000, 2)
		}
		pass(time.Second)
		var sent []*worldMessage
		for range 40 {
			sent = append(sent, a.send(levelOptions(wire.LevelNone), 1, 300_000, fast.id)...)
			pass(5 * time.Millisecond)
			w.acknowledge()
		}
		pass(time.Second)
		w.mu.Lock()
		for i, m := range sent {
			if m.delivered[3] != 1 {
				t.Errorf("message %d to the fast receiver arrives %d times", i, m.delivered[3])
			}
		}
		w.mu.Unlock()
		if used, _ := slow.hub.budget.Used(); used > 4<<20 {
			t.Errorf("%d bytes are held for the slow receiver", used)
		}
	})
}

// TestCluster_SlowReceivers_LeaveOthersAlone has several receivers at the other hub read nothing.
// What is sent to another one arrives meanwhile, small and large.
func TestCluster_SlowReceivers_LeaveOthersAlone(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		a := w.hubs[0].join(1)
		fast := w.hubs[1].join(2)
		const slow = 10
		for id := range uint64(slow) {
			w.hubs[1].join(10 + id).conn.setBlocked(true)
		}
		pass(time.Second)
		for id := range uint64(slow) {
			for range 20 {
				a.send(levelOptions(wire.LevelNone), 1, 300_000, 10+id)
			}
		}
		pass(time.Second)
		var sent []*worldMessage
		for _, size := range []int{900_000, 10} {
			sent = append(sent, a.send(levelOptions(wire.LevelNone), 1, size, fast.id)...)
		}
		pass(time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		for i, m := range sent {
			if m.delivered[fast.id] != 1 {
				t.Errorf("message %d to the fast receiver arrives %d times", i, m.delivered[fast.id])
			}
		}
	})
}
