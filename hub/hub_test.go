package hub_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
)

// TestHub_SetMaxClients_LowersAndRaises lowers the limit below the number of connected
// clients, which stay connected, and raises the limit again.
func TestHub_SetMaxClients_LowersAndRaises(t *testing.T) {
	h := start(t, hub.Config{MaxClients: 3})
	bystanders := h.startBystanders(t)
	set := func(maxClients int) {
		t.Helper()
		if err := h.SetMaxClients(maxClients); err != nil {
			t.Fatal(err)
		}
	}
	set(1)
	h.expectRejectedV1(t)
	set(3)
	h.connectV1(t)
	h.expectRejectedV1(t)
	set(0) // sets the default
	h.connectV1(t)
	for _, invalid := range []int{-1, 1<<30 + 1} {
		want := fmt.Sprintf("hub: MaxClients is %d, must be from 1 to 1073741824", invalid)
		if err := h.SetMaxClients(invalid); fmt.Sprint(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	h.connectV1(t) // the invalid values changed nothing
	if n := h.Stats().Rejected[hub.RejectFull]; n != 2 {
		t.Errorf("%d rejected, want 2", n)
	}
	bystanders.waitRounds(3)
}

// TestHub_AfterLoad_NothingGrows runs twenty rounds of load on one hub, with large bodies and
// with receivers that leave much unread. Goroutines and memory must not grow.
func TestHub_AfterLoad_NothingGrows(t *testing.T) {
	const warm, rounds = 5, 20
	h := start(t, hub.Config{})
	bystanders := h.startBystanders(t)
	var goroutines int
	var memory uint64
	for round := range rounds {
		h.runLoad(t)
		eventually(t, "only the bystanders are connected", func() bool {
			return h.Stats().Clients == 2 && h.Stats().Connected == uint64(2+10*(round+1))
		})
		// The hub can still be writing to clients that left without reading.
		eventually(t, "nothing queued", func() bool { return h.Stats().QueuedBytes < 1<<20 })
		if round == warm {
			goroutines, memory = runtime.NumGoroutine(), heapAfterGC()
		}
	}
	eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines+3 })
	if now := heapAfterGC(); now > memory+8<<20 {
		t.Errorf("%d bytes in use after %d rounds, %d after %d", now, rounds, memory, warm)
	}
	bystanders.waitRounds(3)
}

// heapAfterGC returns the number of heap bytes in use when the pools are empty.
func heapAfterGC() uint64 {
	runtime.GC()
	runtime.GC() // a pool releases its entries with the second collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// runLoad has ten clients send to each other. Half of them leave without reading, while the
// others still send.
func (h *testHub) runLoad(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	var clients []*client.Client
	var ids []uint64
	for range 10 {
		c := h.dialWith(t, new(client.Options))
		clients, ids = append(clients, c), append(ids, c.ID())
	}
	parallel(t, len(clients), func(i int) error {
		c := clients[i]
		defer c.Close()
		for n := range 20 {
			if err := c.Send(ctx, ids, numberedBody(c.ID(), n, n*1000)); err != nil {
				return err
			}
		}
		for range 20 * (i % 2) * 5 { // the others leave without reading
			m, err := c.Receive(ctx)
			if errors.Is(err, client.ErrHubClosed) {
				return err
			}
			m.Release()
		}
		return nil
	})
}
