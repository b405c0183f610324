package hub_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestRelay_PipelinedMessages_KeepOrder sends 20,000 messages without waiting for anything.
func TestRelay_PipelinedMessages_KeepOrder(t *testing.T) {
	const messages = 20_000
	h := start(t, hub.Config{})
	bystanders := h.startBystanders(t)
	a, b := h.connectV1(t), h.connectV1(t)
	background(t, func() error { return a.sendNumbered([]uint64{b.id}, messages, 100) })
	if err := b.readNumbered(a.id, messages, 100); err != nil {
		t.Fatal(err)
	}
	b.fence()
	bystanders.waitRounds(3)
}

// mixedSize is the length of the body of message n. Bodies that are copied, queued by
// reference, and held in a buffer of their own follow each other.
func mixedSize(n int) int {
	return []int{0, 20, 5000, 1, 70_000, 300, 60_000, 4090, 4096, 200_000, 16, 65_530}[n%12]
}

// TestRelay_MixedSizes_KeepOrder mixes bodies that the hub handles in different ways with
// messages to both receivers and to one of them.
func TestRelay_MixedSizes_KeepOrder(t *testing.T) {
	const messages = 600
	h := start(t, hub.Config{})
	bystanders := h.startBystanders(t)
	a, b, c := h.connectV1(t), h.connectV1(t), h.connectV1(t)
	lists := [][]uint64{{b.id, c.id}, {b.id}, {c.id}, {c.id, b.id}, {b.id, c.id}}
	background(t, func() error {
		for n := range messages {
			if _, err := a.Write(wire.AppendRelay(nil, lists[n%len(lists)], numberedBody(a.id, n, mixedSize(n)))); err != nil {
				return err
			}
		}
		return nil
	})
	receivers := []*clientV1{b, c}
	parallel(t, len(receivers), func(i int) error {
		for n := range messages {
			if !slices.Contains(lists[n%len(lists)], receivers[i].id) {
				continue
			}
			if err := receivers[i].readRelay(numberedBody(a.id, n, mixedSize(n))); err != nil {
				return fmt.Errorf("message %d: %w", n, err)
			}
		}
		return nil
	})
	a.fence()
	bystanders.waitRounds(3)
}

// TestRelay_Replies_KeepRequestOrder has a client send messages to itself and requests in
// turn. Deliveries and replies must arrive in that order.
func TestRelay_Replies_KeepRequestOrder(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.startBystanders(t)
	c := h.connectV1(t)
	const rounds = 300
	background(t, func() error {
		for n := range rounds {
			frames := wire.AppendRelay(nil, []uint64{c.id}, numberedBody(c.id, n, mixedSize(n)))
			frames = wire.AppendListRequest(wire.AppendIdentityRequest(frames))
			if _, err := c.Write(frames); err != nil {
				return err
			}
		}
		return nil
	})
	for n := range rounds {
		c.expectRelay(numberedBody(c.id, n, mixedSize(n)))
		c.readIdentity()
		if kind, _ := c.mustReadFrame(); kind != wire.TypeList {
			t.Fatalf("round %d: got type %d, want a list", n, kind)
		}
	}
	c.fence()
	bystanders.waitRounds(3)
}

// TestRelay_HundredSenders_KeepOrderPerSender checks that a receiver gets the messages of each
// of 100 senders in order.
func TestRelay_HundredSenders_KeepOrderPerSender(t *testing.T) {
	const senders, messages, size = 100, 300, 200
	h := start(t, hub.Config{})
	bystanders := h.startBystanders(t)
	receiver := h.connectV1(t)
	for range senders {
		c := h.connectV1(t)
		background(t, func() error { return c.sendNumbered([]uint64{receiver.id}, messages, size) })
	}
	next := map[uint64]int{}
	for range senders * messages {
		_, body := receiver.mustReadFrame()
		sender := binary.BigEndian.Uint64(body)
		if n := int(binary.BigEndian.Uint64(body[8:])); n != next[sender] || len(body) != size {
			t.Fatalf("sender %d: message %d, %d bytes, want message %d", sender, n, len(body), next[sender])
		}
		next[sender]++
	}
	receiver.fence()
	bystanders.waitRounds(3)
}

func TestIDs_FirstClients_CountFromOne(t *testing.T) {
	h := start(t, hub.Config{})
	for want := uint64(1); want <= 5; want++ {
		if c := h.connectV1(t); c.id != want {
			t.Errorf("client %d has id %d", want, c.id)
		}
	}
}

// TestIDs_AreNeverReused connects and disconnects 100 clients. No id is used twice, and a
// message to the id of a client that has left reaches no client.
func TestIDs_AreNeverReused(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.startBystanders(t)
	seen := map[uint64]bool{bystanders.sender.ID(): true, bystanders.echoer.ID(): true}
	var last uint64
	for i := range 100 {
		c := h.connectV1(t)
		if seen[c.id] {
			t.Fatalf("id %d was used again", c.id)
		}
		seen[c.id] = true
		if last != 0 {
			c.relay([]byte("to one who left"), last)
			c.fence()
		}
		last = c.id
		c.Close()
		h.waitDisconnected(t, hub.CloseLeft, uint64(i+1))
	}
	bystanders.waitRounds(3)
}

// TestList_SilentClient_IsListedAndReachable checks that a connected client that has sent
// nothing is listed and receives messages.
func TestList_SilentClient_IsListedAndReachable(t *testing.T) {
	h := start(t, hub.Config{})
	a := h.connectV1(t)
	silent := h.connect(t)
	var list []uint64
	eventually(t, "listed", func() bool {
		list = a.requestList()
		return len(list) == 1
	})
	a.relay([]byte("hello"), list[0])
	silent.expectRelay([]byte("hello"))
	silent.id = list[0]
	silent.fence()
}

func TestList_FollowsJoinsAndLeaves(t *testing.T) {
	h := start(t, hub.Config{})
	a, b, c := h.connectV1(t), h.connectV1(t), h.connectV1(t)
	if got := b.requestList(); !slices.Equal(got, []uint64{a.id, c.id}) {
		t.Errorf("got %v, want %v", got, []uint64{a.id, c.id})
	}
	a.Close()
	h.waitDisconnected(t, hub.CloseLeft, 1)
	d := h.connectV1(t)
	if got := b.requestList(); !slices.Equal(got, []uint64{c.id, d.id}) {
		t.Errorf("got %v, want %v", got, []uint64{c.id, d.id})
	}
}

// TestHub_MaxClients_RejectsTheNext checks that connections beyond MaxClients are rejected,
// and that another is accepted after a client has left.
func TestHub_MaxClients_RejectsTheNext(t *testing.T) {
	h := start(t, hub.Config{MaxClients: 3})
	bystanders := h.startBystanders(t)
	last := h.connectV1(t)
	for range 5 {
		h.expectRejectedV1(t)
	}
	if n := h.Stats().Rejected[hub.RejectFull]; n != 5 {
		t.Errorf("%d rejected, want 5", n)
	}
	last.Close()
	h.waitDisconnected(t, hub.CloseLeft, 1)
	eventually(t, "another is accepted", func() bool {
		nc, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.NewConn(t.Context(), nc, nil)
		t.Cleanup(func() { nc.Close() })
		return err == nil
	})
	bystanders.waitRounds(3)
}

// TestHub_SetMaxClients_LowersAndRaises lowers the limit below the number of connected
// clients, which stay connected, and raises the limit again.
func TestHub_SetMaxClients_LowersAndRaises(t *testing.T) {
	h := start(t, hub.Config{MaxClients: 3})
	bystanders := h.startBystanders(t)
	set := func(maxClients int) {
		t.Helper()
		if err := h.SetMaxClients(maxClients); err != nil {
			t.Fatal(err)
		}
	}
	set(1)
	h.expectRejectedV1(t)
	set(3)
	h.connectV1(t)
	h.expectRejectedV1(t)
	set(0) // sets the default
	h.connectV1(t)
	for _, invalid := range []int{-1, 1<<30 + 1} {
		want := fmt.Sprintf("hub: MaxClients is %d, must be from 1 to 1073741824", invalid)
		if err := h.SetMaxClients(invalid); fmt.Sprint(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	h.connectV1(t) // the invalid values changed nothing
	if n := h.Stats().Rejected[hub.RejectFull]; n != 2 {
		t.Errorf("%d rejected, want 2", n)
	}
	bystanders.waitRounds(3)
}

// TestHub_AfterLoad_NothingGrows runs twenty rounds of load on one hub, with large bodies and
// with receivers that leave much unread. Goroutines and memory must not grow.
func TestHub_AfterLoad_NothingGrows(t *testing.T) {
	const warm, rounds = 5, 20
	h := start(t, hub.Config{})
	bystanders := h.startBystanders(t)
	var goroutines int
	var memory uint64
	for round := range rounds {
		h.runLoad(t)
		eventually(t, "only the bystanders are connected", func() bool {
			return h.Stats().Clients == 2 && h.Stats().Connected == uint64(2+10*(round+1))
		})
		// The hub can still be writing to clients that left without reading.
		eventually(t, "nothing queued", func() bool { return h.Stats().QueuedBytes < 1<<20 })
		if round == warm {
			goroutines, memory = runtime.NumGoroutine(), heapAfterGC()
		}
	}
	eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines+3 })
	if now := heapAfterGC(); now > memory+8<<20 {
		t.Errorf("%d bytes in use after %d rounds, %d after %d", now, rounds, memory, warm)
	}
	bystanders.waitRounds(3)
}

// heapAfterGC returns the number of heap bytes in use when the pools are empty.
func heapAfterGC() uint64 {
	runtime.GC()
	runtime.GC() // a pool releases its entries with the second collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// runLoad has ten clients send to each other. Half of them leave without reading, while the
// others still send.
func (h *testHub) runLoad(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	var clients []*client.Client
	var ids []uint64
	for range 10 {
		c, err := client.Dial(ctx, h.addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		clients, ids = append(clients, c), append(ids, c.ID())
	}
	parallel(t, len(clients), func(i int) error {
		c := clients[i]
		defer c.Close()
		for n := range 20 {
			if err := c.Send(ctx, ids, numberedBody(c.ID(), n, n*1000)); err != nil {
				return err
			}
		}
		for range 20 * (i % 2) * 5 { // the others leave without reading
			m, err := c.Receive(ctx)
			if errors.Is(err, client.ErrHubClosed) {
				return err
			}
			m.Release()
		}
		return nil
	})
}
