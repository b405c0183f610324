package hub_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestSend_Expires_WhileBeingRead sends a SEND in two parts, with more time between them than
// its time to live.
func TestSend_Expires_WhileBeingRead(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, h *testHub, ln *pipeListener) {
		sender, receiver := connectPipeV2(t, ln), connectPipeV2(t, ln)
		for i, size := range []int{10, 100_000} {
			body := pattern(size, byte(i))
			sender.seq++
			stale := wire.AppendSend(nil, sender.seq, levelOptions(wire.LevelReceived), 1000, []uint64{receiver.id}, body)
			half := len(stale) - 5
			sender.send(stale[:half])
			<-time.After(time.Second)
			sender.send(stale[half:])
			sender.expectReport(sender.seq, wire.FateExpired)
			fresh := sender.sendMessage(body, levelOptions(wire.LevelReceived), 1000, receiver.id)
			receiver.expectDeliver(sender.id, fresh, body)
			sender.expectReport(fresh, wire.FateReceived)
		}
	})
}

// TestSend_Expires_WhileBlocked sends more than the credit to a detached session: the last
// SEND waits in the hub until the SENDs before it are queued.
func TestSend_Expires_WhileBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newPipeListener()
		startOn(t, hub.Config{OutboxBytes: 4 << 10, Credit: 64 << 10, StallTimeout: time.Hour, ResumeWindow: time.Hour, KeepAlive: time.Hour}, ln)
		sender, detached := connectPipeV2(t, ln), connectPipeV2(t, ln)
		detached.Close()
		synctest.Wait()
		to := slices.Repeat([]uint64{detached.id}, 50)
		body := pattern(20, 1)
		cost := wire.SendCost(len(to), len(body), sender.ReceiverCost)
		// as many as the credit admits
		sends := (64<<10 + wire.SendCost(wire.MaxReceivers, 0, sender.ReceiverCost)) / cost
		for range sends {
			sender.sendMessage(body, 0, 0, to...)
			synctest.Wait() // each SEND is read alone and at once
		}
		expiring := sender.sendMessage(body, levelOptions(wire.LevelReceived), 1000, to...)
		<-time.After(time.Second)
		back := handshakeV2(connectPipe(t, ln), wire.Hello{Version: wire.Version2, ID: detached.ID, Resume: detached.Resume})
		for seq := range uint64(sends) {
			for range to {
				back.expectDeliver(sender.id, seq+1, body)
			}
		}
		sender.expectReport(expiring, slices.Repeat([]wire.Fate{wire.FateExpired}, len(to))...)
		fresh := sender.sendMessage(nil, levelOptions(wire.LevelReceived), 1000, detached.id)
		back.expectDeliver(sender.id, fresh, nil)
		sender.expectReport(fresh, wire.FateReceived)
	})
}
