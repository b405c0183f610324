package client

import (
	"context"
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
// closes the connection, and the client reconnects with the new token and resumes its session.
// If it gets none in time, the connection stays until the hub closes it. A renewal has one
// goroutine, which ends when it has a new token, shortly before the expiry, or on stopRenewal.
type renewal struct {
	conn   *conn
	expiry time.Time // of the token, by the wall clock
	cancel context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended

	token string // the new token, valid after done is closed; "": none
}

// startRenewal starts the renewal of a token that expires in expires.
func (cn *conn) startRenewal(expires time.Duration) {
	ctx, cancel := context.WithCancel(cn.client.ctx)
	cn.renewal = &renewal{conn: cn, expiry: cn.client.options.wallTime().Add(expires), cancel: cancel, done: make(chan struct{})}
	go cn.renewal.run(ctx, min(maxRenewalMargin, expires/5)) // ends before cn: close waits for it
}

// stopRenewal ends the renewal, and keeps the new token, if there is one, for the next
// connection.
func (cn *conn) stopRenewal() {
	if r := cn.renewal; r != nil {
		r.cancel()
		<-r.done
		cn.client.nextToken = r.token
	}
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
	return r.expiry.Sub(r.conn.client.options.wallTime())
}

// renew asks for a new token, and closes the connection if there is one. It reports whether
// there is one.
func (r *renewal) renew(ctx context.Context) bool {
	cn := r.conn
	token, err := cn.client.options.GetToken(ctx)
	if err != nil || token == "" || token == cn.token || ctx.Err() != nil || cn.client.isClosing() {
		return false
	}
	r.token = token
	cn.renewed.Store(true)
	cn.sock.StopWhenEmpty()
	return true
}

// isClosing reports whether Close was called.
func (c *Client) isClosing() bool {
	select {
	case <-c.closing:
		return true
	default:
		return false
	}
}
