package simulation

import (
	"context"
	"fmt"
	"time"
)

// progressInterval is how often a run looks at itself: often enough for a bar that
// moves, and the precision of the timeout.
const progressInterval = 100 * time.Millisecond

// progress is how far a run is.
type progress struct {
	at       time.Time
	sent     uint64 // messages that the clients accepted
	received uint64 // messages that have arrived
	reported uint64 // messages of which the senders know what became
}

// stallError is the cause of a run that ended because nothing moved.
type stallError struct{ timeout time.Duration }

func (e stallError) Error() string {
	return fmt.Sprintf("no progress for %v: no send was accepted and nothing was delivered", e.timeout)
}

// monitorProgress waits until every sender and receiver is done. It returns earlier, with
// the cause, when work ends or nothing has moved for the timeout.
func (r *run) monitorProgress(ctx context.Context, d display) error {
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	r.lastProgress = r.progress()
	for remaining := r.partsPerClient() * len(r.clients); remaining > 0; {
		select {
		case <-r.partsDone:
			remaining--
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
			p := r.progress()
			d.update(p)
			if r.stalled(p) {
				return stallError{r.config.Timeout}
			}
		}
	}
	return nil
}

// partsPerClient returns how many parts a run has for each client, of which each calls partDone.
func (r *run) partsPerClient() int {
	parts := 2 // sending and receiving
	if r.config.ReportLevel != LevelNone {
		parts++
	}
	if r.config.Reconnects > 0 {
		parts++
	}
	return parts
}

// progress asks all clients. They count anyway, so the progress of a run costs its
// messages nothing.
func (r *run) progress() progress {
	p := progress{at: time.Now()}
	for i, c := range r.clients {
		p.sent += uint64(r.senders[i].accepted.Load())
		p.received += c.Stats().Deliveries
	}
	if r.config.Protocol == 2 {
		p.reported = r.reported()
	}
	return p
}

// stalled says whether nothing has moved for the timeout although something
// should have, and remembers when something did.
func (r *run) stalled(p progress) bool {
	if p.sent != r.lastProgress.sent || p.received != r.lastProgress.received || p.reported != r.lastProgress.reported {
		r.lastProgress = p
		return false
	}
	since := r.lastProgress.at
	if due, waiting := r.nextDue(); waiting && due.After(since) {
		since = due // it is the schedule that has paused, not the hub
	}
	return p.at.Sub(since) >= r.config.Timeout
}

// nextDue returns when the sender that is furthest behind should send next, and
// false when all have sent everything.
func (r *run) nextDue() (time.Time, bool) {
	messages := r.plan.messagesPerSender()
	minAccepted := messages
	for _, s := range r.senders {
		minAccepted = min(minAccepted, s.accepted.Load())
	}
	return r.epoch.Add(r.start + time.Duration(minAccepted)*r.config.Interval), minAccepted < messages
}
