package client

import (
	"context"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// enqueue appends a message to the queue. It waits for its turn and for room until ctx ends or
// stop is closed. It copies to and message.
func (q *sendQueue) enqueue(ctx context.Context, stop <-chan struct{}, to []uint64, message []byte, options *SendOptions, c *call) error {
	p := pendingSend{
		receivers: uint8(len(to)), wantsReport: c != nil, sockOptions: options.sockOptions(),
		options: options.wireOptions(), reportTimeout: options.ReportTimeout,
	}
	if err := acquire(ctx, stop, q.sendMu); err != nil {
		return err
	}
	defer func() { <-q.sendMu }()
	p.length = wire.SendLen(len(to), len(message))
	hubGeneration, fits := q.setCost(&p)
	p.seq = q.seq + 1
	if p.sockOptions != nil {
		p.sockOptions.Events = expiryHandler{q, p.seq}
	}
	if !fits {
		if err := q.waitForRoom(ctx, stop, &p); err != nil {
			return err
		}
	}
	p.buffer = body.Get(p.length)
	wire.AppendSend(p.buffer.Bytes()[:0], p.seq, options.wireOptions(), options.ttlMillis(), to, message)
	return q.enter(p, c, hubGeneration)
}

// waitForRoom waits until there is room for p, or until p has expired: an expired message
// leaves the queue soon.
func (q *sendQueue) waitForRoom(ctx context.Context, stop <-chan struct{}, p *pendingSend) error {
	var expired <-chan time.Time
	if p.sockOptions != nil {
		expired = time.After(p.timeLeft())
	}
	for !q.fits(p.cost) {
		q.probeIfBlocked()
		select {
		case <-q.notFull:
		case <-expired:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-stop:
			return ErrClosed
		}
	}
	return nil
}

// setCost sets the cost of p. It returns the current hubGeneration, and whether there is room
// for p.
func (q *sendQueue) setCost(p *pendingSend) (hubGeneration int, fits bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p.cost = q.window.limits.cost(p)
	return q.hubGeneration, q.fitsLocked(p.cost)
}

// checkReportTimeout returns an error if timeout exceeds the limit of the hub.
func (q *sendQueue) checkReportTimeout(timeout time.Duration) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if limit := q.window.limits.maxReportTimeout; limit > 0 && timeout > limit {
		return &ReportTimeoutTooLongError{Timeout: timeout, Limit: limit}
	}
	return nil
}

// fits reports whether there is room for a message of that cost.
func (q *sendQueue) fits(cost int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.fitsLocked(cost)
}

// fitsLocked is fits. It is called with mu held.
func (q *sendQueue) fitsLocked(cost int) bool {
	q.queueFull = len(q.sends.all) > 0 && q.sends.cost+cost > q.maxCost
	return q.err != nil || !q.queueFull && q.calls.retainedCost < maxRetained
}

// enter appends p to the queue. hubGeneration is the generation in which its receivers were
// named.
func (q *sendQueue) enter(p pendingSend, c *call, hubGeneration int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		p.buffer.Release()
		return q.err
	}
	if q.sealed {
		p.buffer.Release()
		return ErrClosed
	}
	// The hub restarted while p waited.
	if hubGeneration != q.hubGeneration && p.namesAssigned(q.grantedIDsValid) {
		p.buffer.Release()
		return ErrSessionLost
	}
	q.seq = p.seq
	p.cost = q.window.limits.cost(&p) // the hub, and with it the cost, can have changed
	q.sends.add(p)
	if c != nil {
		q.calls.bySeq[p.seq] = c
	}
	if p.sockOptions != nil {
		seq, options := p.seq, p.sockOptions
		q.calls.startTimer(c, p.timeLeft(), func() { q.onExpired(seq, options) })
	}
	return nil
}
