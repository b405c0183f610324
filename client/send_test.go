package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

func TestSend_V1WritesRelay(t *testing.T) {
	c, h := newTestClientV1(t, nil)
	for _, to := range [][]uint64{nil, {1}, {3, 1, 3, 7}, make([]uint64, wire.MaxReceivers)} {
		for _, size := range []int{0, 1, 5000, 70_000, wire.DefaultMaxBody} {
			body := []byte(strings.Repeat("x", size))
			want := wire.AppendRelay(nil, to, body)
			sent := runAsync(func() error { return c.Send(t.Context(), to, body) })
			h.wantBytes(want)
			if err := waitFor(t, "Send", sent); err != nil {
				t.Errorf("%d bytes to %d clients: %v", size, len(to), err)
			}
		}
	}
}

// TestSend_OverLimitSendsNothing checks the next frame.
func TestSend_OverLimitSendsNothing(t *testing.T) {
	c, h := newTestClientV1(t, &Options{MaxBody: 100})
	var receivers *TooManyReceiversError
	err := c.Send(t.Context(), make([]uint64, 256), nil)
	if !errors.As(err, &receivers) || receivers.Receivers != 256 || !strings.Contains(err.Error(), "256 receivers, at most 255") {
		t.Errorf("256 receivers: %v", err)
	}
	var size *BodyTooLargeError
	err = c.Send(t.Context(), []uint64{1}, make([]byte, 101))
	if !errors.As(err, &size) || size.Size != 101 || size.Limit != 100 || !strings.Contains(err.Error(), "101 bytes, at most 100") {
		t.Errorf("a body of 101 bytes: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Send(ended, []uint64{1}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	if _, err := c.List(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("List with an ended context: %v", err)
	}
	sent := runAsync(func() error { return c.Send(t.Context(), []uint64{2}, make([]byte, 100)) })
	h.wantBytes(wire.AppendRelay(nil, []uint64{2}, make([]byte, 100)))
	if err := waitFor(t, "Send", sent); err != nil {
		t.Error(err)
	}
}

func TestSend_CopiesArguments(t *testing.T) {
	c, h := newTestClientV1(t, nil)
	to, body := []uint64{1, 2}, []byte("before")
	for _, size := range []int{6, 10_000} { // copied, and held by reference
		body = append(body[:6], make([]byte, size-6)...)
		want := wire.AppendRelay(nil, to, body)
		if err := c.Send(t.Context(), to, body); err != nil { // the hub does not read yet
			t.Fatal(err)
		}
		to[0], body[0] = 99, 'x'
		h.wantBytes(want)
		to[0], body[0] = 1, 'b'
	}
}

// TestSend_BlocksUntilRoom has a hub that does not read.
func TestSend_BlocksUntilRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newTestClientV1(t, &Options{MaxQueued: 20_000})
		relay := func(n byte) []byte { return wire.AppendRelay(nil, []uint64{1}, slices.Repeat([]byte{n}, 10_000)) }
		send := func(ctx context.Context, n byte) <-chan error {
			return runAsync(func() error { return c.Send(ctx, []uint64{1}, slices.Repeat([]byte{n}, 10_000)) })
		}
		for n := range byte(2) {
			if sent := send(t.Context(), n); isBlocked(sent) {
				t.Fatalf("Send %d blocks although there is room", n)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		second, cancelled, third := send(t.Context(), 2), send(ctx, 3), send(t.Context(), 4)
		if !isBlocked(cancelled) {
			t.Fatal("Send does not block although there is no room")
		}
		cancel()
		if err := <-cancelled; !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
		if !isBlocked(second) || !isBlocked(third) {
			t.Fatal("canceling one Send has unblocked others")
		}
		got := slices.Concat(relay(0), relay(1))
		h.wantBytes(got)
		h.wantBytes(eitherOrder(t, h, relay(2), relay(4)))
		if err := errors.Join(<-second, <-third); err != nil {
			t.Error(err)
		}
	})
}

// eitherOrder reads the first of two relays that were sent at the same time, and returns the
// other.
func eitherOrder(t *testing.T, h *fakeHub, a, b []byte) []byte {
	t.Helper()
	_, payload, err := h.readFrame()
	if err != nil {
		t.Fatal(err)
	}
	if payload[len(payload)-1] == a[len(a)-1] {
		return b
	}
	return a
}

func TestSend_BlockedUntilContextTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newTestClientV1(t, &Options{MaxQueued: 1})
		if err := c.Send(t.Context(), nil, nil); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for range 3 {
			if err := c.Send(ctx, []uint64{1}, []byte("never")); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
			}
		}
		h.wantBytes(wire.AppendRelay(nil, nil, nil))
		closed := runAsync(c.Close)
		synctest.Wait()
		h.wantEOF()
		if err := <-closed; err != nil {
			t.Errorf("Close: %v, but no queued message is lost", err)
		}
	})
}

func TestSend_ConcurrentSendersKeepOrder(t *testing.T) {
	const senders, each = 8, 200
	c, h := newTestClientV1TCP(t, &Options{MaxQueued: 1000})
	received := make(chan [2]uint64, senders*each)
	// Ends with the connection.
	go h.serve(func(r wire.Relay) { received <- [2]uint64{r.To.At(0), r.To.At(1)} })
	var wg sync.WaitGroup
	for sender := range uint64(senders) {
		wg.Go(func() {
			for n := range uint64(each) {
				if err := c.Send(t.Context(), []uint64{sender, n}, make([]byte, n*20)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	next := map[uint64]uint64{}
	for range senders * each {
		r := waitFor(t, "a relay", received)
		if r[1] != next[r[0]] {
			t.Fatalf("sender %d: number %d came, want %d", r[0], r[1], next[r[0]])
		}
		next[r[0]]++
	}
	wg.Wait()
}

func TestList(t *testing.T) {
	c, h := newTestClientV1(t, nil)
	for _, want := range [][]uint64{{}, {1}, {1, 2, 1 << 63}} {
		listed := runAsync(func() []uint64 {
			ids, err := c.List(t.Context())
			if err != nil {
				t.Error(err)
			}
			return ids
		})
		h.wantBytes(wire.AppendListRequest(nil))
		h.send(wire.AppendList(nil, want, nil))
		if got := waitFor(t, "List", listed); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func TestList_Concurrent(t *testing.T) {
	const askers, each = 20, 20
	c, h := newTestClientV1TCP(t, nil)
	go h.serve(nil) // ends with the connection
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			for range each {
				ids, err := c.List(t.Context())
				if err != nil || len(ids) != 1 {
					t.Errorf("got %v, %v", ids, err)
					return
				}
				mu.Lock()
				if seen[ids[0]] {
					t.Errorf("reply %d came twice", ids[0])
				}
				seen[ids[0]] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != askers*each {
		t.Errorf("%d replies, want %d", len(seen), askers*each)
	}
}

// TestList_CanceledReplyIsDiscarded: the reply to a canceled List must not go to the next one.
func TestList_CanceledReplyIsDiscarded(t *testing.T) {
	c, h := newTestClientV1(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	given := runAsync(func() error { _, err := c.List(ctx); return err })
	h.wantBytes(wire.AppendListRequest(nil))
	cancel()
	if err := waitFor(t, "List", given); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	listed := runAsync(func() []uint64 { ids, _ := c.List(t.Context()); return ids })
	h.wantBytes(wire.AppendListRequest(nil))
	h.send(wire.AppendList(nil, []uint64{1}, nil), wire.AppendList(nil, []uint64{2}, nil))
	if got := waitFor(t, "List", listed); !slices.Equal(got, []uint64{2}) {
		t.Errorf("got %v, want the second reply", got)
	}
}

func TestPendingRequests_RemoveUnsent(t *testing.T) {
	var p pendingRequests
	first := addWaiter(&p, &p.list)
	second := addWaiter(&p, &p.list)
	removeWaiter(&p, &p.list, second)
	for i, want := range []error{nil, ErrProtocol} {
		if err := deliverReply(&p, &p.list, []uint64{1}); !errors.Is(err, want) {
			t.Errorf("reply %d: %v, want %v", i, err, want)
		}
	}
	if len(first) != 1 || len(second) != 0 {
		t.Error("the reply went to a request that was not sent")
	}
	third := addWaiter(&p, &p.list)
	p.close(ErrConnectionLost)
	removeWaiter(&p, &p.list, third) // its channel is closed already
	if addWaiter(&p, &p.list) != nil {
		t.Error("closed pendingRequests accept a request")
	}
}

// TestPendingRequests_ReplyAfterClose has replies to requests that have failed already. They
// are no protocol violation: messages can follow them.
func TestPendingRequests_ReplyAfterClose(t *testing.T) {
	var p pendingRequests
	reply := addWaiter(&p, &p.list)
	p.close(ErrConnectionLost)
	if _, ok := <-reply; ok {
		t.Error("a failed request got a reply")
	}
	if err := deliverReply(&p, &p.list, []uint64{1}); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestStats(t *testing.T) {
	c, h := newTestClientV1(t, nil)
	relay := wire.AppendRelay(nil, []uint64{1}, []byte("hello"))
	if err := c.Send(t.Context(), []uint64{1}, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	h.wantBytes(relay)
	h.send(deliveryFrames(3))
	for _, want := range []string{"0", "1", "2"} {
		wantMessage(t, c, want)
	}
	h.Close()
	<-c.Done()
	c.Close()
	want := Stats{
		MessagesIn: 4, Deliveries: 3, BytesIn: uint64(wire.IdentityLen + len(deliveryFrames(3))),
		MessagesOut: 2, BytesOut: uint64(wire.IdentityRequestLen + len(relay)),
	}
	if got := c.Stats(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func BenchmarkSend(b *testing.B) {
	c, h := newTestClientV1TCP(b, nil)
	go func() { // ends with the connection
		sink := make([]byte, 1<<20)
		for err := error(nil); err == nil; {
			_, err = h.Read(sink)
		}
	}()
	to, body := []uint64{1, 2, 3}, make([]byte, 128)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Send(b.Context(), to, body); err != nil {
			b.Fatal(err)
		}
	}
}

// withMaxReportTimeout returns w with MaxReportTimeout set to max.
func withMaxReportTimeout(w wire.Welcome, max time.Duration) wire.Welcome {
	w.MaxReportTimeout = max.Milliseconds()
	return w
}

// TestSendFunc_ReportTimeout checks the report timeout in a SEND to hubs that allow more, less,
// or do not know the option, also when the hub changes while the message waits.
func TestSendFunc_ReportTimeout(t *testing.T) {
	ask := func(timeout time.Duration) []byte {
		return wire.AppendSend(nil, 1, wire.MakeOptions(wire.LevelProcessed, 0).WithReportTimeout(timeout), 0, []uint64{1}, []byte("task"))
	}
	const unknown, asked = 0, 90 * time.Second
	for name, tt := range map[string]struct {
		first, second time.Duration // limits of the two hubs
		resumed       bool          // the second hub resumes the session
		want          [2]time.Duration
	}{
		"allowed":                           {first: time.Hour, second: time.Hour, resumed: true, want: [2]time.Duration{asked, asked}},
		"resumed on a hub that allows less": {first: time.Hour, second: time.Minute, resumed: true, want: [2]time.Duration{asked, time.Minute}},
		"sent again to a hub without report timeouts": {first: time.Hour, second: unknown, want: [2]time.Duration{asked, 0}},
		"sent again to a hub with report timeouts":    {first: unknown, second: time.Hour, want: [2]time.Duration{0, asked}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc, h := newTestClientWith(t, wire.Hello{Version: wire.Version2}, withMaxReportTimeout(testWelcome, tt.first), func(o *Options) { o.Resend = true })
				err := tc.client.SendFunc(t.Context(), []uint64{1}, []byte("task"), &SendOptions{Level: wire.LevelProcessed, ReportTimeout: asked}, func(*Report, error) {})
				if err != nil {
					t.Fatal(err)
				}
				h.wantBytes(ask(tt.want[0]))
				h.Close()
				tc.wantEvent(EventDisconnected)
				h = <-tc.hubs
				h.wantType(wire.TypeHello)
				h.wantType(wire.TypeIdentity)
				w := withMaxReportTimeout(testWelcome, tt.second)
				w.Resumed = tt.resumed
				h.sendWelcome(w)
				h.wantBytes(ask(tt.want[1]))
			})
		})
	}
}

// TestSendFunc_ReportTimeoutTooLong sends nothing.
func TestSendFunc_ReportTimeoutTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClientWith(t, wire.Hello{Version: wire.Version2}, withMaxReportTimeout(testWelcome, time.Minute), nil)
		_, err := tc.client.SendReport(t.Context(), []uint64{1}, nil, &SendOptions{ReportTimeout: time.Minute + 1})
		var tooLong *ReportTimeoutTooLongError
		if !errors.As(err, &tooLong) || tooLong.Limit != time.Minute || tooLong.Timeout != time.Minute+1 {
			t.Errorf("above the limit of the hub: %v", err)
		}
		for _, timeout := range []time.Duration{-1, wire.MaxReportTimeout + 1} {
			if _, err := tc.client.SendReport(t.Context(), []uint64{1}, nil, &SendOptions{ReportTimeout: timeout}); err == nil {
				t.Errorf("%v is accepted", timeout)
			}
		}
		h.wantSilence()
	})
}
