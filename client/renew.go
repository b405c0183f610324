package client

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

const (
	// maxRenewalMargin is the longest time before the expiry of a token at which the client asks
	// for a new token. For a token with a lifetime below 5 min, it is a fifth of the lifetime.
	maxRenewalMargin = time.Minute

	// minRenewalDelay is the shortest delay between two calls of Options.GetToken by a renewal.
	minRenewalDelay = 100 * time.Millisecond

	// minRenewInterval is the shortest time from the answer to one RENEW to the next RENEW. A hub
	// refuses more than one a second.
	minRenewInterval = time.Second

	// minRenewedWait and maxRenewedWait limit how long the client waits for the answer to RENEW:
	// for half of the remaining time. Then it reconnects with the new token.
	minRenewedWait = time.Second
	maxRenewedWait = 30 * time.Second

	// maxClockCheckInterval is the longest time between two looks at the wall clock. Timers stand
	// still while the machine sleeps.
	maxClockCheckInterval = 30 * time.Second

	// maxTokenLifetime is the longest lifetime that the client computes with. A longer lifetime is
	// treated as this one.
	maxTokenLifetime = 10 * 365 * 24 * time.Hour
)

// renewal asks for a new token before the token of a connection expires. If it gets one, it
// presents it to the hub by RENEW, and asks again before the new token expires. If the hub knows
// no RENEW or does not answer, the renewal stops the reading of the connection, and the client
// reconnects with the new token and resumes its session. Without a new token in time, the
// connection stays until the hub closes it. A renewal has one goroutine, which ends when the
// client is to reconnect, when no token is to be renewed any more, or on stop.
type renewal struct {
	// Static after startRenewal.
	conn    *conn
	options *Options
	life    *lifetime
	onConn  bool // the hub takes RENEW
	cancel  context.CancelFunc
	done    chan struct{}      // closed when the goroutine has ended
	answers chan renewalAnswer // capacity 1: the answer to RENEW

	reconnects  atomic.Bool            // the client reconnects with token
	outstanding atomic.Pointer[string] // the token of a RENEW without answer; nil: none

	// Owned by the goroutine.
	shown   string    // the token of the connection
	refused string    // a token that the hub has refused to take as the next one
	expiry  time.Time // of shown, by the wall clock; zero: it does not expire

	token string // the newest token, if the hub has not accepted it; "": none; valid after done is closed
}

// renewalAnswer is the answer of the hub to a RENEW.
type renewalAnswer struct {
	code    wire.ErrorCode // 0: the hub has accepted the token
	expires time.Duration  // how long the token is valid; 0: it does not expire
}

// startRenewal starts the renewal of the token shown on cn, which expires in expires. onConn says
// that the hub takes RENEW.
func startRenewal(cn *conn, options *Options, life *lifetime, shown string, expires time.Duration, onConn bool) *renewal {
	ctx, cancel := context.WithCancel(life.ctx)
	r := &renewal{
		conn: cn, options: options, life: life, onConn: onConn, shown: shown,
		expiry: options.wallTime().Add(expires), cancel: cancel, done: make(chan struct{}), answers: make(chan renewalAnswer, 1),
	}
	// It ends before the connection: reader.close waits for it.
	go r.run(ctx, renewalMargin(expires))
	return r
}

// renewalMargin returns how long before its expiry a token is renewed, given its lifetime.
func renewalMargin(lifetime time.Duration) time.Duration { return min(maxRenewalMargin, lifetime/5) }

// tokenLifetime returns the lifetime of a token in WELCOME or RENEWED, in milliseconds.
func tokenLifetime(expires int64) time.Duration {
	return time.Duration(min(expires, int64(maxTokenLifetime/time.Millisecond))) * time.Millisecond
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
	minDelay := minRenewalDelay
	for {
		remaining := r.timeLeft()
		if remaining <= margin {
			presented, renewed := r.renew(ctx, remaining)
			if presented {
				minDelay = minRenewInterval
			}
			switch {
			case r.reconnects.Load(), renewed && r.expiry.IsZero():
				return
			case renewed:
				remaining = r.timeLeft()
				margin = renewalMargin(remaining)
			case remaining <= 2*minDelay:
				return
			default:
				margin = remaining / 2
			}
		}
		select {
		case <-time.After(min(max(remaining-margin, minDelay), maxClockCheckInterval)):
		case <-ctx.Done():
			return
		}
	}
}

// timeLeft returns the time until the token expires, by the wall clock.
func (r *renewal) timeLeft() time.Duration {
	return r.expiry.Sub(r.options.wallTime())
}

// renew asks for a new token, and presents it to the hub if there is one. It reports whether it
// has sent RENEW, and whether the hub has accepted the token. A hub that knows no RENEW gets the
// token on the next connection: renew then sets reconnects. So it does with a token that fits in
// no RENEW, and most likely in no HELLO: the client then ends, as it would with any such token.
func (r *renewal) renew(ctx context.Context, remaining time.Duration) (presented, renewed bool) {
	token, err := r.options.GetToken(ctx)
	if err != nil || token == "" || token == r.shown || token == r.refused || ctx.Err() != nil || r.life.isClosing() {
		return false, false
	}
	r.token = token
	frame := wire.AppendRenew(nil, &wire.Renew{Token: token})
	if !r.onConn || len(frame)-wire.HeaderSize > wire.MaxHelloLen {
		r.reconnect()
		return false, false
	}
	r.outstanding.Store(&token)
	r.conn.sendFrame(frame, &forceOptions)
	timeout, cancel := context.WithTimeout(ctx, max(minRenewedWait, min(maxRenewedWait, remaining/2)))
	defer cancel()
	select {
	case answer := <-r.answers:
		return true, r.handleAnswer(answer)
	case <-timeout.Done():
	}
	select {
	case answer := <-r.answers: // it came last, before the end of the connection
		return true, r.handleAnswer(answer)
	default:
	}
	if ctx.Err() == nil {
		r.reconnect()
	}
	return true, false
}

// handleAnswer applies the answer of the hub to the token that was presented, and reports whether
// the hub has accepted it.
func (r *renewal) handleAnswer(answer renewalAnswer) bool {
	switch answer.code {
	case 0:
		r.shown, r.token, r.expiry = r.token, "", time.Time{}
		if answer.expires > 0 {
			r.expiry = r.options.wallTime().Add(answer.expires)
		}
		return true
	case wire.ErrorRenewLater: // the token can be valid
	default:
		r.refused, r.token = r.token, ""
	}
	return false
}

// reconnect stops the reading of the connection: the client reconnects with the new token.
func (r *renewal) reconnect() {
	r.reconnects.Store(true)
	r.conn.sock.StopWhenEmpty()
}

// answer passes the answer to a RENEW on. It returns the token that was presented, and false if
// no RENEW has been sent that has no answer yet. The read goroutine calls it.
func (r *renewal) answer(a renewalAnswer) (token string, ok bool) {
	if r == nil {
		return "", false
	}
	presented := r.outstanding.Swap(nil)
	if presented == nil {
		return "", false
	}
	r.answers <- a // does not block: one answer to one RENEW
	return *presented, true
}
