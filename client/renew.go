package client

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// maxRenewalMargin is the longest time before the expiry of a token at which the client asks
	// for a new token. For a token with a lifetime below 5 min, it is a fifth of the lifetime.
	maxRenewalMargin = time.Minute

	// minRenewalDelay is the shortest delay between two calls of Options.GetToken by a renewal.
	minRenewalDelay = 100 * time.Millisecond

	// maxClockCheckInterval is the longest time between two looks at the wall clock. Timers stand
	// still while the machine sleeps.
	maxClockCheckInterval = 30 * time.Second

	// maxTokenLifetime is the longest lifetime that the client computes with. A longer lifetime is
	// treated as this one.
	maxTokenLifetime = 10 * 365 * 24 * time.Hour
)

// renewal asks for a new token before the token of a connection expires. If it gets one, it
// stops the reading of the connection, and the client reconnects with the new token and resumes
// its session. If it gets none in time, the connection stays until the hub closes it. A renewal
// has one goroutine, which ends when it has a new token, shortly before the expiry, or on stop.
type renewal struct {
	// Static after startRenewal.
	conn    *conn
	options *Options
	life    *lifetime
	shown   string    // the token of the connection
	expiry  time.Time // of shown, by the wall clock
	cancel  context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended

	renewed atomic.Bool // token is there

	token string // the new token, valid after done is closed; "": none
}

// startRenewal starts the renewal of the token shown on cn, which expires in expires.
func startRenewal(cn *conn, options *Options, life *lifetime, shown string, expires time.Duration) *renewal {
	ctx, cancel := context.WithCancel(life.ctx)
	r := &renewal{
		conn: cn, options: options, life: life, shown: shown,
		expiry: options.wallTime().Add(expires), cancel: cancel, done: make(chan struct{}),
	}
	// It ends before the connection: reader.close waits for it.
	go r.run(ctx, min(maxRenewalMargin, expires/5))
	return r
}

// stop ends the renewal and waits for its goroutine.
func (r *renewal) stop() {
	r.cancel()
	<-r.done
}

// run waits until the token expires in less than margin, and then calls renew. After a failure,
// run tries again when half of the remaining time has passed.
func (r *renewal) run(ctx context.Context, margin time.Duration) {
	defer close(r.done)
	for {
		remaining := r.timeLeft()
		if remaining <= margin {
			if r.renew(ctx) || remaining <= 2*minRenewalDelay {
				return
			}
			margin = remaining / 2
		}
		select {
		case <-time.After(min(max(remaining-margin, minRenewalDelay), maxClockCheckInterval)):
		case <-ctx.Done():
			return
		}
	}
}

// timeLeft returns the time until the token expires, by the wall clock.
func (r *renewal) timeLeft() time.Duration {
	return r.expiry.Sub(r.options.wallTime())
}

// renew asks for a new token, and stops the reading of the connection if there is one. It
// reports whether there is one.
func (r *renewal) renew(ctx context.Context) bool {
	token, err := r.options.GetToken(ctx)
	if err != nil || token == "" || token == r.shown || ctx.Err() != nil || r.life.isClosing() {
		return false
	}
	r.token = token
	r.renewed.Store(true)
	r.conn.sock.StopWhenEmpty()
	return true
}
