package client

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// TestCalls_Retained: the cost of retained messages is counted until they are taken.
func TestCalls_Retained(t *testing.T) {
	c := new(call)
	cs := calls{bySeq: map[uint64]*call{1: c, 2: {}}}
	p := newPendingSend(1, 1)
	p.cost = 10
	cs.retain(c, &p)
	cs.recomputeCosts(&sendLimits{receiverCost: 5})
	if want := p.length + 5; cs.retainedCost != want {
		t.Errorf("the cost is %d, want %d", cs.retainedCost, want)
	}
	taken := cs.takeRetained(c)
	if taken.buffer != p.buffer || taken.seq != 1 || cs.retainedCost != 0 {
		t.Errorf("took message %d, cost %d is left", taken.seq, cs.retainedCost)
	}
	taken.buffer.Release()
	if again := cs.takeRetained(c); again.buffer != nil || cs.retainedCost != 0 {
		t.Errorf("took a message twice, cost %d is left", cs.retainedCost)
	}
}

// TestCalls_Timers: waiting for the timers ends when each has run or was stopped.
func TestCalls_Timers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cs := calls{bySeq: map[uint64]*call{1: {}, 2: {}, 3: {}}}
		begin := time.Now()
		for _, c := range cs.bySeq {
			cs.startTimer(c, time.Minute, cs.timers.Done)
		}
		cs.fireTimer(cs.bySeq[1], wire.FateExpired)
		dropped := cs.dropIf(func(seq uint64, _ *call) bool { return seq == 2 })
		if len(dropped) != 1 || len(cs.bySeq) != 2 || cs.bySeq[1].fate != wire.FateExpired {
			t.Errorf("%d calls are dropped, and %d are left", len(dropped), len(cs.bySeq))
		}
		cs.timers.Wait()
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("the last timer has run after %v", took)
		}
		cs.fireTimer(cs.bySeq[3], wire.FateUncertain) // its timer has run before
		cs.timers.Wait()
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("a fired timer has run after %v", took)
		}
	})
}
