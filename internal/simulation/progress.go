package simulation

import (
	"context"
	"fmt"
	"time"
)

// progressInterval is the interval at which a run samples its progress. It sets the smoothness
// of the progress bars and the precision of the timeout.
const progressInterval = 100 * time.Millisecond

// progress is a sample of the progress of a run.
type progress struct {
	at       time.Time
	sent     uint64 // messages that the clients accepted
	received uint64 // messages that have arrived
	reported uint64 // messages whose report the senders received
}

// stallError is the cause of a run that ended because it made no progress.
type stallError struct{ timeout time.Duration }

func (e stallError) Error() string {
	return fmt.Sprintf("no progress for %v: no send was accepted and nothing was delivered", e.timeout)
}

// monitorProgress waits until every part of the run is done. It returns early, with the cause,
// when ctx ends or when the run has made no progress for the timeout.
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

// partsPerClient returns how many parts a run has for each client. Each part calls partDone
// once.
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

// progress samples the counters of all clients. The clients maintain these counters in any
// case, therefore progress adds no cost to the messages.
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

// stalled reports whether the run has made no progress for the timeout although messages were
// due. It records the time of the last progress.
func (r *run) stalled(p progress) bool {
	if p.sent != r.lastProgress.sent || p.received != r.lastProgress.received || p.reported != r.lastProgress.reported {
		r.lastProgress = p
		return false
	}
	since := r.lastProgress.at
	if due, waiting := r.nextDue(); waiting && due.After(since) {
		since = due // the schedule paused, not the hub
	}
	return p.at.Sub(since) >= r.config.Timeout
}

// nextDue returns when the next message of the slowest sender is due. It returns false when
// all senders have sent everything.
func (r *run) nextDue() (time.Time, bool) {
	messages := r.plan.messagesPerSender()
	minAccepted := messages
	for _, s := range r.senders {
		minAccepted = min(minAccepted, s.accepted.Load())
	}
	return r.epoch.Add(r.start + time.Duration(minAccepted)*r.config.Interval), minAccepted < messages
}
