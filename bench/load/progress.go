package main

import (
	"context"
	"time"
)

const (
	// stallTimeout is how long a run can go without a delivery before it ends and the missing
	// messages count as lost. The slowest system here delivers thousands of messages a second; a
	// message that is ten seconds late will not arrive.
	stallTimeout = 10 * time.Second

	// pollInterval is the interval at which a run samples its progress. It is also the error of
	// the duration of a run that lost messages.
	pollInterval = 50 * time.Millisecond
)

// awaitCompletion waits until everything has arrived, deliveries have stalled, or the run was
// stopped. It returns the time of the last progress.
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

// receivedCount returns the approximate number of bodies that have arrived.
func (tr *transfer) receivedCount() (n uint64) {
	for _, rcv := range tr.receivers {
		n += rcv.received.Load()
	}
	return n
}
