package hub_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// virtualGuest connects a client of version 2 in virtual time.
func virtualGuest(t *testing.T, ln *pipes) *guest {
	t.Helper()
	return greet(virtual(t, ln), wire.Hello{Version: wire.Version2})
}

// TestHub_SendGoAwaySpreadsOverTime tells four clients over four seconds, beside one of version 1 and one that comes meanwhile.
func TestHub_SendGoAwaySpreadsOverTime(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		classic := virtual(t, ln).named()
		var guests []*guest
		for range 4 {
			guests = append(guests, virtualGuest(t, ln))
			time.Sleep(time.Millisecond) // so that it is clear who came first
		}
		began := time.Now()
		var all sync.WaitGroup
		for i, g := range guests {
			all.Go(func() {
				if away := g.sentAway(wire.GoAwayShutdown); !away.Reconnect || away.After > 1000 {
					t.Errorf("client %d is told %+v, want to reconnect within a second", i, away)
				}
				if took := time.Since(began).Round(farewellMost); took != time.Duration(i)*time.Second {
					t.Errorf("client %d is gone after %v", i, took)
				}
			})
		}
		all.Go(func() {
			if err := h.SendGoAway(t.Context(), 4*time.Second); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(1500 * time.Millisecond)
		late := virtualGuest(t, ln)
		all.Wait()
		classic.answered()
		if n := h.Stats().Clients; n != 2 {
			t.Errorf("%d clients are left, want 2", n)
		}
		ended := make(chan error, 1)
		go func() { ended <- h.Shutdown(context.WithoutCancel(t.Context())) }() // ends with the test, which waits
		late.sentAway(wire.GoAwayShutdown)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := h.Stats().Disconnected[hub.ReasonShutdown]; n != 6 {
			t.Errorf("%d disconnected by the shutdown, want all", n)
		}
	})
}

// farewellMost is how long the end of a connection may take that takes what it is told, in virtual time.
const farewellMost = 500 * time.Millisecond

// TestHub_SendGoAwayKeepsWhatIsQueued tells a client that takes its time, and says nothing of what it has received.
func TestHub_SendGoAwayKeepsWhatIsQueued(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		sender, g := virtualGuest(t, ln), virtualGuest(t, ln)
		g.mute = true
		body := pattern(16<<10, 1)
		for range 3 {
			sender.tell(body, 0, 0, g.id)
		}
		synctest.Wait()
		if err := h.SendGoAway(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		for seq := range uint64(3) {
			g.delivered(sender.id, seq+1, body)
		}
		g.sentAway(wire.GoAwayShutdown)
		taken, told := uint64(0), false
		for {
			kind, payload, err := sender.next()
			if err != nil {
				break
			}
			if kind == wire.TypeTaken {
				taken, _ = wire.ParseNumber(payload)
			}
			told = told || kind == wire.TypeGoAway
		}
		if taken != 3 || !told {
			t.Errorf("the sender is told that %d were taken, want 3, and of the end: %t", taken, told)
		}
	})
}

func TestHub_SendGoAwayEnds(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		for range 2 {
			virtualGuest(t, ln)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.SendGoAway(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		virtualGuest(t, ln)
		time.AfterFunc(time.Second, func() { _, _ = h.shutdown(t, time.Minute) })
		if err := h.SendGoAway(t.Context(), time.Hour); !errors.Is(err, hub.ErrClosed) {
			t.Errorf("got %v, want %v", err, hub.ErrClosed)
		}
	})
}
