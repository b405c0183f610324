package simulation

import (
	"context"
	"fmt"
	"time"
)

// watchEvery is how often a run looks at itself: often enough for a bar that
// moves, and the precision of the timeout.
const watchEvery = 100 * time.Millisecond

// sample is how far a run is.
type sample struct {
	at       time.Time
	sent     uint64 // messages that the clients accepted
	received uint64 // messages that have arrived
	reported uint64 // messages of which the senders know what became
}

// stall is the cause of a run that ended because nothing moved.
type stall struct{ timeout time.Duration }

func (s stall) Error() string {
	return fmt.Sprintf("no progress for %v: no send was accepted and nothing was delivered", s.timeout)
}

// watch waits until every sender and receiver is done. It returns earlier, with
// the cause, when work ends or nothing has moved for the timeout.
func (r *run) watch(work context.Context, show display) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	r.moved = r.sample()
	for remaining := r.parts() * len(r.clients); remaining > 0; {
		select {
		case <-r.done:
			remaining--
		case <-work.Done():
			return context.Cause(work)
		case <-ticker.C:
			now := r.sample()
			show.show(now)
			if r.stalled(now) {
				return stall{r.config.Timeout}
			}
		}
	}
	return nil
}

// parts returns how many parts a run has for each client, of which each calls oneDone.
func (r *run) parts() int {
	parts := 2 // sending and receiving
	if r.config.Report != LevelNone {
		parts++
	}
	if r.config.Reconnect > 0 {
		parts++
	}
	return parts
}

// sample asks all clients. They count anyway, so the progress of a run costs its
// messages nothing.
func (r *run) sample() sample {
	now := sample{at: time.Now()}
	for i, c := range r.clients {
		now.sent += uint64(r.senders[i].accepted.Load())
		now.received += c.Stats().Deliveries
	}
	if r.config.Protocol == 2 {
		now.reported = r.reported()
	}
	return now
}

// stalled says whether nothing has moved for the timeout although something
// should have, and remembers when something did.
func (r *run) stalled(now sample) bool {
	if now.sent != r.moved.sent || now.received != r.moved.received || now.reported != r.moved.reported {
		r.moved = now
		return false
	}
	since := r.moved.at
	if due, waiting := r.nextDue(); waiting && due.After(since) {
		since = due // it is the schedule that has paused, not the hub
	}
	return now.at.Sub(since) >= r.config.Timeout
}

// nextDue returns when the sender that is furthest behind should send next, and
// false when all have sent everything.
func (r *run) nextDue() (time.Time, bool) {
	messages := r.plan.messages()
	behind := messages
	for _, s := range r.senders {
		behind = min(behind, s.accepted.Load())
	}
	return r.epoch.Add(r.start + time.Duration(behind)*r.config.Interval), behind < messages
}
