package hub_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// subscribe subscribes to an id, until the end of the test.
func (h *testHub) subscribe(t testing.TB, id uint64) *hub.Subscription {
	t.Helper()
	s, err := h.Subscribe(id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// mustSend sends a message with Hub.Send and returns the fates.
func (h *testHub) mustSend(t testing.TB, from uint64, to []uint64, body []byte, options *hub.SendOptions) []wire.Fate {
	t.Helper()
	report, err := h.Send(t.Context(), from, to, body, options)
	if err != nil {
		t.Fatal(err)
	}
	if report == nil {
		return nil
	}
	return report.Fates
}

// expectMessage receives a message and checks its sender and body.
func expectMessage(t testing.TB, s *hub.Subscription, from uint64, body []byte) hub.Message {
	t.Helper()
	m, err := s.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.From != from || string(m.Body) != string(body) {
		t.Fatalf("a message of %d bytes from %d, want %d bytes from %d", len(m.Body), m.From, len(body), from)
	}
	return m
}

// TestSend_AllKinds_OfReceivers sends to a client of each version, a Subscription, and an id
// that nobody has, with bodies of all sizes.
func TestSend_AllKinds_OfReceivers(t *testing.T) {
	h := start(t, hub.Config{})
	v1, v2, sub := h.connectV1(t), h.connectV2(t), h.subscribe(t, 0)
	to := []uint64{v1.id, v2.id, sub.ID(), 1 << 62}
	for i, size := range []int{0, 1, 100, 5000, 70_000, 1 << 20} {
		body := pattern(size, byte(i))
		if fates := h.mustSend(t, 77, to, body, nil); fates != nil {
			t.Errorf("a report that was not requested: %v", fates)
		}
		v1.expectRelay(body)
		kind, payload := v2.nextFrame()
		d, err := wire.ParseDeliver(payload)
		if kind != wire.TypeDeliver || err != nil || d.Sender != 77 || string(d.Body) != string(body) {
			t.Fatalf("a frame of type %#x from %d: %v", kind, d.Sender, err)
		}
		m := expectMessage(t, sub, 77, body)
		if m.Seq != d.Seq || m.Time.UnixMicro() != int64(d.Time) {
			t.Errorf("the Subscription gets seq %d and %v, the client %d and %d", m.Seq, m.Time, d.Seq, d.Time)
		}
	}
}

// TestSend_EachLevel_HasItsFate requests each level from receivers of all kinds.
func TestSend_EachLevel_HasItsFate(t *testing.T) {
	h := start(t, hub.Config{})
	v1, v2, sub := h.connectV1(t), h.connectV2(t), h.subscribe(t, 0)
	to := []uint64{v1.id, v2.id, sub.ID(), 1 << 62}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 3 {
			_, payload := v2.nextFrame()
			d, _ := wire.ParseDeliver(payload)
			if d.Flags&wire.DeliverWantVerdict != 0 {
				v2.send(wire.AppendVerdicts(nil, []wire.Verdict{{Sender: 5, Seq: d.Seq, Fate: wire.FateRejected}}))
			}
			m, err := sub.Receive(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			m.Ack()
		}
	})
	for level, want := range map[wire.Level][]wire.Fate{
		wire.LevelWritten:   {wire.FateWritten, wire.FateWritten, wire.FateWritten, wire.FateUnknown},
		wire.LevelReceived:  {wire.FateWritten, wire.FateReceived, wire.FateReceived, wire.FateUnknown},
		wire.LevelProcessed: {wire.FateWritten, wire.FateRejected, wire.FateProcessed, wire.FateUnknown},
	} {
		if fates := h.mustSend(t, 5, to, []byte("body"), &hub.SendOptions{Level: level}); !slices.Equal(fates, want) {
			t.Errorf("level %d: %v, want %v", level, fates, want)
		}
	}
	wg.Wait()
	if fates := h.mustSend(t, 5, nil, nil, &hub.SendOptions{Level: wire.LevelReceived}); len(fates) != 0 {
		t.Errorf("without receivers: %v", fates)
	}
}

// TestSend_Invalid_IsRefused calls Send with each argument out of range.
func TestSend_Invalid_IsRefused(t *testing.T) {
	h := start(t, hub.Config{MaxBody: 1000})
	for name, send := range map[string]func() error{
		"from": func() error { _, err := h.Send(t.Context(), 0, []uint64{1}, nil, nil); return err },
		"receivers": func() error {
			_, err := h.Send(t.Context(), 1, make([]uint64, wire.MaxReceivers+1), nil, nil)
			return err
		},
		"body":     func() error { _, err := h.Send(t.Context(), 1, []uint64{1}, make([]byte, 1001), nil); return err },
		"level":    func() error { _, err := h.Send(t.Context(), 1, nil, nil, &hub.SendOptions{Level: 4}); return err },
		"overflow": func() error { _, err := h.Send(t.Context(), 1, nil, nil, &hub.SendOptions{Overflow: 3}); return err },
		"TTL":      func() error { _, err := h.Send(t.Context(), 1, nil, nil, &hub.SendOptions{TTL: -1}); return err },
		"report timeout": func() error {
			_, err := h.Send(t.Context(), 1, nil, nil, &hub.SendOptions{ReportTimeout: 25 * time.Hour})
			return err
		},
	} {
		if err := send(); !errors.Is(err, hub.ErrInvalidMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Send(ctx, 1, []uint64{1}, nil, nil); !errors.Is(err, context.Canceled) && err != nil {
		t.Errorf("with a canceled context: %v", err)
	}
}

// TestSend_SlowReceiver_BlocksItsSender sends to a Subscription that receives nothing, until
// Send waits. Another sender is not delayed. Then everything arrives in order.
func TestSend_SlowReceiver_BlocksItsSender(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 32 << 10, Credit: 16 << 10})
	slow, fast := h.subscribe(t, 0), h.subscribe(t, 0)
	body := pattern(1000, 1)
	sent := 0
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		body[0], body[1] = byte(sent), byte(sent>>8)
		_, err := h.Send(ctx, 9, []uint64{slow.ID()}, body, nil)
		cancel()
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			break
		}
		if sent++; sent > 1000 {
			t.Fatal("Send never waits")
		}
	}
	if sent < (64+32+16)*1000/1100 { // inbox, outbox and credit
		t.Errorf("Send waits after %d messages", sent)
	}
	for i := range 100 {
		other := pattern(1000, byte(i))
		h.mustSend(t, 10, []uint64{fast.ID()}, other, nil)
		expectMessage(t, fast, 10, other)
	}
	for i := range sent {
		body[0], body[1] = byte(i), byte(i>>8)
		expectMessage(t, slow, 9, body)
	}
	h.mustSend(t, 9, []uint64{slow.ID()}, body, &hub.SendOptions{Level: wire.LevelWritten})
	expectMessage(t, slow, 9, body)
}

// TestSubscribe_IDs checks which ids a Subscription can have.
func TestSubscribe_IDs(t *testing.T) {
	h := start(t, hub.Config{})
	first := h.connectV1(t)
	if first.id != 1 {
		t.Fatalf("the first client has id %d", first.id)
	}
	h.subscribe(t, 2)
	third := h.connectV1(t)
	if third.id != 3 {
		t.Errorf("the client after the Subscription of 2 has id %d", third.id)
	}
	for _, id := range []uint64{1, 2, 3} {
		if _, err := h.Subscribe(id); !errors.Is(err, hub.ErrIDInUse) {
			t.Errorf("id %d: %v", id, err)
		}
	}
	if _, err := h.Subscribe(hub.MaxGrantedID + 1); err == nil {
		t.Error("an id above MaxGrantedID is accepted")
	}
	assigned := h.subscribe(t, 0)
	if got := first.requestList(); !slices.Equal(got, []uint64{2, 3, assigned.ID()}) {
		t.Errorf("the list is %v", got)
	}
	info, ok := h.Client(assigned.ID())
	if !ok || info.Protocol != 2 || info.Address.String() != "local" {
		t.Errorf("the description of a Subscription is %+v", info)
	}
	if infos := h.Clients(0, 10); len(infos) != 4 || infos[1].ID != 2 {
		t.Errorf("the clients are %+v", infos)
	}
}

// TestSubscription_End_HasReason ends Subscriptions in each way.
func TestSubscription_End_HasReason(t *testing.T) {
	h := start(t, hub.Config{Authenticate: func(hub.AuthRequest) (*hub.Permissions, error) { return &hub.Permissions{ID: 7}, nil }})
	receive := func(s *hub.Subscription) error { _, err := s.Receive(t.Context()); return err }

	closed := h.subscribe(t, 5)
	if err := closed.Close(); err != nil {
		t.Error(err)
	}
	if err := receive(closed); !errors.Is(err, hub.ErrUnsubscribed) {
		t.Errorf("closed: %v", err)
	}
	h.subscribe(t, 5) // the id is free again

	disconnected := h.subscribe(t, 6)
	if !h.Disconnect(6, false) {
		t.Error("a Subscription cannot be disconnected")
	}
	if err := receive(disconnected); !errors.Is(err, hub.ErrDisconnected) {
		t.Errorf("disconnected: %v", err)
	}
	if _, ok := h.Client(6); ok {
		t.Error("a disconnected Subscription is still there")
	}

	replaced := h.subscribe(t, 7)
	client := h.connectToken(t, "")
	if err := receive(replaced); !errors.Is(err, hub.ErrTakenOver) {
		t.Errorf("taken over: %v", err)
	}
	again := h.subscribe(t, 7)
	client.expectGoAway(wire.GoAwayTakenOver)
	h.mustSend(t, 1, []uint64{7}, []byte("x"), nil)
	expectMessage(t, again, 1, []byte("x"))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := again.Receive(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// TestSubscription_Unread_HasFateOnClose closes a Subscription with messages in its inbox and in
// its queue.
func TestSubscription_Unread_HasFateOnClose(t *testing.T) {
	h := start(t, hub.Config{})
	s := h.subscribe(t, 0)
	fates := make(chan wire.Fate, 3)
	for range 3 { // one for the inbox, which is full then
		go func() {
			report, err := h.Send(t.Context(), 1, []uint64{s.ID()}, pattern(100_000, 1), &hub.SendOptions{Level: wire.LevelReceived})
			if err != nil {
				t.Error(err)
			}
			fates <- report.Fates[0]
		}()
	}
	eventually(t, "the messages are queued", func() bool {
		if h.Stats().Delivered < 1 { // first: after that, only the others are queued
			return false
		}
		info, _ := h.Client(s.ID())
		return info.QueuedBytes > 200_000
	})
	s.Close()
	got := []wire.Fate{<-fates, <-fates, <-fates}
	slices.Sort(got)
	if !slices.Equal(got, []wire.Fate{wire.FateGone, wire.FateGone, wire.FateUncertain}) {
		t.Errorf("the fates are %v", got)
	}
}

// TestSubscription_Shutdown_Drains shuts a hub down while a Subscription has messages, which it
// still receives.
func TestSubscription_Shutdown_Drains(t *testing.T) {
	h := start(t, hub.Config{})
	s := h.subscribe(t, 0)
	body := pattern(50_000, 3)
	for range 5 {
		h.mustSend(t, 1, []uint64{s.ID()}, body, nil)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "Send fails", func() bool { _, err := h.Send(t.Context(), 1, nil, nil, nil); return errors.Is(err, hub.ErrClosed) })
	for range 5 {
		expectMessage(t, s, 1, body)
	}
	if _, err := s.Receive(t.Context()); !errors.Is(err, hub.ErrClosed) {
		t.Errorf("after Shutdown: %v", err)
	}
	wg.Wait()
	if _, err := h.Subscribe(0); !errors.Is(err, hub.ErrClosed) {
		t.Errorf("Subscribe after Shutdown: %v", err)
	}
}

// TestSubscription_Shutdown_Unread shuts a hub down while a Subscription has a message that the
// program does not receive. Shutdown ends although its context does not.
func TestSubscription_Shutdown_Unread(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		s := h.subscribe(t, 0)
		h.mustSend(t, 1, []uint64{s.ID()}, []byte("unread"), &hub.SendOptions{Level: wire.LevelWritten})
		if took, err := h.shutdownTimed(t, testTimeout); err != nil || took != hub.DefaultStallTimeout {
			t.Errorf("Shutdown took %v: %v", took, err)
		}
		if _, err := s.Receive(t.Context()); !errors.Is(err, hub.ErrStalled) {
			t.Errorf("Receive: %v", err)
		}
	})
}

// TestSend_Shutdown_EndsEachWait shuts a hub down while Sends wait for credit, for memory and for
// reports, Subscriptions have messages that nobody receives, and one of them is being closed.
// Shutdown ends with its context, and every Send has returned then.
func TestSend_Shutdown_EndsEachWait(t *testing.T) {
	config := hub.Config{OutboxBytes: 4 << 10, Credit: 4 << 10, MaxReports: 2, MaxBody: 200_000, MaxQueuedBytes: 1 << 20}
	for _, timeout := range []time.Duration{0, time.Second, testTimeout} { // the last one is above the stall timeout
		inVirtualTimeWith(t, config, func(t *testing.T, h *testHub) {
			client := h.connectV2(t) // reads nothing
			full, unread, closing := h.subscribe(t, 0), h.subscribe(t, 0), h.subscribe(t, 0)
			var sends sync.WaitGroup
			for i := range 60 {
				to := []uint64{[]uint64{client.id, full.ID(), unread.ID(), closing.ID()}[i%4]}
				options := &hub.SendOptions{Level: wire.Level(i % 3), ReportTimeout: time.Hour}
				sends.Go(func() {
					if _, err := h.Send(t.Context(), uint64(1+i%5), to, pattern(i*i*50, 1), options); err != nil && !errors.Is(err, hub.ErrClosed) {
						t.Error(err)
					}
				})
			}
			time.Sleep(time.Second)
			closed := make(chan error, 1)
			go func() { closed <- closing.Close() }() // ends with the Subscription
			took, err := h.shutdownTimed(t, timeout)
			if took > min(timeout, 3*hub.DefaultStallTimeout) || (err == nil) != (timeout == testTimeout) {
				t.Errorf("with %v, Shutdown took %v: %v", timeout, took, err)
			}
			sends.Wait()
			<-closed
			if _, err := full.Receive(t.Context()); err == nil {
				t.Error("a Subscription receives after Shutdown")
			}
		})
	}
}

// TestSubscription_Shutdown_RacesWithAll has goroutines send, subscribe, receive, close and
// disconnect while the hub is shut down.
func TestSubscription_Shutdown_RacesWithAll(t *testing.T) {
	for range 30 {
		h, err := hub.New(hub.Config{OutboxBytes: 4 << 10, Credit: 4 << 10, MaxReports: 2})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range uint64(4) {
			wg.Go(func() { // ends with the hub
				for err := error(nil); !errors.Is(err, hub.ErrClosed); {
					_, err = h.Send(t.Context(), 1+i/2, []uint64{1, 2, 3, 1}, pattern(3000, 1), &hub.SendOptions{Level: wire.Level(i)})
				}
			})
			wg.Go(func() { // ends with the hub
				for n := i; ; n++ {
					s, err := h.Subscribe(1 + n%3)
					switch {
					case errors.Is(err, hub.ErrIDInUse):
						runtime.Gosched()
						continue
					case err != nil:
						return
					}
					for range n % 5 {
						if m, err := s.Receive(t.Context()); err == nil {
							m.Ack()
						}
					}
					if n%2 == 0 {
						h.Disconnect(s.ID(), false)
					}
					s.Close()
				}
			})
		}
		eventually(t, "messages are delivered", func() bool { return h.Stats().Delivered > 20 })
		wg.Go(func() { _ = h.Shutdown(t.Context()) })
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if stats := h.Stats(); stats.QueuedBytes != 0 || stats.Clients != 0 {
			t.Errorf("%d bytes queued, %d clients", stats.QueuedBytes, stats.Clients)
		}
	}
}

// TestSubscription_Stalled_Ends lets a sender wait for a Subscription that receives nothing.
func TestSubscription_Stalled_Ends(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub) {
		s := h.subscribe(t, 0)
		report := make(chan *hub.Report, 1)
		for range 7 { // one for the inbox, six for the queue
			h.mustSend(t, 1, []uint64{s.ID()}, pattern(100_000, 1), nil)
		}
		go func() {
			r, err := h.Send(t.Context(), 1, []uint64{s.ID()}, pattern(100_000, 1), &hub.SendOptions{Level: wire.LevelReceived})
			if err != nil {
				t.Error(err)
			}
			report <- r
		}()
		if r := <-report; r.Fates[0] != wire.FateGone {
			t.Errorf("the fate is %v", r.Fates[0])
		}
		_, err := s.Receive(t.Context())
		for err == nil { // what is in the inbox
			_, err = s.Receive(t.Context())
		}
		if !errors.Is(err, hub.ErrStalled) {
			t.Errorf("Receive: %v", err)
		}
	})
}
