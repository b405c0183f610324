package client

import (
	"context"
	"time"
)

const (
	// maxRenewalMargin is how long before the end of its token the client asks for a newer one at
	// the earliest. A token of less than five times as long is renewed in the last fifth of it.
	maxRenewalMargin = time.Minute

	// minRenewalDelay is the shortest pause between two questions for a newer token.
	minRenewalDelay = 100 * time.Millisecond

	// maxClockCheckInterval is how long the wall clock is not looked at: timers stand still while the
	// machine sleeps.
	maxClockCheckInterval = 30 * time.Second

	// maxTokenLifetime is the longest time that can be counted with: a token that is good for longer has no
	// end that matters.
	maxTokenLifetime = 10 * 365 * 24 * time.Hour
)

// renewal asks for a newer token before the one of a connection ends, and then ends that connection, so that
// the client comes back with the newer one while the hub still knows it. It has one goroutine, which ends
// with stop, or when it has done so. A token of which there is no newer one in time stays: the hub says when
// it has ended.
type renewal struct {
	conn   *conn
	expiry time.Time // of the token, by the wall clock
	cancel context.CancelFunc
	done   chan struct{} // closed when the goroutine has ended

	token string // the newer one, to be read once done is closed; "": there is none
}

// startRenewal begins with it, for a token that is good for expires from now on.
func (cn *conn) startRenewal(expires time.Duration) {
	ctx, cancel := context.WithCancel(cn.client.ctx)
	cn.renewal = &renewal{conn: cn, expiry: cn.client.options.wallTime().Add(expires), cancel: cancel, done: make(chan struct{})}
	go cn.renewal.run(ctx, min(maxRenewalMargin, expires/5)) // ends before the connection: finish waits for it
}

// stopRenewal ends it and keeps the newer token, if there is one, for the next connection.
func (cn *conn) stopRenewal() {
	if r := cn.renewal; r != nil {
		r.cancel()
		<-r.done
		cn.client.nextToken = r.token
	}
}

// run waits until the token ends within margin, and then asks.
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

// timeLeft returns how long the token is still good by the wall clock.
func (r *renewal) timeLeft() time.Duration {
	return r.expiry.Sub(r.conn.client.options.wallTime())
}

// renew asks for a newer token, and ends the connection if there is one.
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
