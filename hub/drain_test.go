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

// TestHub_SendGoAway_SpreadsOverTime sends GOAWAY to four clients over four seconds. A client
// of version 1 and one that connects meanwhile stay until Shutdown.
func TestHub_SendGoAway_SpreadsOverTime(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
		v1 := connectPipe(t, ln).requestID()
		var clients []*clientV2
		for range 4 {
			clients = append(clients, connectPipeV2(t, ln))
			time.Sleep(time.Millisecond) // makes the order of connections clear
		}
		began := time.Now()
		var wg sync.WaitGroup
		for i, c := range clients {
			wg.Go(func() {
				if away := c.expectGoAway(wire.GoAwayShutdown); !away.Reconnect || away.After > 1000 {
					t.Errorf("client %d got %+v, want to reconnect within a second", i, away)
				}
				if took := time.Since(began).Round(maxCloseDelay); took != time.Duration(i)*time.Second {
					t.Errorf("client %d disconnected after %v", i, took)
				}
			})
		}
		wg.Go(func() {
			if err := h.SendGoAway(t.Context(), 4*time.Second); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(1500 * time.Millisecond)
		newcomer := connectPipeV2(t, ln)
		wg.Wait()
		v1.fencePromptly()
		if n := h.Stats().Clients; n != 2 {
			t.Errorf("%d clients are left, want 2", n)
		}
		done := make(chan error, 1)
		go func() { done <- h.Shutdown(context.WithoutCancel(t.Context())) }() // ends with the test
		newcomer.expectGoAway(wire.GoAwayShutdown)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := h.Stats().Disconnected[hub.CloseShutdown]; n != 6 {
			t.Errorf("%d disconnected by the shutdown, want 6", n)
		}
	})
}

// maxCloseDelay is how long the end of a connection can take whose client reads, in virtual
// time.
const maxCloseDelay = 500 * time.Millisecond

// TestHub_SendGoAway_DeliversQueued sends GOAWAY to a client that reads late and acknowledges
// nothing.
func TestHub_SendGoAway_DeliversQueued(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
		sender, c := connectPipeV2(t, ln), connectPipeV2(t, ln)
		c.withholdsAcks = true
		body := pattern(16<<10, 1)
		for range 3 {
			sender.sendMessage(body, 0, 0, c.id)
		}
		synctest.Wait()
		if err := h.SendGoAway(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		for seq := range uint64(3) {
			c.expectDeliver(sender.id, seq+1, body)
		}
		c.expectGoAway(wire.GoAwayShutdown)
		acked, gotGoAway := uint64(0), false
		for {
			kind, payload, err := sender.readFrame()
			if err != nil {
				break
			}
			if kind == wire.TypeAck {
				acked, _ = wire.ParseUint64(payload)
			}
			gotGoAway = gotGoAway || kind == wire.TypeGoAway
		}
		if acked != 3 || !gotGoAway {
			t.Errorf("the sender got an ACK for %d SENDs, want 3, and GOAWAY: %t", acked, gotGoAway)
		}
	})
}

func TestHub_SendGoAway_EndsWithContextOrShutdown(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
		for range 2 {
			connectPipeV2(t, ln)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.SendGoAway(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		connectPipeV2(t, ln)
		time.AfterFunc(time.Second, func() { _, _ = h.shutdownTimed(t, time.Minute) })
		if err := h.SendGoAway(t.Context(), time.Hour); !errors.Is(err, hub.ErrClosed) {
			t.Errorf("got %v, want %v", err, hub.ErrClosed)
		}
	})
}
