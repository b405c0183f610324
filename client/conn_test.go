package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

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
