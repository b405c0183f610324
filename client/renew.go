package client

import (
	"context"
	"time"
)

const (
	// maxRenewalMargin is how long before the end of its token the client asks for a newer one at
	// the earliest. A token of less than five times as long is renewed in the last fifth of it.
	maxRenewalMargin = time.Minute

	// minRenewalPause is the shortest pause between two questions for a newer token.
	minRenewalPause = 100 * time.Millisecond

	// maxClockCheck is how long the wall clock is not looked at: timers stand still while the
	// machine sleeps.
	maxClockCheck = 30 * time.Second

	// maxExpires is the longest time that can be counted with: a token that is good for longer has no
	// end that matters.
	maxExpires = 10 * 365 * 24 * time.Hour
)

// renewal asks for a newer token before the one of a connection ends, and then ends that connection, so that
// the client comes back with the newer one while the hub still knows it. It has one goroutine, which ends
// with stop, or when it has done so. A token of which there is no newer one in time stays: the hub says when
// it has ended.
type renewal struct {
	link *link
	end  time.Time // of the token, by the wall clock
	stop context.CancelFunc
	done chan struct{} // closed when the goroutine has ended

	token string // the newer one, to be read once done is closed; "": there is none
}

// startRenewal begins with it, for a token that is good for expires from now on.
func (l *link) startRenewal(expires time.Duration) {
	ctx, stop := context.WithCancel(l.client.life)
	l.renewal = &renewal{link: l, end: l.client.options.wallTime().Add(expires), stop: stop, done: make(chan struct{})}
	go l.renewal.run(ctx, min(maxRenewalMargin, expires/5)) // ends before the connection: finish waits for it
}

// endRenewal ends it and keeps the newer token, if there is one, for the next connection.
func (l *link) endRenewal() {
	if r := l.renewal; r != nil {
		r.stop()
		<-r.done
		l.client.fresh = r.token
	}
}

// run waits until the token ends within margin, and then asks.
func (r *renewal) run(ctx context.Context, margin time.Duration) {
	defer close(r.done)
	for {
		left := r.left()
		if left <= margin {
			if r.renew(ctx) || left <= 2*minRenewalPause {
				return
			}
			margin = left / 2
		}
		select {
		case <-time.After(min(max(left-margin, minRenewalPause), maxClockCheck)):
		case <-ctx.Done():
			return
		}
	}
}

// left returns how long the token is still good by the wall clock.
func (r *renewal) left() time.Duration {
	return r.end.Sub(r.link.client.options.wallTime())
}

// renew asks for a newer token, and ends the connection if there is one.
func (r *renewal) renew(ctx context.Context) bool {
	l := r.link
	token, err := l.client.options.Token(ctx)
	if err != nil || token == "" || token == l.token || ctx.Err() != nil || l.client.isClosing() {
		return false
	}
	r.token = token
	l.renewed.Store(true)
	l.conn.Finish()
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
