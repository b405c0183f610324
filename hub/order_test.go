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

// TestPipelinedMessagesArriveInOrder sends 20,000 without waiting for anything.
func TestPipelinedMessagesArriveInOrder(t *testing.T) {
	const messages = 20_000
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	a, b := h.peer(t), h.peer(t)
	background(t, func() error { return a.stream([]uint64{b.id}, messages, 100) })
	if err := b.follow(a.id, messages, 100); err != nil {
		t.Fatal(err)
	}
	b.fence()
	bystanders.pass(3)
}

// mixed is the size of message n: copied, queued by reference, and alone in a
// buffer of its own follow each other.
func mixed(n int) int {
	return []int{0, 20, 5000, 1, 70_000, 300, 60_000, 4090, 4096, 200_000, 16, 65_530}[n%12]
}

// TestMessagesOfAllSizesArriveInOrder mixes the ways that a body can take through
// the hub, and the receivers: a message to both, one to each, one to oneself.
func TestMessagesOfAllSizesArriveInOrder(t *testing.T) {
	const messages = 600
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	a, b, c := h.peer(t), h.peer(t), h.peer(t)
	lists := [][]uint64{{b.id, c.id}, {b.id}, {c.id}, {c.id, b.id}, {b.id, c.id}}
	background(t, func() error {
		for n := range messages {
			if _, err := a.Write(wire.AppendRelay(nil, lists[n%len(lists)], numbered(a.id, n, mixed(n)))); err != nil {
				return err
			}
		}
		return nil
	})
	receivers := []*peer{b, c}
	parallel(t, len(receivers), func(i int) error {
		for n := range messages {
			if !slices.Contains(lists[n%len(lists)], receivers[i].id) {
				continue
			}
			if err := receivers[i].expect(numbered(a.id, n, mixed(n))); err != nil {
				return fmt.Errorf("message %d: %w", n, err)
			}
		}
		return nil
	})
	a.fence()
	bystanders.pass(3)
}

// TestAnswersComeInTheOrderOfTheRequests has deliveries to oneself and answers
// follow each other.
func TestAnswersComeInTheOrderOfTheRequests(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	p := h.peer(t)
	const rounds = 300
	background(t, func() error {
		for n := range rounds {
			frames := wire.AppendRelay(nil, []uint64{p.id}, numbered(p.id, n, mixed(n)))
			frames = wire.AppendListRequest(wire.AppendIdentityRequest(frames))
			if _, err := p.Write(frames); err != nil {
				return err
			}
		}
		return nil
	})
	for n := range rounds {
		p.hears(numbered(p.id, n, mixed(n)))
		p.identity()
		if kind, _ := p.frame(); kind != wire.TypeList {
			t.Fatalf("round %d: got type %d, want a list", n, kind)
		}
	}
	p.fence()
	bystanders.pass(3)
}

// TestHundredSendersToOneReceiver keeps the order of each of them.
func TestHundredSendersToOneReceiver(t *testing.T) {
	const senders, messages, size = 100, 300, 200
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	receiver := h.peer(t)
	for range senders {
		p := h.peer(t)
		background(t, func() error { return p.stream([]uint64{receiver.id}, messages, size) })
	}
	next := map[uint64]int{}
	for range senders * messages {
		_, body := receiver.frame()
		sender := binary.BigEndian.Uint64(body)
		if n := int(binary.BigEndian.Uint64(body[8:])); n != next[sender] || len(body) != size {
			t.Fatalf("sender %d: message %d, %d bytes, want message %d", sender, n, len(body), next[sender])
		}
		next[sender]++
	}
	receiver.fence()
	bystanders.pass(3)
}

func TestFirstClientIsNumberOne(t *testing.T) {
	h := start(t, hub.Config{})
	for want := uint64(1); want <= 5; want++ {
		if p := h.peer(t); p.id != want {
			t.Errorf("client %d is called %d", want, p.id)
		}
	}
}

// TestIDsAreNeverUsedAgain has clients leave, and a message to one who left reach
// nobody.
func TestIDsAreNeverUsedAgain(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	seen := map[uint64]bool{bystanders.a.ID(): true, bystanders.b.ID(): true}
	var last uint64
	for i := range 100 {
		p := h.peer(t)
		if seen[p.id] {
			t.Fatalf("id %d was used again", p.id)
		}
		seen[p.id] = true
		if last != 0 {
			p.relay([]byte("to one who left"), last)
			p.fence()
		}
		last = p.id
		p.Close()
		h.disconnected(t, hub.ReasonLeft, uint64(i+1))
	}
	bystanders.pass(3)
}

// TestListedBeforeTheFirstWord finds a client that has said nothing, and reaches
// it.
func TestListedBeforeTheFirstWord(t *testing.T) {
	h := start(t, hub.Config{})
	a := h.peer(t)
	silent := h.silent(t)
	var list []uint64
	eventually(t, "listed", func() bool {
		list = a.list()
		return len(list) == 1
	})
	a.relay([]byte("hello"), list[0])
	silent.hears([]byte("hello"))
	silent.id = list[0]
	silent.fence()
}

func TestListsFollowWhoComesAndGoes(t *testing.T) {
	h := start(t, hub.Config{})
	a, b, c := h.peer(t), h.peer(t), h.peer(t)
	if got := b.list(); !slices.Equal(got, []uint64{a.id, c.id}) {
		t.Errorf("got %v, want %v", got, []uint64{a.id, c.id})
	}
	a.Close()
	h.disconnected(t, hub.ReasonLeft, 1)
	d := h.peer(t)
	if got := b.list(); !slices.Equal(got, []uint64{c.id, d.id}) {
		t.Errorf("got %v, want %v", got, []uint64{c.id, d.id})
	}
}

// TestMaxClientsRefusesTheNext and takes another when one has left.
func TestMaxClientsRefusesTheNext(t *testing.T) {
	h := start(t, hub.Config{MaxClients: 3})
	bystanders := h.bystand(t)
	last := h.peer(t)
	for range 5 {
		h.refused(t)
	}
	if n := h.Stats().Refused[hub.RefusedFull]; n != 5 {
		t.Errorf("%d refused, want 5", n)
	}
	last.Close()
	h.disconnected(t, hub.ReasonLeft, 1)
	eventually(t, "room for another", func() bool {
		nc, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.New(t.Context(), nc, nil)
		t.Cleanup(func() { nc.Close() })
		return err == nil
	})
	bystanders.pass(3)
}

// TestSetMaxClients lowers the limit below what is connected, which harms nobody, and
// raises it again.
func TestSetMaxClients(t *testing.T) {
	h := start(t, hub.Config{MaxClients: 3})
	bystanders := h.bystand(t)
	set := func(most int) {
		t.Helper()
		if err := h.SetMaxClients(most); err != nil {
			t.Fatal(err)
		}
	}
	set(1)
	h.refused(t)
	set(3)
	h.peer(t)
	h.refused(t)
	set(0) // the default
	h.peer(t)
	for _, wrong := range []int{-1, 1<<30 + 1} {
		want := fmt.Sprintf("hub: MaxClients is %d, must be from 1 to 1073741824", wrong)
		if err := h.SetMaxClients(wrong); fmt.Sprint(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	h.peer(t) // as before
	if n := h.Stats().Refused[hub.RefusedFull]; n != 2 {
		t.Errorf("%d refused, want 2", n)
	}
	bystanders.pass(3)
}

// TestMemoryAndGoroutinesReturn runs twenty rounds of load on one hub, with large
// bodies and with receivers that leave much unread. Nothing grows.
func TestMemoryAndGoroutinesReturn(t *testing.T) {
	const warm, rounds = 5, 20
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	var goroutines int
	var memory uint64
	for round := range rounds {
		h.load(t)
		eventually(t, "only the bystanders left", func() bool {
			return h.Stats().Clients == 2 && h.Stats().Connected == uint64(2+10*(round+1))
		})
		// Those who left without a word may still hold what is being written to them.
		eventually(t, "nothing queued", func() bool { return h.Stats().QueuedBytes < 1<<20 })
		if round == warm {
			goroutines, memory = runtime.NumGoroutine(), heap()
		}
	}
	eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines+3 })
	if now := heap(); now > memory+8<<20 {
		t.Errorf("%d bytes in use after %d rounds, %d after %d", now, rounds, memory, warm)
	}
	bystanders.pass(3)
}

// heap returns the bytes in use when the pools are empty.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // a pool gives up what it holds with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// load has ten clients send to each other, and half of them go without a word in
// the middle of it.
func (s *testHub) load(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var peers []*client.Client
	var ids []uint64
	for range 10 {
		c, err := client.Dial(ctx, s.addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		peers, ids = append(peers, c), append(ids, c.ID())
	}
	parallel(t, len(peers), func(i int) error {
		c := peers[i]
		defer c.Close()
		for n := range 20 {
			if err := c.Send(ctx, ids, numbered(c.ID(), n, n*1000)); err != nil {
				return err
			}
		}
		for range 20 * (i % 2) * 5 { // half of them read half of what they get
			m, err := c.Receive(ctx)
			if errors.Is(err, client.ErrHubClosed) {
				return err
			}
			m.Release()
		}
		return nil
	})
}
