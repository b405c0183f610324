package hub_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

func TestListRange_Pages(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		c := h.connectV2(t)
		ids := []uint64{c.id}
		for range 5 {
			ids = append(ids, h.connectV1(t).id)
		}
		slices.Sort(ids)
		for _, test := range []struct {
			after uint64
			limit uint32
			want  []uint64
		}{
			{0, 0, ids}, {0, 2, ids[:2]}, {ids[1], 2, ids[2:4]}, {ids[5], 0, nil}, {ids[0], 1 << 31, ids[1:]},
		} {
			if got := c.requestPage(test.after, test.limit); !slices.Equal(got, test.want) {
				t.Errorf("after %d, limit %d: %v, want %v", test.after, test.limit, got, test.want)
			}
		}
	})
}

// watcher is a client that tracks which ids are present.
type watcher struct {
	*clientV2
	revision uint64
	present  map[uint64]bool
	frames   int
}

func (c *clientV2) startWatch(since uint64) *watcher {
	c.send(wire.AppendWatch(nil, wire.Watch{On: true, Since: since}))
	return &watcher{clientV2: c, present: map[uint64]bool{}}
}

// readUntil reads PRESENCE frames until holds returns true.
func (w *watcher) readUntil(holds func() bool) {
	w.t.Helper()
	for more := true; more || !holds(); {
		kind, payload := w.nextFrame()
		p, err := wire.ParsePresence(payload)
		if kind != wire.TypePresence || err != nil {
			w.t.Fatalf("a frame of type %#x, want PRESENCE: %v", kind, err)
		}
		if p.Flags&wire.PresenceSnapshot != 0 {
			clear(w.present)
		}
		for id := range p.Joined.All() {
			w.present[id] = true
		}
		for id := range p.Left.All() {
			delete(w.present, id)
		}
		more = p.Flags&wire.PresenceMore != 0
		w.revision = p.Revision
		w.frames++
	}
}

func TestWatch_SeesJoinsAndLeaves(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		early := h.connectV1(t)
		w := h.connectV2(t).startWatch(0)
		w.readUntil(func() bool { return len(w.present) == 2 && w.present[early.id] && w.present[w.id] })

		const many = 1000
		frames := w.frames
		late := make([]*clientV1, many)
		for i := range late {
			late[i] = h.connectV1(t)
		}
		w.readUntil(func() bool { return len(w.present) == 2+many })
		if n := w.frames - frames; n > many/10 {
			t.Errorf("%d frames for %d clients that connected together", n, many)
		}
		for _, c := range late {
			c.Close()
		}
		early.Close()
		w.readUntil(func() bool { return len(w.present) == 1 && w.present[w.id] })
	})
}

func TestWatch_SinceRevision_Continues(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		w := h.connectV2(t).startWatch(0)
		w.readUntil(func() bool { return len(w.present) == 1 })
		w.send(wire.AppendWatch(nil, wire.Watch{}))
		w.awaitPong()
		came, brief := h.connectV1(t), h.connectV1(t)
		brief.Close()
		eventually(t, "one is disconnected", func() bool { return h.Stats().Clients == 2 })
		before := w.present
		again := w.clientV2.startWatch(w.revision)
		again.present = before
		again.readUntil(func() bool { return true })
		if again.frames != 1 || len(again.present) != 2 || !again.present[came.id] {
			t.Errorf("after %d frames the set is %v", again.frames, again.present)
		}
		// The revision is one of another hub, or of an earlier run of this hub.
		stranger := h.connectV2(t).startWatch(1 << 60)
		stranger.present[424242] = true
		stranger.readUntil(func() bool { return len(stranger.present) == 3 })
	})
}

// expectTooManyWatchers reads the ERROR that refuses a WATCH because there are too many
// watchers.
func (c *clientV2) expectTooManyWatchers() {
	c.t.Helper()
	kind, payload := c.nextFrame()
	e, err := wire.ParseError(payload)
	if kind != wire.TypeError || err != nil || e.Code != wire.ErrorWatchers || e.Seq != 0 || len(e.Text) == 0 {
		c.t.Fatalf("a frame of type %#x, %+v, %v, want ERROR %d", kind, e, err, wire.ErrorWatchers)
	}
}

// TestWatch_MaxWatchers_RefusesTheNext checks that at most MaxWatchers clients can watch, and
// that another can watch after one has stopped for any reason.
func TestWatch_MaxWatchers_RefusesTheNext(t *testing.T) {
	for cause, end := range map[string]func(h *testHub, c *clientV2){
		"WATCH off":       func(_ *testHub, c *clientV2) { c.send(wire.AppendWatch(nil, wire.Watch{})) },
		"bye":             func(_ *testHub, c *clientV2) { c.send(wire.AppendBye(nil)) },
		"reset":           func(_ *testHub, c *clientV2) { c.reset() },
		"resume":          func(h *testHub, c *clientV2) { c.reset(); h.resume(c.t, c) },
		"takeover":        func(h *testHub, c *clientV2) { h.resume(c.t, c) },
		"Hub.Disconnect":  func(h *testHub, c *clientV2) { h.Disconnect(c.id, false) },
		"malformed frame": func(_ *testHub, c *clientV2) { c.send(wire.AppendAck(nil, 1<<60)) },
		"partial frame":   func(_ *testHub, c *clientV2) { c.send([]byte{0}); c.Close() },
	} {
		t.Run(cause, func(t *testing.T) {
			onAllTransports(t, func(t *testing.T, tr testTransport) {
				log := &logBuffer{}
				h := tr.start(t, hub.Config{MaxWatchers: 2, Logger: log.logger(), ResumeWindow: time.Hour})
				first, second, third := h.connectV2(t).startWatch(0), h.connectV2(t).startWatch(0), h.connectV2(t)
				first.readUntil(func() bool { return len(first.present) == 3 })
				second.readUntil(func() bool { return len(second.present) == 3 })
				third.startWatch(0)
				third.expectTooManyWatchers()
				// A watcher is allowed to send WATCH again.
				second.clientV2.startWatch(0).readUntil(func() bool { return true })
				if n := h.Stats().Errors[wire.ErrorWatchers]; n != 1 {
					t.Errorf("%d counted, want 1", n)
				}
				log.waitFor(t, `"reason":"too many watchers"`)
				end(h, first.clientV2)
				eventually(t, "a watcher slot is free", func() bool {
					third.startWatch(0)
					kind, _ := third.nextFrame()
					return kind == wire.TypePresence
				})
			})
		})
	}
}

// TestWatch_Repeated_IsAnswered sends WATCH again as soon as the reply arrives, when the hub
// has possibly not yet recorded that the reply was written.
func TestWatch_Repeated_IsAnswered(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
		c := h.connectV2(t)
		for range 20 {
			c.startWatch(0).readUntil(func() bool { return true })
		}
	})
}

// TestWatch_NonReader_IsBounded sends WATCH 2,000 times and does not read. One reply to each
// would add up to 8 MB.
func TestWatch_NonReader_IsBounded(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{OutboxBytes: 4 << 10})
		for range 500 {
			h.connect(t)
		}
		eventually(t, "all connected", func() bool { return h.Stats().Clients == 500 })
		c := h.connectV2(t)
		c.shrinkReadBuffer()
		bystanders := h.startBystanders(t)
		c.send(bytes.Repeat(wire.AppendWatch(nil, wire.Watch{On: true}), 2000))
		eventually(t, "every WATCH is read", func() bool { return h.Stats().MessagesIn > 2000 })
		bystanders.waitRounds(10)
		if stats := h.Stats(); stats.QueuedBytes > 1<<20 || stats.BytesOut > 2<<20 {
			t.Errorf("%d bytes are queued, %d were sent", stats.QueuedBytes, stats.BytesOut)
		}
	})
}

// TestList_SilentClient_IsListedAndReachable checks that a connected client that has sent
// nothing is listed and receives messages.
func TestList_SilentClient_IsListedAndReachable(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
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
	})
}

func TestList_FollowsJoinsAndLeaves(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{})
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
	})
}
