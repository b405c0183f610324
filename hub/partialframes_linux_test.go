package hub_test

import (
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestHub_PartialFrames_HoldNoMemory has more clients in the middle of a large message than
// the hub has memory for. They delay no other client, none of them is disconnected, and each
// message is delivered when its last byte was sent.
func TestHub_PartialFrames_HoldNoMemory(t *testing.T) {
	h := start(t, hub.Config{MaxQueuedBytes: 5 << 20, StallTimeout: time.Hour})
	bystanders := h.startBystanders(t)
	a, b := h.connectV1(t), h.connectV1(t)
	frame := wire.AppendRelay(nil, []uint64{b.id}, pattern(wire.DefaultMaxBody, 1))
	almostAll := len(frame) - 1
	var holders []*clientV1
	for i := range 24 {
		c := h.connectV1(t)
		c.send(frame[:[]int{70_000, almostAll / 2, almostAll}[i%3]])
		holders = append(holders, c)
	}
	body := pattern(wire.DefaultMaxBody, 2)
	for range 10 {
		a.relay(body, b.id)
		if err := b.SetReadDeadline(time.Now().Add(maxRoundTrip)); err != nil {
			t.Fatal(err)
		}
		b.expectRelay(body)
	}
	bystanders.waitRounds(10)
	for i, c := range holders {
		c.send(frame[[]int{70_000, almostAll / 2, almostAll}[i%3]:])
		b.expectRelay(pattern(wire.DefaultMaxBody, 1))
	}
	if n := h.Stats().Disconnected; len(n) != 0 {
		t.Errorf("some were disconnected: %v", n)
	}
}
