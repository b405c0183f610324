package hub_test

import (
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestHub_UnfinishedMessagesHoldNoMemory has more clients in the middle of a large message than the
// hub has memory for. They delay nobody, none of them is cut, and each of their messages comes when
// its end has been sent.
func TestHub_UnfinishedMessagesHoldNoMemory(t *testing.T) {
	h := start(t, hub.Config{MaxQueuedBytes: 5 << 20, StallTimeout: time.Hour})
	bystanders := h.bystand(t)
	a, b := h.peer(t), h.peer(t)
	frame := wire.AppendRelay(nil, []uint64{b.id}, pattern(wire.DefaultMaxBody, 1))
	most := len(frame) - 1
	var holders []*peer
	for i := range 24 {
		p := h.peer(t)
		p.send(frame[:[]int{70_000, most / 2, most}[i%3]])
		holders = append(holders, p)
	}
	body := pattern(wire.DefaultMaxBody, 2)
	for range 10 {
		a.relay(body, b.id)
		if err := b.SetReadDeadline(time.Now().Add(untroubled)); err != nil {
			t.Fatal(err)
		}
		b.hears(body)
	}
	bystanders.pass(10)
	for i, p := range holders {
		p.send(frame[[]int{70_000, most / 2, most}[i%3]:])
		b.hears(pattern(wire.DefaultMaxBody, 1))
	}
	if n := h.Stats().Disconnected; len(n) != 0 {
		t.Errorf("some were disconnected: %v", n)
	}
}
