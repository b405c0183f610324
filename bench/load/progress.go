package main

import (
	"context"
	"time"
)

const (
	// stallTimeout is how long a run may go without a delivery before it is over, with
	// what has not come by then counted as lost. The slowest system here delivers
	// thousands a second; what takes ten seconds is not under way any more.
	stallTimeout = 10 * time.Second

	// pollInterval is how often the run looks for progress, and so the error of the
	// time of a run in which something was lost.
	pollInterval = 50 * time.Millisecond
)

// awaitCompletion returns when everything has arrived, nothing more comes, or the run was
// stopped. It returns when the last progress was seen.
func (tr *transfer) awaitCompletion(ctx context.Context) time.Time {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	lastProgress, lastCount := time.Now(), uint64(0)
	for {
		select {
		case <-tr.complete:
			return lastProgress
		case <-tr.stopped:
			return lastProgress
		case <-ctx.Done():
			tr.fail(ctx.Err())
			return lastProgress
		case <-ticker.C:
		}
		if count := tr.receivedCount(); count != lastCount {
			lastProgress, lastCount = time.Now(), count
		} else if time.Since(lastProgress) > stallTimeout {
			return lastProgress
		}
	}
}

// receivedCount returns about how many bodies have arrived.
func (tr *transfer) receivedCount() (n uint64) {
	for _, rcv := range tr.receivers {
		n += rcv.received.Load()
	}
	return n
}
