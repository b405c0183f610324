package client

import (
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// call is a SEND that waits for its report.
type call struct {
	onReport  func(*Report, error)
	receivers int
	// retained is the acknowledged message, kept to be sent again if the session is lost. Without
	// a buffer: the message is in the queue, or is not sent again.
	retained pendingSend

	// maybeSent says that the message was sent in an earlier session, and may have arrived.
	maybeSent bool

	timer *time.Timer // nil without a TTL
	fate  wire.Fate   // for the report by timer, because the hub sends none; 0: none
}

// fateOf returns the fate of a message that the hub has reported as f. A message that was sent
// before, in a session that was lost, may have arrived then, even if it certainly did not arrive
// now.
func (c *call) fateOf(f wire.Fate) wire.Fate {
	if c.maybeSent && f > wire.FateProcessed && f != wire.FateRejected {
		return wire.FateUncertain
	}
	return f
}

// maxRetained is the size of the retained messages, in bytes, at which Send waits for reports.
const maxRetained = 16 << 20

// calls are the calls that wait for a report, by their seq. It has no lock of its own:
// sendQueue.mu guards it, except timers.
type calls struct {
	bySeq        map[uint64]*call
	retainedCost int            // cost of call.retained of all calls
	timers       sync.WaitGroup // running timers
}

// drop removes the call of a message that gets no report from the hub any more.
func (cs *calls) drop(seq uint64, c *call) {
	delete(cs.bySeq, seq)
	cs.stopTimer(c)
}

// dropIf removes the calls for which condition returns true, and returns them.
func (cs *calls) dropIf(condition func(seq uint64, c *call) bool) (dropped []*call) {
	for seq, c := range cs.bySeq {
		if condition(seq, c) {
			cs.drop(seq, c)
			dropped = append(dropped, c)
		}
	}
	return dropped
}

// retain keeps an acknowledged message, and its buffer, until the report of c.
func (cs *calls) retain(c *call, p *pendingSend) {
	c.retained = *p
	cs.retainedCost += p.cost
}

// takeRetained returns the message that c retains, or one without a buffer. The caller owns it.
func (cs *calls) takeRetained(c *call) (p pendingSend) {
	p, c.retained = c.retained, pendingSend{}
	cs.retainedCost -= p.cost
	return p
}

// recomputeCosts sets the costs that limits give.
func (cs *calls) recomputeCosts(limits *sendLimits) {
	cs.retainedCost = 0
	for _, c := range cs.bySeq {
		if p := &c.retained; p.buffer != nil {
			p.cost = limits.cost(p)
			cs.retainedCost += p.cost
		}
	}
}

// startTimer starts the timer of c, which calls run after the time left. run must call
// timers.Done.
func (cs *calls) startTimer(c *call, left time.Duration, run func()) {
	cs.timers.Add(1)
	c.timer = time.AfterFunc(left, run)
}

// stopTimer stops the timer of c, which has ended.
func (cs *calls) stopTimer(c *call) {
	if c.timer != nil && c.timer.Stop() {
		cs.timers.Done()
	}
}

// fireTimer makes the timer of c run at once, to report fate for all receivers. The timer has
// its own goroutine; no other goroutine of the client can wait for the callback of the
// application.
func (cs *calls) fireTimer(c *call, fate wire.Fate) {
	c.fate = fate
	if !c.timer.Stop() {
		cs.timers.Add(1)
	}
	c.timer.Reset(0)
}
