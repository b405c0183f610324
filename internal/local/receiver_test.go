package local

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// events counts the events of batches.
type events [outbox.EventTooLarge + 1]atomic.Int32

func (e *events) HandleEvent(_ int, event outbox.Event, _, frames int) { e[event].Add(int32(frames)) }

// expect fails the test unless these frames are written, acknowledged, unacknowledged and lost.
func (e *events) expect(t testing.TB, written, acked, unacked, lost int32) {
	t.Helper()
	synctest.Wait()
	got := [4]int32{e[outbox.EventWritten].Load(), e[outbox.EventAcked].Load(), e[outbox.EventUnacked].Load(), e[outbox.EventLost].Load()}
	if want := [4]int32{written, acked, unacked, lost}; got != want {
		t.Errorf("%v frames are written, acked, unacked and lost, want %v", got, want)
	}
}

// offer offers a batch of messages to r, and returns the outcome. options can be nil.
func offer(r *Receiver, options *outbox.Options, flags wire.DeliverFlags, bodies ...[]byte) outbox.Outcome {
	size := 0
	for _, b := range bodies {
		size += wire.DeliverLen(len(b))
	}
	buf := body.Get(size)
	defer buf.Release()
	frames := buf.Bytes()[:0]
	for i, b := range bodies {
		frames = wire.AppendDeliver(frames, &wire.Deliver{Sender: 1, Seq: uint64(i), Flags: flags, Body: b})
	}
	var fl outbox.Flusher
	defer fl.Reset()
	return r.Offer(&outbox.Batch{Buffer: buf, To: size, Frames: len(bodies), Messages: true, Reliable: true, Options: options}, &fl)
}

// inboxOf returns the number of messages in an inbox, and their size.
func inboxOf(r *Receiver) (messages, bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.inbox), r.inboxBytes
}

// onReceiver runs a test in virtual time with a Receiver whose queue holds 1 MiB.
func onReceiver(t *testing.T, test func(t *testing.T, h *testHub, r *Receiver)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{})
		test(t, h, h.addReceiver(5, 1<<20))
	})
}

// TestReceiver_Inbox_IsBounded offers more than the inbox takes, in batches of many sizes. The
// rest stays in the queue, and follows in order when messages are received.
func TestReceiver_Inbox_IsBounded(t *testing.T) {
	for _, size := range []int{8, 100, 1000, 1100, 5000, 40_000, maxInboxBytes, 200_000} {
		for _, perBatch := range []int{1, 3, 50} {
			onReceiver(t, func(t *testing.T, h *testHub, r *Receiver) {
				total := max(6, 3*maxInboxBytes/size)
				for n := 0; n < total; {
					var bodies [][]byte
					for range min(perBatch, total-n) {
						bodies = append(bodies, numbered(n, size))
						n++
					}
					offer(r, nil, 0, bodies...)
				}
				synctest.Wait()
				messages, bytes := inboxOf(r)
				frame := wire.DeliverLen(size)
				if want := (maxInboxBytes + frame - 1) / frame; messages != want || bytes != want*frame {
					t.Errorf("bodies of %d bytes, %d per batch: %d messages of %d bytes are in the inbox, want %d", size, perBatch, messages, bytes, want)
				}
				if got := h.written.Load(); got != int64(messages) {
					t.Errorf("%d messages are written, %d in the inbox", got, messages)
				}
				for n := range total {
					m := expectNumbered(t, r, n, size)
					if cap(m.Body) != len(m.Body) {
						t.Fatalf("an append to a body overwrites %d bytes of another", cap(m.Body)-len(m.Body))
					}
				}
				synctest.Wait()
				if p := r.Progress(); p.Busy || r.inbox != nil || r.AckStats().HeldBytes != 0 {
					t.Errorf("at the end %+v, %+v", p, r.AckStats())
				}
			})
		}
	}
}

// TestReceiver_Receive_Concurrent has many goroutines receive. Each message goes to one of them,
// and each goroutine gets its messages in order. All of them wake when the Receiver is stopped.
func TestReceiver_Receive_Concurrent(t *testing.T) {
	const goroutines, messages = 8, 5000
	h := newTestHub(t, limits{credit: 16 << 10})
	r := h.addReceiver(5, 8<<10)
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := make(map[uint64]int)
	for range goroutines {
		wg.Go(func() {
			last := uint64(0)
			for {
				m, err := r.Receive(context.Background())
				if err != nil {
					return
				}
				if m.Seq <= last {
					t.Errorf("message %d after %d", m.Seq, last)
				}
				last = m.Seq
				mu.Lock()
				seen[m.Seq]++
				mu.Unlock()
			}
		})
	}
	first := h.sendTo(t, 1, make([]byte, 100), 5)
	for range messages - 1 {
		h.sendTo(t, 1, make([]byte, 100), 5)
	}
	if _, err := h.sendLevel(t.Context(), 1, wire.LevelReceived, nil, 5); err != nil {
		t.Fatal(err)
	}
	r.Stop(errTestClosed)
	wg.Wait()
	for seq := first; seq <= first+messages; seq++ {
		if seen[seq] != 1 {
			t.Fatalf("message %d was received %d times", seq-first, seen[seq])
		}
	}
}

// TestReceiver_Receive_WakesEachWaiter offers one batch to several goroutines that wait. Each of
// them gets a message, although some stop waiting at the same time.
func TestReceiver_Receive_WakesEachWaiter(t *testing.T) {
	onReceiver(t, func(t *testing.T, _ *testHub, r *Receiver) {
		for range 50 {
			var received atomic.Int32
			ctx, cancel := context.WithCancel(t.Context())
			for range 4 {
				for _, c := range []context.Context{t.Context(), ctx} {
					go func() { // ends with Receive
						if _, err := r.Receive(c); err == nil {
							received.Add(1)
						}
					}()
				}
			}
			synctest.Wait()
			go cancel()
			offer(r, nil, 0, nil, nil, nil, nil, nil, nil, nil, nil)
			synctest.Wait()
			in, _ := inboxOf(r)
			if got := int(received.Load()) + in; got != 8 || in > 4 {
				t.Fatalf("%d messages received, %d in the inbox", received.Load(), in)
			}
			for range in {
				if _, err := r.Receive(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// TestReceiver_Receive_CanceledContext returns what is in the inbox, and then the error.
func TestReceiver_Receive_CanceledContext(t *testing.T) {
	onReceiver(t, func(t *testing.T, _ *testHub, r *Receiver) {
		offer(r, nil, 0, numbered(1, 8))
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errTestClosed)
		if m, err := r.Receive(ctx); err != nil || m.Sender != 1 {
			t.Errorf("%+v, %v", m, err)
		}
		if _, err := r.Receive(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Receive: %v", err)
		}
	})
}

// TestReceiver_Acks_Timing receives messages one by one. They are acknowledged when the inbox is
// empty, when enough is unacknowledged, and at once if the message requests it.
func TestReceiver_Acks_Timing(t *testing.T) {
	onReceiver(t, func(t *testing.T, _ *testHub, r *Receiver) {
		var e events
		options := &outbox.Options{Events: &e}
		const size = 1000
		var bodies [][]byte
		for i := range 20 {
			bodies = append(bodies, numbered(i, size))
		}
		offer(r, options, 0, bodies...)
		e.expect(t, 20, 0, 0, 0)
		batch := int32((maxUnackedBytes + wire.DeliverLen(size) - 1) / wire.DeliverLen(size))
		for n := range int32(20) {
			expectNumbered(t, r, int(n), size)
			want := int32(0)
			switch n++; {
			case n == 20:
				want = 20
			case n >= batch:
				want = batch
			}
			e.expect(t, 20, want, 0, 0)
		}
		offer(r, options, wire.DeliverWantAck, bodies[:3]...)
		for n := range int32(3) {
			expectNumbered(t, r, int(n), size)
			e.expect(t, 23, 21+n, 0, 0)
		}
	})
}

// TestReceiver_DropUnacked_KeepsInbox drops the memory of messages that are received later.
func TestReceiver_DropUnacked_KeepsInbox(t *testing.T) {
	onReceiver(t, func(t *testing.T, _ *testHub, r *Receiver) {
		var e events
		offer(r, &outbox.Options{Events: &e}, 0, numbered(0, 5000), numbered(1, 5000))
		if held := r.AckStats().HeldBytes; held != 2*wire.DeliverLen(5000) {
			t.Errorf("%d bytes are held", held)
		}
		r.DropUnacked()
		if held := r.AckStats().HeldBytes; held != 0 {
			t.Errorf("%d bytes are held after DropUnacked", held)
		}
		expectNumbered(t, r, 0, 5000)
		expectNumbered(t, r, 1, 5000)
		e.expect(t, 2, 2, 0, 0)
	})
}

// TestReceiver_Close_DecidesFates closes a Receiver with messages that are received, in the inbox,
// in the queue and blocked.
func TestReceiver_Close_DecidesFates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{})
		r := h.addReceiver(5, 4<<10)
		var e events
		options := &outbox.Options{Events: &e}
		for i := range 4 {
			offer(r, options, wire.DeliverWantAck, numbered(i, maxInboxBytes))
			synctest.Wait()
		}
		expectNumbered(t, r, 0, maxInboxBytes)
		e.expect(t, 2, 1, 0, 0)
		verdicts := h.start(t, Send{From: 1, To: []uint64{5}, Options: wire.MakeOptions(wire.LevelProcessed, wire.OverflowBlock)})
		verdicts.expectWaiting(t)
		r.Stop(errTestClosed)
		r.Stop(errors.New("a later reason"))
		if err := r.Err(); !errors.Is(err, errTestClosed) {
			t.Errorf("the error is %v", err)
		}
		<-r.Stopped()
		if _, err := r.Receive(t.Context()); !errors.Is(err, errTestClosed) {
			t.Errorf("Receive: %v", err)
		}
		r.Close()
		e.expect(t, 2, 1, 1, 2)
		verdicts.expectEnd(t, nil)
		if !slices.Equal(verdicts.report.Fates, []wire.Fate{wire.FateGone}) {
			t.Errorf("the fates are %v", verdicts.report.Fates)
		}
		if outcome := offer(r, nil, 0, nil); outcome != outbox.Closed {
			t.Errorf("a closed Receiver accepts a batch: %v", outcome)
		}
		if h.lost.Load() != 3 {
			t.Errorf("%d messages are counted as lost", h.lost.Load())
		}
	})
}

// TestReceiver_Close_FailsVerdicts closes a Receiver that has received a message and has given no
// verdict.
func TestReceiver_Close_FailsVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{})
		r := h.addReceiver(5, 4<<10)
		p := h.start(t, Send{From: 1, To: []uint64{5}, Body: numbered(1, 8), Options: wire.MakeOptions(wire.LevelProcessed, wire.OverflowBlock)})
		expectNumbered(t, r, 1, 8)
		p.expectWaiting(t)
		r.Stop(errTestClosed)
		r.Close()
		p.expectEnd(t, nil)
		if !slices.Equal(p.report.Fates, []wire.Fate{wire.FateUncertain}) {
			t.Errorf("the fates are %v", p.report.Fates)
		}
	})
}

// TestReceiver_Stall_Stops lets a sender wait for a Receiver that receives nothing.
func TestReceiver_Stall_Stops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newTestHub(t, limits{})
		r := h.addReceiver(5, 4<<10)
		for i := range 2 { // the inbox and the queue are full
			offer(r, nil, 0, numbered(i, maxInboxBytes))
			synctest.Wait()
		}
		time.Sleep(10 * stallTimeout)
		if err := r.Err(); err != nil {
			t.Fatalf("stopped while no sender waits: %v", err)
		}
		if outcome := offer(r, nil, 0, nil); outcome != outbox.Blocked {
			t.Fatalf("the outcome is %v", outcome)
		}
		begin := time.Now()
		<-r.Stopped()
		if err := r.Err(); !errors.Is(err, outbox.ErrStalled) || time.Since(begin) != stallTimeout {
			t.Errorf("stopped after %v: %v", time.Since(begin), err)
		}
		r.Close()
	})
}

// TestReceiver_Drain_WaitsForReceive drains a Receiver with messages in its queue and its inbox.
func TestReceiver_Drain_WaitsForReceive(t *testing.T) {
	onReceiver(t, func(t *testing.T, _ *testHub, r *Receiver) {
		for i := range 3 {
			offer(r, nil, 0, numbered(i, maxInboxBytes))
		}
		var drained atomic.Bool
		go func() { // ends when the messages are received
			r.Drain(r.Stopped())
			drained.Store(true)
		}()
		for i := range 3 {
			time.Sleep(stallTimeout / 2)
			if drained.Load() {
				t.Fatalf("Drain returned before message %d was received", i)
			}
			expectNumbered(t, r, i, maxInboxBytes)
		}
		synctest.Wait()
		if !drained.Load() || r.Err() != nil {
			t.Errorf("Drain returned: %v, %v", drained.Load(), r.Err())
		}
	})
}

// TestReceiver_Drain_EndsEarly ends Drain by its argument, and by Stop.
func TestReceiver_Drain_EndsEarly(t *testing.T) {
	for _, messages := range []int{1, 3} { // in the inbox, and in the queue as well
		onReceiver(t, func(t *testing.T, _ *testHub, r *Receiver) {
			for i := range messages {
				offer(r, nil, 0, numbered(i, maxInboxBytes))
			}
			var ended atomic.Int32
			drain := func(stop <-chan struct{}) {
				r.Drain(stop)
				ended.Add(1)
			}
			stop := make(chan struct{})
			go drain(stop) // ends with stop
			synctest.Wait()
			if ended.Load() != 0 {
				t.Error("Drain returned at once")
			}
			close(stop)
			synctest.Wait()
			if ended.Load() != 1 {
				t.Error("Drain does not end with stop")
			}
			go drain(r.Stopped()) // ends with Stop
			synctest.Wait()
			r.Stop(errTestClosed)
			synctest.Wait()
			if ended.Load() != 2 {
				t.Error("Drain does not end with Stop")
			}
		})
	}
}

// TestReceiver_Stop_RacesWithEverything stops a Receiver while messages are offered and received.
// Each message has one end.
func TestReceiver_Stop_RacesWithEverything(t *testing.T) {
	for range 100 {
		h := newTestHub(t, limits{})
		r := h.newReceiver(4 << 10)
		var e events
		options := &outbox.Options{Events: &e}
		var wg sync.WaitGroup
		var offered, refused atomic.Int32
		for range 2 {
			wg.Go(func() {
				for range 50 {
					if offer(r, options, wire.DeliverWantAck, make([]byte, 3000)) == outbox.Closed {
						refused.Add(1)
					} else {
						offered.Add(1)
					}
				}
			})
		}
		var received atomic.Int32
		for range 2 {
			wg.Go(func() {
				for {
					if _, err := r.Receive(context.Background()); err != nil {
						return
					}
					if received.Add(1) == 20 {
						wg.Go(func() {
							r.Stop(errTestClosed)
							r.Close()
						})
					}
				}
			})
		}
		wg.Wait()
		r.Close()
		ends := e[outbox.EventAcked].Load() + e[outbox.EventUnacked].Load() + e[outbox.EventLost].Load()
		if ends != offered.Load() || offered.Load()+refused.Load() != 100 {
			t.Fatalf("%d messages offered, %d refused, %d ends", offered.Load(), refused.Load(), ends)
		}
		if acked := e[outbox.EventAcked].Load(); acked > received.Load() {
			t.Fatalf("%d messages received, %d acknowledged", received.Load(), acked)
		}
	}
}

// TestReceiver_Stall_SlowApplication has senders wait for an application that receives a message
// now and then. It is not stalled.
func TestReceiver_Stall_SlowApplication(t *testing.T) {
	for _, size := range []int{100, 1000, 10_000} {
		synctest.Test(t, func(t *testing.T) {
			h := newTestHub(t, limits{credit: 4 << 10})
			r := h.addReceiver(5, 4<<10)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { // ends with ctx, or with the Receiver
				for i := 0; ; i++ {
					if _, err := h.Send(ctx, &Send{From: 1, To: []uint64{5}, Body: numbered(i, size)}); err != nil || r.Err() != nil {
						return
					}
				}
			}()
			for i := range 100 {
				time.Sleep(stallTimeout * 9 / 10)
				expectNumbered(t, r, i, size)
			}
			cancel()
		})
	}
}

// TestReceiver_Drain_Stalls drains a Receiver that receives nothing. Drain gives up after the stall
// timeout, wherever the messages are.
func TestReceiver_Drain_Stalls(t *testing.T) {
	for _, messages := range []int{1, 3} {
		onReceiver(t, func(t *testing.T, _ *testHub, r *Receiver) {
			for i := range messages {
				offer(r, nil, 0, numbered(i, maxInboxBytes))
			}
			synctest.Wait()
			begin := time.Now()
			go r.Drain(r.Stopped()) // ends with the stall timeout
			<-time.After(3 * stallTimeout)
			if err := r.Err(); !errors.Is(err, outbox.ErrStalled) {
				t.Errorf("%v after the begin of Drain, the error is %v", time.Since(begin), err)
			}
			r.Stop(errTestClosed)
		})
	}
}
