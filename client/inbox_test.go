package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

func TestReceive_InOrder(t *testing.T) {
	c, h := newTestClientV1(t, nil)
	sizes := []int{0, 1, 100, 5000, 65_531, 65_532, 200_000, wire.DefaultMaxBody, 0}
	go func() { // ends when all frames are read
		for i, size := range sizes {
			// The empty frame has no meaning.
			h.send(deliveryFrame(strings.Repeat(fmt.Sprint(i), size)), []byte{0, 0, 0, 0})
		}
	}()
	for i, size := range sizes {
		wantMessage(t, c, strings.Repeat(fmt.Sprint(i), size))
	}
}

// TestReceive_MessagesAroundReply sends messages before the request, before its reply, and
// after the reply, while no call of Receive waits.
func TestReceive_MessagesAroundReply(t *testing.T) {
	c, h := newTestClientV1(t, nil)
	h.send(deliveryFrame("before the request"))
	listed := runAsync(func() []uint64 { ids, _ := c.List(t.Context()); return ids })
	h.wantBytes(wire.AppendListRequest(nil))
	h.send(deliveryFrame("before the answer"), wire.AppendList(nil, []uint64{1}, nil), deliveryFrame("behind it"))
	if got := waitFor(t, "List", listed); !slices.Equal(got, []uint64{1}) {
		t.Errorf("got %v", got)
	}
	for _, want := range []string{"before the request", "before the answer", "behind it"} {
		wantMessage(t, c, want)
	}
}

func TestReceive_ContextCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newTestClientV1(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		received := runAsync(func() error { _, err := c.Receive(ctx); return err })
		if !isBlocked(received) {
			t.Fatal("Receive returns, and no message has come")
		}
		cancel()
		if err := <-received; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		h.send(deliveryFrames(1)) // not lost
		wantMessage(t, c, "0")
	})
}

// TestMessages_ContextCanceled: the loop ends although there is always a next message.
func TestMessages_ContextCanceled(t *testing.T) {
	c, h := newTestClientV1TCP(t, nil)
	go func() { // ends with the connection
		for err := error(nil); err == nil; {
			_, err = h.Write(deliveryFrames(1000))
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n, last := 0, error(nil)
	for m, err := range c.Messages(ctx) {
		if err != nil {
			last = err
			continue // the next pair must be the error
		}
		m.Release()
		if n++; n == 5000 {
			cancel()
		}
		if n > 5000 {
			t.Fatal("the context has ended, and messages still come")
		}
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("ended with %v, want %v", last, context.Canceled)
	}
}

func TestMessages_BreakKeepsRemaining(t *testing.T) {
	const all = 500
	for _, step := range []int{1, 7, 64, all} {
		synctest.Test(t, func(t *testing.T) {
			c, h := newTestClientV1(t, nil)
			go h.send(deliveryFrames(all)) // ends when all frames are read
			next := 0
			for next < all {
				n := 0
				for m, err := range c.Messages(t.Context()) {
					if err != nil || string(m.Body) != fmt.Sprint(next) {
						t.Fatalf("got %q (%v), want %d", m.Body, err, next)
					}
					next++
					if n++; n == step || next == all {
						break
					}
				}
				synctest.Wait() // more messages may have come meanwhile
				if next < all {
					wantMessage(t, c, fmt.Sprint(next))
					next++
				}
			}
		})
	}
}

func TestReceive_TwoMessagesWakeTwoReceivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newTestClientV1(t, nil)
		receive := func() error { _, err := c.Receive(t.Context()); return err }
		first, second := runAsync(receive), runAsync(receive)
		if !isBlocked(first) || !isBlocked(second) {
			t.Fatal("Receive returns, and no message has come")
		}
		h.send(deliveryFrames(2)) // in one read
		if isBlocked(first) || isBlocked(second) {
			t.Fatal("one of the two calls still waits")
		}
	})
}

func TestReceive_ConcurrentReceivers(t *testing.T) {
	const receivers, all = 5, 5000
	c, h := newTestClientV1TCP(t, &Options{MaxUnread: 2000})
	var mu sync.Mutex
	seen := map[string]int{}
	var wg sync.WaitGroup
	for i := range receivers {
		wg.Go(func() {
			note := func(m Message) {
				mu.Lock()
				seen[string(m.Body)]++
				mu.Unlock()
				m.Release()
			}
			for {
				if i%2 == 0 {
					m, err := c.Receive(t.Context())
					if err != nil {
						return
					}
					note(m)
					continue
				}
				n := 0
				for m, err := range c.Messages(t.Context()) {
					if err != nil {
						return
					}
					note(m)
					if n++; n == 10 {
						break
					}
				}
			}
		})
	}
	h.send(deliveryFrames(all))
	h.Close() // messages before the end are still received
	wg.Wait()
	for i := range all {
		if n := seen[fmt.Sprint(i)]; n != 1 {
			t.Fatalf("message %d was received %d times", i, n)
		}
	}
}

// TestInbox_MaxUnread counts how much a client reads while no message is received.
func TestInbox_MaxUnread(t *testing.T) {
	for _, test := range []struct{ unread, body int }{
		{1, 1000}, {10_000, 1000}, {100_000, 10}, {100_000, 20_000}, {1000, 300_000}, {10_000, 0},
	} {
		t.Run(fmt.Sprintf("%d of %d", test.unread, test.body), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, h := newTestClientV1(t, &Options{MaxUnread: test.unread})
				frame := deliveryFrame(strings.Repeat("x", test.body))
				taken := make(chan int, 100_000)
				go func() { // ends with the connection
					for {
						if _, err := h.Write(frame); err != nil {
							return
						}
						taken <- test.body
					}
				}()
				synctest.Wait()
				cost := len(taken) * (test.body + messageOverhead)
				if maxCost := test.unread + max(2*len(frame)*(1+messageOverhead/len(frame)), 64<<10); cost < test.unread || cost > maxCost {
					t.Errorf("%d messages of %d bytes were read, %d bytes in all, want %d to %d",
						len(taken), test.body, cost, test.unread, maxCost)
				}
				before := len(taken)
				for range before + 3 { // reading continues when messages are received
					wantMessage(t, c, strings.Repeat("x", test.body))
				}
				c.Close()
				h.Close()
			})
		})
	}
}

// TestInbox_SliceStaysSmall has a receiver that always lags behind.
func TestInbox_SliceStaysSmall(t *testing.T) {
	var b inbox
	b.init(1<<20, nil)
	b.push(make([]entry, 10), position{}, false, false)
	for i := range 100_000 {
		b.push(make([]entry, 1+i%3), position{}, false, false)
		for range 1 + i%3 {
			if _, err := b.receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if maxCap := 1000; cap(b.messages) > maxCap {
		t.Errorf("10 messages wait in a slice of %d, want at most %d", cap(b.messages), maxCap)
	}
}

// TestInbox_AcksAtHalfWindow checks that an ACK comes before the window is half full.
func TestInbox_AcksAtHalfWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		var frames []byte
		n := uint64(0)
		for len(frames) < testWelcome.Window/2 {
			n++
			frames = append(frames, deliverFrame(n, 0)...)
		}
		begin := time.Now()
		h.send(frames)
		received := runAsync(func() error {
			for range n + 1 {
				if _, err := tc.client.Receive(t.Context()); err != nil {
					return err
				}
			}
			return nil
		})
		h.wantBytes(wire.AppendAck(nil, n))
		if took := time.Since(begin); took != 0 {
			t.Errorf("ACK after %v", took)
		}
		h.send(deliverFrame(n+1, wire.DeliverWantAck))
		if err := <-received; err != nil {
			t.Error(err)
		}
		back := runAsync(func() error { _, err := tc.client.Receive(t.Context()); return err })
		h.wantBytes(wire.AppendAck(nil, n+1)) // the sender waits for a report
		if took := time.Since(begin); took != 0 {
			t.Errorf("ACK after %v", took)
		}
		h.Close()
		tc.client.session.end(ErrClosed)
		<-back
	})
}

func BenchmarkReceive(b *testing.B) {
	for _, size := range []int{128, 10 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			c, h := newTestClientV1TCP(b, nil)
			batch := []byte(strings.Repeat(string(deliveryFrame(strings.Repeat("x", size))), 1+64<<10/size))
			go func() { // ends with the connection
				for err := error(nil); err == nil; {
					_, err = h.Write(batch)
				}
			}()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for m := range c.Messages(b.Context()) {
				m.Release()
				if !b.Loop() {
					break
				}
			}
		})
	}
}
