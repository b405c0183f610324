package hub_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// client returns what the hub knows of one that must be there.
func (s *testHub) client(t testing.TB, id uint64) hub.ClientInfo {
	t.Helper()
	c, ok := s.Client(id)
	if !ok {
		t.Fatalf("client %d is not there", id)
	}
	return c
}

func TestWhatIsKnownOfAClient(t *testing.T) {
	h := start(t, hub.Config{})
	before := time.Now()
	classic, guest := h.peer(t), h.hello(t, wire.Hello{Version: wire.Version2, Name: "boiler room"})
	const messages, size = 5, 100
	for range messages {
		classic.relay(pattern(size, 1), guest.id)
		guest.delivered(classic.id, 0, pattern(size, 1))
	}
	eventually(t, "counted", func() bool { return h.client(t, guest.id).MessagesOut == 1+messages })

	got := h.client(t, classic.id)
	want := hub.ClientInfo{
		ID: classic.id, Address: got.Address, Protocol: 1, Since: got.Since,
		MessagesIn: 1 + messages, BytesIn: wire.IdentityRequestLen + messages*uint64(wire.RelayLen(1, size)),
		MessagesOut: 1, BytesOut: wire.IdentityLen,
	}
	if got != want || got.Address.String() != classic.LocalAddr().String() || got.Since.Before(before) || got.Since.After(time.Now()) {
		t.Errorf("of version 1: %+v, want %+v", got, want)
	}
	if got := h.client(t, guest.id); got.Protocol != 2 || got.Name != "boiler room" || got.MessagesIn == 0 || got.BytesIn == 0 || got.Detached {
		t.Errorf("of version 2: %+v", got)
	}
	if c, ok := h.Client(999); ok {
		t.Errorf("of nobody: %+v", c)
	}
}

func TestNamesAreBoundedAndPrintable(t *testing.T) {
	h := start(t, hub.Config{})
	for given, want := range map[string]string{
		"":                               "",
		"Köln 7":                         "Köln 7",
		"a\x1b[31mb\nc\u202e":            "a[31mbc",
		strings.Repeat("x", 16_000):      strings.Repeat("x", hub.NameMost),
		"a" + strings.Repeat("ö", 8_000): "a" + strings.Repeat("ö", hub.NameMost/2-1),
	} {
		g := h.hello(t, wire.Hello{Version: wire.Version2, Name: given})
		if got := h.client(t, g.id).Name; got != want {
			t.Errorf("%.40q became %q, want %q", given, got, want)
		}
	}
}

func TestPagesOfClients(t *testing.T) {
	const clients = 150 // more than are looked up at once
	h := start(t, hub.Config{})
	for range clients {
		h.peer(t)
	}
	h.peer(t).Close()
	h.disconnected(t, hub.ReasonLeft, 1)
	for _, limit := range []int{1, 7, 64, 100, clients, clients + 1, 10_000} {
		var got []uint64
		for after := uint64(0); ; {
			page := h.Clients(after, limit)
			for _, c := range page {
				got = append(got, c.ID)
			}
			if len(page) < limit {
				break
			}
			after = page[len(page)-1].ID
		}
		if len(got) != clients || !slices.IsSorted(got) || len(slices.Compact(got)) != clients {
			t.Errorf("pages of %d: %d", limit, got)
		}
	}
	for _, limit := range []int{0, -1} {
		if page := h.Clients(0, limit); len(page) != 0 {
			t.Errorf("limit %d: %d clients", limit, len(page))
		}
	}
	if page := h.Clients(clients+1, 10); len(page) != 0 {
		t.Errorf("behind the last one: %+v", page)
	}
}

// TestQueuedBytesOfAClient fills the queue of one that does not read.
func TestQueuedBytesOfAClient(t *testing.T) {
	h := start(t, hub.Config{StallTimeout: time.Hour})
	sender, receiver := h.peer(t), h.peer(t).small()
	sender.fill(h, receiver.id)
	if got := h.client(t, receiver.id).QueuedBytes; got < hub.DefaultOutboxBytes {
		t.Errorf("%d bytes are queued for one that is full", got)
	}
	if got := h.client(t, sender.id).QueuedBytes; got != 0 {
		t.Errorf("%d bytes are queued for one that gets nothing", got)
	}
	receiver.reset()
}

// TestADetachedClientIsShown loses a connection, and has its client come back to
// counters that begin anew.
func TestADetachedClientIsShown(t *testing.T) {
	h := start(t, hub.Config{})
	g := h.guest(t)
	since := h.client(t, g.id).Since
	g.reset()
	eventually(t, "detached", func() bool { return h.client(t, g.id).Detached })
	again := h.back(t, g)
	eventually(t, "counted", func() bool { return h.client(t, again.id).MessagesOut > 0 })
	if c := h.client(t, again.id); c.ID != g.id || c.Detached || !c.Since.After(since) || c.MessagesIn != 1 {
		t.Errorf("back as %+v", c)
	}
}

func TestDisconnectOfVersion1(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	p := h.peer(t)
	if !h.Disconnect(p.id, true) {
		t.Error("was not there")
	}
	if _, there := h.Client(p.id); there || h.Disconnect(p.id, true) {
		t.Error("is still there")
	}
	p.closed()
	h.disconnected(t, hub.ReasonDisconnected, 1)
	bystanders.pass(3)
}

func TestDisconnectTellsWhetherToReconnect(t *testing.T) {
	for _, reconnect := range []bool{false, true} {
		h := start(t, hub.Config{})
		sender, g := h.guest(t), h.guest(t)
		body := pattern(100, 1)
		seq := sender.tell(body, only(wire.LevelWritten), 0, g.id)
		sender.reported(seq, wire.FateWritten)
		if !h.Disconnect(g.id, reconnect) {
			t.Error("was not there")
		}
		if _, there := h.Client(g.id); there || h.Disconnect(g.id, reconnect) {
			t.Error("is still there")
		}
		g.delivered(sender.id, seq, body)
		if away := g.sentAway(wire.GoAwayDisconnected); away.Reconnect != reconnect || away.Reason == "" {
			t.Errorf("told %+v, want reconnect=%t", away, reconnect)
		}
		if again := h.back(t, g); again.Resumed || again.ID == g.ID {
			t.Errorf("went on as %+v", again.Welcome)
		}
		h.disconnected(t, hub.ReasonDisconnected, 1)
	}
}

// TestDisconnectOfOneThatIsDetached ends what waits for its return.
func TestDisconnectOfOneThatIsDetached(t *testing.T) {
	h := start(t, hub.Config{ResumeWindow: time.Hour})
	g := h.guest(t)
	g.reset()
	eventually(t, "detached", func() bool { return h.client(t, g.id).Detached })
	if !h.Disconnect(g.id, false) {
		t.Error("was not there")
	}
	h.disconnected(t, hub.ReasonDisconnected, 1)
	if again := h.back(t, g); again.Resumed {
		t.Errorf("went on as %+v", again.Welcome)
	}
}

// TestDisconnectOfOneThatTakesNothing is over when its last words are, whether it
// sends or not.
func TestDisconnectOfOneThatTakesNothing(t *testing.T) {
	h := start(t, hub.Config{StallTimeout: time.Hour})
	bystanders := h.bystand(t)
	sender, g := h.guest(t), h.guest(t)
	g.small()
	background(t, func() error { // fails when it is sent away; it sends to g and to itself, and reads neither
		for seq := uint64(1); ; seq++ {
			if _, err := sender.Write(wire.AppendSend(nil, seq, 0, 0, []uint64{g.id, sender.id}, pattern(50_000, 1))); err != nil {
				return nil
			}
		}
	})
	eventually(t, "both queues full", func() bool {
		return h.client(t, g.id).QueuedBytes > 400_000 && h.client(t, sender.id).QueuedBytes > 400_000
	})
	for _, id := range []uint64{g.id, sender.id} {
		if !h.Disconnect(id, false) {
			t.Errorf("client %d was not there", id)
		}
	}
	h.disconnected(t, hub.ReasonDisconnected, 2)
	bystanders.pass(3)
}

// TestDisconnectsWhileClientsComeBack has many ask for the end of those that
// resume all the time: each connection is counted once, which the end of the test
// sees to. One that is ended while it comes back may see no more than the end.
func TestDisconnectsWhileClientsComeBack(t *testing.T) {
	h := start(t, hub.Config{})
	parallel(t, 8, func(int) error {
		hello := wire.Hello{Version: wire.Version2}
		for n := range 20 {
			p := h.silent(t)
			if _, err := p.Write(wire.AppendHello(nil, &hello)); err != nil {
				continue
			}
			kind, payload, err := p.next()
			if err != nil || kind != wire.TypeWelcome {
				continue
			}
			w, err := wire.ParseWelcome(payload)
			if err != nil {
				return err
			}
			hello.ID, hello.Resume = w.ID, w.Resume
			if n%3 == 2 {
				go h.Disconnect(w.ID, true) // ends at once
			}
		}
		return nil
	})
}
