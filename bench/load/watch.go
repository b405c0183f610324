package main

import (
	"context"
	"time"
)

const (
	// patience is how long a run may go without a delivery before it is over, with
	// what has not come by then counted as lost. The slowest system here delivers
	// thousands a second; what takes ten seconds is not under way any more.
	patience = 10 * time.Second

	// watchEvery is how often the run looks for progress, and so the error of the
	// time of a run in which something was lost.
	watchEvery = 50 * time.Millisecond
)

// watch returns when everything has arrived, nothing more comes, or the run was
// stopped. It returns when the last progress was seen.
func (tr *transfer) watch(ctx context.Context) time.Time {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	last, before := time.Now(), uint64(0)
	for {
		select {
		case <-tr.complete:
			return last
		case <-tr.stopped:
			return last
		case <-ctx.Done():
			tr.fail(ctx.Err())
			return last
		case <-ticker.C:
		}
		if now := tr.seen(); now != before {
			last, before = time.Now(), now
		} else if time.Since(last) > patience {
			return last
		}
	}
}

// seen returns about how many bodies have arrived.
func (tr *transfer) seen() (n uint64) {
	for _, one := range tr.receivers {
		n += one.seen.Load()
	}
	return n
}
