package hub_test

import (
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestSend_TimeRunsWhileItIsRead brings a SEND in two parts, with more time between them than it has.
func TestSend_TimeRunsWhileItIsRead(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipes) {
		sender, receiver := virtualGuest(t, ln), virtualGuest(t, ln)
		for i, size := range []int{10, 100_000} {
			body := pattern(size, byte(i))
			sender.seq++
			stale := wire.AppendSend(nil, sender.seq, only(wire.LevelReceived), 1000, []uint64{receiver.id}, body)
			half := len(stale) - 5
			sender.send(stale[:half])
			<-time.After(time.Second)
			sender.send(stale[half:])
			sender.reported(sender.seq, wire.FateExpired)
			fresh := sender.tell(body, only(wire.LevelReceived), 1000, receiver.id)
			receiver.delivered(sender.id, fresh, body)
			sender.reported(fresh, wire.FateReceived)
		}
	})
}

// TestSend_TimeRunsWhileItWaitsToBeTaken sends more than the credit to one that is away: the last SEND waits in
// the hub until the one before has room.
func TestSend_TimeRunsWhileItWaitsToBeTaken(t *testing.T) {
	h := start(t, hub.Config{OutboxBytes: 4 << 10, Credit: 64 << 10, StallTimeout: time.Hour, ResumeWindow: time.Hour})
	sender, away := h.guest(t), h.guest(t)
	away.reset()
	h.detached(t, away)
	body := pattern(50_000, 1)
	var waits []uint64
	for range 3 { // the first fills the queue, the others the credit
		waits = append(waits, sender.tell(body, 0, 0, away.id))
	}
	late := sender.tell(nil, only(wire.LevelReceived), 200, away.id)
	<-time.After(300 * time.Millisecond) // in the real time of the socket: what is late may be later
	back := h.back(t, away)
	for _, seq := range waits {
		back.delivered(sender.id, seq, body)
	}
	sender.reported(late, wire.FateExpired)
	fresh := sender.tell(nil, only(wire.LevelReceived), 60_000, away.id)
	back.delivered(sender.id, fresh, nil)
}
