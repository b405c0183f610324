package hub_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/cluster/clustertest"
	"github.com/sechlol/go-message-hub/internal/cluster/membus"
	"github.com/sechlol/go-message-hub/wire"
)

// testCluster is a cluster of hubs in this process.
type testCluster struct {
	bus     *membus.Bus
	start   startFunc // serves a hub
	hubs    []*testHub
	members []*clustertest.Member
}

// startCluster starts n hubs and waits until they know each other.
func startCluster(t testing.TB, n int, config hub.Config) *testCluster {
	t.Helper()
	return startClusterOn(t, start, n, config)
}

// startClusterOn is startCluster for hubs that start serves.
func startClusterOn(t testing.TB, start startFunc, n int, config hub.Config) *testCluster {
	t.Helper()
	tc := &testCluster{bus: membus.New(1), start: start}
	for range n {
		tc.add(t, config)
	}
	tc.waitComplete(t)
	return tc
}

// add starts one more hub.
func (tc *testCluster) add(t testing.TB, config hub.Config) *testHub {
	t.Helper()
	node := cluster.Node(len(tc.hubs) + 1)
	m := clustertest.Join(t, tc.bus, node)
	config.Cluster, config.Name = m, fmt.Sprintf("hub-%d", node)
	h := tc.start(t, config)
	tc.hubs, tc.members = append(tc.hubs, h), append(tc.members, m)
	return h
}

// waitComplete waits until all hubs know each other.
func (tc *testCluster) waitComplete(t testing.TB) {
	t.Helper()
	for _, h := range tc.hubs {
		eventually(t, "all hubs are up", func() bool { return h.hubsUp() == len(tc.hubs) })
	}
}

// waitKnown waits until each hub knows the clients of all hubs, of which there are n.
func (tc *testCluster) waitKnown(t testing.TB, n int) {
	t.Helper()
	for _, h := range tc.hubs {
		eventually(t, fmt.Sprintf("%d clients are known", n), func() bool { return h.Stats().ClusterClients == n })
	}
}

// hubsUp returns how many hubs of the cluster the hub knows as up, itself included.
func (h *testHub) hubsUp() (up int) {
	for _, info := range h.Hubs() {
		if info.State == "up" {
			up++
		}
	}
	return up
}

// waitListed waits until c has all the ids in its list, and no others but its own.
func waitListed(t testing.TB, c *clientV1, ids ...uint64) {
	t.Helper()
	slices.Sort(ids)
	eventually(t, fmt.Sprintf("the list is %d", ids), func() bool { return slices.Equal(c.requestList(), ids) })
}

func TestCluster_IDsNameTheirHub(t *testing.T) {
	tc := startCluster(t, 2, hub.Config{})
	for i, h := range tc.hubs {
		v1, v2 := h.connectV1(t).requestID(), h.connectV2(t)
		for _, id := range []uint64{v1.id, v2.ID} {
			if id>>63 != 1 || id>>41&(1<<22-1) != uint64(i+1) || id&(1<<41-1) == 0 {
				t.Errorf("hub %d assigns id %#x", i+1, id)
			}
		}
	}
}

// TestCluster_RelaysBetweenVersions sends between clients of both versions at two hubs.
func TestCluster_RelaysBetweenVersions(t *testing.T) {
	tc := startCluster(t, 2, hub.Config{})
	a1, a2 := tc.hubs[0].connectV1(t).requestID(), tc.hubs[0].connectV2(t)
	b1, b2 := tc.hubs[1].connectV1(t).requestID(), tc.hubs[1].connectV2(t)
	waitListed(t, a1, a2.ID, b1.id, b2.ID)
	waitListed(t, b1, a1.id, a2.ID, b2.ID)
	for _, size := range []int{0, 1, 1000, 100_000, 1 << 20} {
		body := pattern(size, 1)
		a1.relay(body, b1.id, a2.ID, b2.ID)
		b1.expectRelay(body)
		a2.expectDeliver(a1.id, 0, body)
		b2.expectDeliver(a1.id, 0, body)
		seq := a2.sendMessage(body, levelOptions(wire.LevelReceived), 0, b2.ID, a1.id, b1.id)
		b2.expectDeliver(a2.ID, seq, body)
		a1.expectRelay(body)
		b1.expectRelay(body)
		a2.expectReport(seq, wire.FateReceived, wire.FateWritten, wire.FateWritten)
	}
}

func TestCluster_FatesComeBack(t *testing.T) {
	tc := startCluster(t, 2, hub.Config{})
	a, b := tc.hubs[0].connectV2(t), tc.hubs[1].connectV2(t)
	tc.waitKnown(t, 2)
	for level, want := range map[wire.Level]wire.Fate{wire.LevelWritten: wire.FateWritten, wire.LevelReceived: wire.FateReceived} {
		seq := a.sendMessage([]byte("x"), levelOptions(level), 0, b.ID, b.ID+1)
		b.expectDeliver(a.ID, seq, []byte("x"))
		a.expectReport(seq, want, wire.FateUnknown)
	}
	seq := a.sendMessage([]byte("x"), levelOptions(wire.LevelProcessed), 0, b.ID)
	b.expectDeliver(a.ID, seq, []byte("x"))
	b.send(wire.AppendVerdicts(nil, []wire.Verdict{{Sender: a.ID, Seq: seq, Fate: wire.FateRejected}}))
	a.expectReport(seq, wire.FateRejected)
}

// TestCluster_LossesOfFramesLoseNothing sends over a bus that loses, doubles, delays and reorders
// frames.
func TestCluster_LossesOfFramesLoseNothing(t *testing.T) {
	tc := startCluster(t, 3, hub.Config{})
	tc.bus.SetFaults(membus.Faults{Loss: 0.05, Duplication: 0.05, Reorder: 0.05, MaxDelay: 3 * time.Millisecond})
	const messages, size = 200, 3000
	var clients []*clientV1
	var ids []uint64
	for _, h := range tc.hubs {
		for range 2 {
			c := h.connectV1(t).requestID()
			clients, ids = append(clients, c), append(ids, c.id)
		}
	}
	for _, c := range clients {
		waitListed(t, c, slices.DeleteFunc(slices.Clone(ids), func(id uint64) bool { return id == c.id })...)
	}
	parallel(t, 2*len(clients), func(i int) error {
		c := clients[i/2]
		if i%2 == 0 {
			return c.sendNumbered(slices.DeleteFunc(slices.Clone(ids), func(id uint64) bool { return id == c.id }), messages, size)
		}
		return c.readAllNumbered(len(clients)-1, messages, size)
	})
}

// readAllNumbered reads numbered messages of several senders. Those of each sender must come in
// order.
func (c *clientV1) readAllNumbered(senders, messages, size int) error {
	next := make(map[uint64]int)
	for range senders * messages {
		kind, body, err := c.readFrame()
		if err != nil {
			return err
		}
		if kind != wire.TypeRelay || len(body) != size {
			return fmt.Errorf("frame of type %#x with %d bytes", kind, len(body))
		}
		sender, n := binary.BigEndian.Uint64(body), int(binary.BigEndian.Uint64(body[8:]))
		if n != next[sender] || !bytes.Equal(body, numberedBody(sender, n, size)) {
			return fmt.Errorf("message %d of %d, want %d", n, sender, next[sender])
		}
		next[sender]++
	}
	return nil
}

// TestCluster_LostHub_FatesAndLists cuts a hub off, and lets it come back.
func TestCluster_LostHub_FatesAndLists(t *testing.T) {
	tc := startCluster(t, 3, hub.Config{})
	a, b, c := tc.hubs[0].connectV2(t), tc.hubs[1].connectV2(t), tc.hubs[2].connectV2(t)
	lists := func(who *clientV2, want ...uint64) {
		t.Helper()
		slices.Sort(want)
		eventually(t, fmt.Sprintf("the list is %d", want), func() bool { return slices.Equal(who.requestPage(0, 0), want) })
	}
	lists(a, a.ID, b.ID, c.ID)
	tc.bus.Isolate(3)
	begun := time.Now()
	seq := a.sendMessage([]byte("before"), levelOptions(wire.LevelReceived), 0, b.ID, c.ID)
	b.expectDeliver(a.ID, seq, []byte("before"))
	a.expectReport(seq, wire.FateReceived, wire.FateUncertain)
	lists(a, a.ID, b.ID)
	lists(c, c.ID)
	if took := time.Since(begun); took > 6*time.Second {
		t.Errorf("the lost hub was listed for %v", took)
	}
	seq = a.sendMessage([]byte("meanwhile"), levelOptions(wire.LevelReceived), 0, b.ID, c.ID)
	b.expectDeliver(a.ID, seq, []byte("meanwhile"))
	a.expectReport(seq, wire.FateReceived, wire.FateUnreachable)
	seq = c.sendMessage([]byte("beyond"), levelOptions(wire.LevelReceived), 0, a.ID)
	c.expectReport(seq, wire.FateUnreachable)
	tc.bus.Rejoin(3)
	begun = time.Now()
	lists(a, a.ID, b.ID, c.ID)
	lists(c, a.ID, b.ID, c.ID)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the lists were equal after %v", took)
	}
	seq = a.sendMessage([]byte("after"), levelOptions(wire.LevelReceived), 0, c.ID)
	c.expectDeliver(a.ID, seq, []byte("after"))
	a.expectReport(seq, wire.FateReceived)
}

// TestCluster_SlowReceiverDelaysOnlyItsSenders has a client that does not read at another hub, and
// so many that send to it that they could fill the link.
func TestCluster_SlowReceiverDelaysOnlyItsSenders(t *testing.T) {
	const senders, messages, size = 150, 2, 50_000
	tc := startCluster(t, 2, hub.Config{OutboxBytes: 64 << 10})
	slow := tc.hubs[1].connectV1(t).requestID().setReadBuffer(64 << 10)
	fast, free := tc.hubs[1].connectV1(t).requestID(), tc.hubs[0].connectV1(t).requestID()
	var blocked []*clientV1
	for range senders {
		blocked = append(blocked, tc.hubs[0].connectV1(t).requestID())
	}
	tc.waitKnown(t, senders+3)
	for _, c := range blocked {
		background(t, func() error { return c.sendNumbered([]uint64{slow.id}, messages, size) })
	}
	eventually(t, "batches wait for room on the link", func() bool { return tc.hubs[0].Hubs()[1].Link.Waited > senders/4 })
	if underWay := tc.hubs[0].Hubs()[1].Link.UnderWay; underWay > 3<<20 {
		t.Errorf("one receiver has %d bytes under way", underWay)
	}
	parallel(t, 2, func(i int) error {
		if i == 0 {
			return free.sendNumbered([]uint64{fast.id}, 500, 10_000)
		}
		return fast.readNumbered(free.id, 500, 10_000)
	})
	if err := slow.readAllNumbered(senders, messages, size); err != nil {
		t.Error(err)
	}
}

// TestCluster_Version1_CreditIsUnderWay has the other hub say nothing. Of a client of version 1, as
// much as Credit is sent to it, and one read beside that.
func TestCluster_Version1_CreditIsUnderWay(t *testing.T) {
	const credit, messages = 4096, 8
	for _, test := range []struct{ size, receivers, want int }{
		{1000, 1, 4}, // each costs 1,533 bytes
		{0, 255, 2},  // 4,597
		{0, 1, 8},    // 533
	} {
		inMemory.run(t, func(t *testing.T) {
			tc := startClusterOn(t, inMemory.start, 2, hub.Config{Credit: credit})
			sender, receiver := tc.hubs[0].connectV1(t).requestID(), tc.hubs[1].connectV1(t).requestID()
			tc.waitKnown(t, 2)
			tc.bus.Cut(1, 2)
			to := slices.Repeat([]uint64{receiver.id}, test.receivers)
			for i := range messages {
				sender.relay(pattern(test.size, byte(i)), to...)
				synctest.Wait() // each message is a read
			}
			if sent := tc.hubs[0].Hubs()[1].Link.Messages; sent != uint64(test.want) {
				t.Errorf("%d messages of %d bytes to %d receivers are under way, want %d", sent, test.size, test.receivers, test.want)
			}
			tc.bus.Heal(1, 2)
			for i := range messages {
				for range to {
					receiver.expectRelay(pattern(test.size, byte(i)))
				}
			}
		})
	}
}

// TestCluster_Version1_LostHubEndsWait has a client of version 1 wait for another hub, which is
// lost. Its next messages are handled.
func TestCluster_Version1_LostHubEndsWait(t *testing.T) {
	inMemory.run(t, func(t *testing.T) {
		tc := startClusterOn(t, inMemory.start, 2, hub.Config{Credit: 4096})
		sender, receiver := tc.hubs[0].connectV1(t).requestID(), tc.hubs[1].connectV1(t).requestID()
		local := tc.hubs[0].connectV1(t).requestID()
		tc.waitKnown(t, 3)
		tc.bus.Cut(1, 2)
		for range 8 {
			sender.relay(pattern(1000, 1), receiver.id)
			synctest.Wait() // each message is a read
		}
		sender.relay([]byte("x"), local.id)
		synctest.Wait()
		if state := tc.hubs[0].Hubs()[1].State; state != "up" || tc.hubs[0].Stats().Delivered > 0 {
			t.Errorf("the other hub is %s, and the client is read on", state)
		}
		local.expectRelay([]byte("x"))
		if state := tc.hubs[0].Hubs()[1].State; state != "lost" {
			t.Errorf("the other hub is %s", state)
		}
	})
}

func TestCluster_GrantedID_LaterConnectionWins(t *testing.T) {
	grants := map[string]*hub.Permissions{"7": {ID: 7}, "9": {ID: 9}}
	tc := startCluster(t, 3, hub.Config{Authenticate: tokenAuthenticator(grants)})
	watcher := tc.hubs[2].connectToken(t, "9")
	first := tc.hubs[0].connectToken(t, "7")
	eventually(t, "the first is listed", func() bool { return slices.Equal(watcher.requestPage(0, 0), []uint64{7, 9}) })
	second := tc.hubs[1].connectToken(t, "7")
	first.expectGoAway(wire.GoAwayTakenOver)
	seq := watcher.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, 7)
	second.expectDeliver(9, seq, []byte("x"))
	watcher.expectReport(seq, wire.FateReceived)
}

func TestCluster_WithoutLease_RejectsConnections(t *testing.T) {
	tc := startCluster(t, 2, hub.Config{DisableV1: true})
	a, b := tc.hubs[0].connectV2(t), tc.hubs[1].connectV2(t)
	tc.waitKnown(t, 2)
	tc.members[0].Invalid.Store(true)
	c := tc.hubs[0].connectForV2(t)
	kind, payload := c.mustReadFrame()
	if away, err := wire.ParseGoAway(payload); kind != wire.TypeGoAway || err != nil || away.Reason != hub.RejectCluster.String() {
		t.Errorf("frame of type %#x: %+v, %v", kind, away, err)
	}
	seq := b.sendMessage([]byte("x"), levelOptions(wire.LevelReceived), 0, a.ID) // who is connected stays
	a.expectDeliver(b.ID, seq, []byte("x"))
	b.expectReport(seq, wire.FateReceived)
}
