package simulation

import (
	"context"
	"fmt"
	"time"
)

// progressInterval is the interval at which a run samples its progress. It sets the smoothness
// of the progress bars and the precision of the timeout.
const progressInterval = 100 * time.Millisecond

// stallError is the cause of a run that ended because it made no progress.
type stallError struct{ timeout time.Duration }

func (e stallError) Error() string {
	return fmt.Sprintf("no progress for %v: no send was accepted and nothing was delivered", e.timeout)
}

// monitor waits until a run is done and notices when the run stalls. It is used by one
// goroutine.
type monitor struct {
	// Static.
	partsDone <-chan struct{} // receives a value for each part of the run that is done
	timeout   time.Duration   // the maximum duration without progress
	sample    func() progress
	// nextDue returns when the next message of the slowest sender is due, and false when all
	// senders have sent everything.
	nextDue func() (due time.Time, waiting bool)
	display display

	last progress // the last sample that differed from its predecessor
}

// await waits until all parts of the run are done. It returns early, with the cause, when ctx
// ends or when the run has made no progress for the timeout.
func (m *monitor) await(ctx context.Context, parts int) error {
	ticker := time.NewTicker(progressInterval)
	defer ticker.Stop()
	m.last = m.sample()
	for remaining := parts; remaining > 0; {
		select {
		case <-m.partsDone:
			remaining--
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
			p := m.sample()
			m.display.update(p)
			if m.stalled(p) {
				return stallError{m.timeout}
			}
		}
	}
	return nil
}

// stalled reports whether the run has made no progress for the timeout although messages were
// due. It records the time of the last progress.
func (m *monitor) stalled(p progress) bool {
	if p.sent != m.last.sent || p.received != m.last.received || p.reported != m.last.reported {
		m.last = p
		return false
	}
	since := m.last.at
	if due, waiting := m.nextDue(); waiting && due.After(since) {
		since = due // the schedule paused, not the hub
	}
	return p.at.Sub(since) >= m.timeout
}
