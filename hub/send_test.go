package hub_test

import (
	"slices"
	"testing"
	"testing/synctest"
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
// the hub until those before have room.
func TestSend_TimeRunsWhileItWaitsToBeTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipes()
		startOn(t, hub.Config{OutboxBytes: 4 << 10, Credit: 64 << 10, StallTimeout: time.Hour, ResumeWindow: time.Hour, KeepAlive: time.Hour}, ln)
		sender, away := virtualGuest(t, ln), virtualGuest(t, ln)
		away.Close()
		synctest.Wait()
		to := slices.Repeat([]uint64{away.id}, 50)
		body := pattern(20, 1)
		cost := wire.SendCost(len(to), len(body), sender.ReceiverCost)
		taken := (64<<10 + wire.SendCost(wire.MaxReceivers, 0, sender.ReceiverCost)) / cost // more is not admitted
		for range taken {
			sender.tell(body, 0, 0, to...)
			synctest.Wait() // each is read by itself, and at once
		}
		late := sender.tell(body, only(wire.LevelReceived), 1000, to...)
		<-time.After(time.Second)
		back := greet(virtual(t, ln), wire.Hello{Version: wire.Version2, ID: away.ID, Resume: away.Resume})
		for seq := range uint64(taken) {
			for range to {
				back.delivered(sender.id, seq+1, body)
			}
		}
		sender.reported(late, slices.Repeat([]wire.Fate{wire.FateExpired}, len(to))...)
		fresh := sender.tell(nil, only(wire.LevelReceived), 1000, away.id)
		back.delivered(sender.id, fresh, nil)
		sender.reported(fresh, wire.FateReceived)
	})
}
