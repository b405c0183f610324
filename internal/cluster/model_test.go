package cluster_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/cluster/membus"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// TestCluster_MatchesModel runs two to four hubs over a network that loses, doubles, delays and
// reorders frames, or is cut. Clients come, go and move, send messages of all kinds, and read or do
// not. Hubs end, crash and start. Each copy arrives once at most, in order, and its fate is true.
// Each message has one report, in time. When the network is right again, all hubs list the same
// clients, and at last all memory is released.
func TestCluster_MatchesModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) { // a bubble has no Deadline
			m := newClusterModel(t)
			t.Repeat(map[string]func(*rapid.T){
				"join":   m.join,
				"leave":  m.leave,
				"move":   m.move,
				"send":   m.send,
				"send2":  m.send, // more often than what disturbs
				"send3":  m.send,
				"block":  m.block,
				"block2": m.block,
				"wait":   m.wait,
				"wait2":  m.waitShort,
				"faults": m.changeFaults,
				"cut":    m.cut,
				"crash":  m.endHub,
				"start":  m.startHub,
				"":       m.check,
			})
			m.end(t)
		})
	})
}

// clusterModel is a world, and what disturbs it.
type clusterModel struct {
	*world
	cuts     [][2]cluster.Node
	isolated []cluster.Node
}

// modelIDList holds the ids that clients can have.
var modelIDList = []uint64{1, 2, 3, 4, 5, 6, 7, 8}

func newClusterModel(t *rapid.T) *clusterModel {
	m := &clusterModel{world: newWorld(t, rapid.Uint64().Draw(t, "seed"))}
	for range rapid.IntRange(2, 4).Draw(t, "hubs") {
		m.start(t)
	}
	for _, id := range modelIDList {
		rapid.SampledFrom(m.hubs).Draw(t, "hub").join(id)
	}
	pass(time.Second)
	return m
}

// pass lets virtual time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (m *clusterModel) start(t *rapid.T) {
	m.world.startHub(rapid.SampledFrom([]int64{64 << 10, 1 << 20, 64 << 20}).Draw(t, "budget"))
}

func (m *clusterModel) drawID(t *rapid.T) uint64 {
	return rapid.SampledFrom(modelIDList).Draw(t, "id")
}

func (m *clusterModel) join(t *rapid.T) {
	if id := m.drawID(t); len(m.at(id)) == 0 {
		rapid.SampledFrom(m.hubs).Draw(t, "hub").join(id)
	}
}

// at returns the sessions of a client that have not ended.
func (m *clusterModel) at(id uint64) []*worldSession {
	return slices.DeleteFunc(m.sessionsOf(nil), func(s *worldSession) bool { return s.id != id })
}

func (m *clusterModel) leave(t *rapid.T) {
	for _, s := range m.at(m.drawID(t)) {
		s.end()
	}
}

// move connects a client to another hub, perhaps before its old session ends.
func (m *clusterModel) move(t *rapid.T) {
	id := m.drawID(t)
	if rapid.Bool().Draw(t, "leaves") {
		for _, s := range m.at(id) {
			s.end()
		}
	}
	rapid.SampledFrom(m.hubs).Draw(t, "hub").join(id)
}

func (m *clusterModel) send(t *rapid.T) {
	sessions := m.sessionsOf(nil)
	if len(sessions) == 0 {
		return
	}
	s := rapid.SampledFrom(sessions).Draw(t, "sender")
	level := wire.Level(rapid.IntRange(0, 3).Draw(t, "level"))
	overflow := wire.Overflow(rapid.IntRange(0, 2).Draw(t, "overflow"))
	options := relay.Options{IsSend: true, Wire: wire.MakeOptions(level, overflow)}
	if rapid.Bool().Draw(t, "timeout") {
		options.Wire = options.Wire.WithReportTimeout(time.Duration(rapid.IntRange(1, 20).Draw(t, "units")) * 100 * time.Millisecond)
	}
	if rapid.Bool().Draw(t, "expires") {
		options.Expires = time.Now().Add(time.Duration(rapid.IntRange(1, 3000).Draw(t, "ttl")) * time.Millisecond).UnixNano()
	}
	size := rapid.SampledFrom([]int{8, 1000, 10_000, 300_000, 900_000}).Draw(t, "size")
	n := 1
	if !options.Unbatchable() && size < 100_000 { // as hubs make batches
		n = rapid.IntRange(1, 5).Draw(t, "messages")
	}
	receivers := rapid.SampledFrom([]int{1, 3, len(modelIDList)}).Draw(t, "receivers")
	to := rapid.Permutation(modelIDList).Draw(t, "to")[:receivers]
	for range rapid.SampledFrom([]int{1, 5, 30}).Draw(t, "batches") {
		s.send(options, n, size, to...)
	}
}

func (m *clusterModel) block(t *rapid.T) {
	share := rapid.IntRange(0, 2).Draw(t, "blocked")
	for i, s := range m.sessionsOf(nil) {
		s.conn.setBlocked(i%2 < share)
	}
}

func (m *clusterModel) wait(t *rapid.T) {
	pass(time.Duration(rapid.IntRange(1, 6000).Draw(t, "ms")) * time.Millisecond)
}

func (m *clusterModel) waitShort(t *rapid.T) {
	pass(time.Duration(rapid.IntRange(1, 5000).Draw(t, "µs")) * time.Microsecond)
}

func (m *clusterModel) changeFaults(t *rapid.T) {
	m.bus.SetFaults(membus.Faults{
		Loss:        rapid.Float64Range(0, 0.2).Draw(t, "loss"),
		Duplication: rapid.Float64Range(0, 0.2).Draw(t, "duplication"),
		Reorder:     rapid.Float64Range(0, 0.2).Draw(t, "reorder"),
		MaxDelay:    time.Duration(rapid.IntRange(0, 50).Draw(t, "delay")) * time.Millisecond,
	})
}

// cut cuts hubs off, or heals everything.
func (m *clusterModel) cut(t *rapid.T) {
	one, other := rapid.SampledFrom(m.hubs).Draw(t, "one").node, rapid.SampledFrom(m.hubs).Draw(t, "other").node
	switch {
	case len(m.cuts)+len(m.isolated) > 0 && rapid.Bool().Draw(t, "heal"):
		m.heal()
	case one == other:
		m.bus.Isolate(one)
		m.isolated = append(m.isolated, one)
	default:
		m.bus.Cut(one, other)
		m.cuts = append(m.cuts, [2]cluster.Node{one, other})
	}
}

func (m *clusterModel) heal() {
	for _, c := range m.cuts {
		m.bus.Heal(c[0], c[1])
	}
	for _, node := range m.isolated {
		m.bus.Rejoin(node)
	}
	m.cuts, m.isolated = nil, nil
}

func (m *clusterModel) endHub(t *rapid.T) {
	if len(m.hubs) > 1 {
		m.world.endHub(rapid.SampledFrom(m.hubs).Draw(t, "hub"), rapid.Bool().Draw(t, "crash"))
	}
}

func (m *clusterModel) startHub(t *rapid.T) {
	if len(m.hubs) < 4 {
		m.start(t)
	}
}

func (m *clusterModel) check(*rapid.T) {
	synctest.Wait()
	m.acknowledge()
	m.world.check()
}

// end ends all faults, waits until nothing can come any more, and checks everything.
func (m *clusterModel) end(t *rapid.T) {
	m.heal()
	m.bus.SetFaults(membus.Faults{})
	pass(6 * time.Second)
	m.check(t)
	m.checkLists(t)
	for _, s := range m.sessionsOf(nil) {
		s.conn.setBlocked(false)
	}
	for range 400 { // clients acknowledge in between
		if pass(50 * time.Millisecond); m.isOver() {
			break
		}
		m.check(t)
	}
	pass(time.Second) // nothing more must come

	m.checkMessages(t)
	for len(m.hubs) > 0 {
		h := m.hubs[0]
		m.world.endHub(h, rapid.Bool().Draw(t, "crash"))
		synctest.Wait()
		h.timers.Wait()
		if used, _ := h.budget.Used(); used != 0 {
			t.Errorf("%d bytes of hub %d are not released", used, h.node)
		}
	}
	m.check(t)
	if used, _ := m.sendings.Used(); used != 0 {
		t.Errorf("%d bytes that were sent are not released", used)
	}
}

// isOver reports whether nothing is to come: no sender is blocked, and no report is due.
func (m *clusterModel) isOver() bool {
	m.acknowledge()
	m.mu.Lock()
	defer m.mu.Unlock()
	return !slices.ContainsFunc(m.offers, func(o *worldOffer) bool { return o.unblocked == 0 }) &&
		!slices.ContainsFunc(m.sent, func(msg *worldMessage) bool { return msg.fates == nil && msg.level != wire.LevelNone })
}

// checkLists compares the lists of all hubs with the clients that are connected.
func (m *clusterModel) checkLists(t *rapid.T) {
	var want []uint64
	for _, s := range m.sessionsOf(nil) {
		want = append(want, s.id)
	}
	slices.Sort(want)
	if !slices.Equal(slices.Compact(slices.Clone(want)), want) {
		t.Errorf("clients %d are connected, some twice", want)
	}
	for _, h := range m.hubs {
		if got := h.registry.IDs(); !slices.Equal(got, want) {
			t.Errorf("hub %d lists %d, want %d", h.node, got, want)
		}
		for _, info := range h.cluster.Hubs() {
			if info.Sender.UnderWay < 0 {
				t.Errorf("hub %d: %+v", h.node, info)
			}
		}
	}
}

// checkMessages checks the fates of all messages, and that nothing blocks any sender.
func (m *clusterModel) checkMessages(t *rapid.T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, o := range m.offers {
		if o.unblocked != 1 {
			t.Errorf("batch %d is unblocked %d times", i, o.unblocked)
		}
	}
	for _, msg := range m.sent {
		m.checkMessage(t, msg)
	}
}

func (m *clusterModel) checkMessage(t *rapid.T, msg *worldMessage) {
	for id, n := range msg.delivered {
		if n != 1 {
			t.Errorf("message %d of session %d arrives %d times at %d", msg.seq, msg.sender.number, n, id)
		}
	}
	if msg.level == wire.LevelNone {
		return
	}
	const remoteGrace, slack = time.Second, time.Millisecond
	if late := msg.reportedAt.Sub(msg.reportBy); msg.fates == nil || late > remoteGrace+slack {
		t.Errorf("message %d of session %d has the fates %v, %v after its timeout", msg.seq, msg.sender.number, msg.fates, late)
	}
	for i, fate := range msg.fates {
		delivered := msg.delivered[msg.receivers[i]]
		switch fate {
		case wire.FateWritten, wire.FateReceived, wire.FateProcessed:
			if delivered != 1 {
				t.Errorf("message %d of session %d has the fate %v at %d, and did not arrive", msg.seq, msg.sender.number, fate, msg.receivers[i])
			}
		case wire.FatePending, wire.FateQueued, wire.FateUncertain:
		default:
			if delivered != 0 {
				t.Errorf("message %d of session %d has the fate %v at %d, and arrives", msg.seq, msg.sender.number, fate, msg.receivers[i])
			}
		}
	}
}
