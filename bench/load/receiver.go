package main

import (
	"sync/atomic"
	"time"
)

// progressStep is how many bodies a receiver takes before it says so: to say it each
// time would cost more than the check does.
const progressStep = 64

// cacheLine keeps what one goroutine writes off the lines that others read, in
// bytes: two lines, because processors fetch them in pairs.
const cacheLine = 128

// receiver is what one client of a move gets.
type receiver struct {
	// Static before the client joins.
	expected   uint64
	onComplete func() // called once, when nothing is missing any more

	// Owned by take, and by the result after the client has left.
	checker     *checker
	completedAt time.Time // when nothing was missing any more

	_        [cacheLine]byte
	received atomic.Uint64 // about how many have come; written by take, read by watch
	_        [cacheLine]byte
}

func newReceiver(p *plan, i int, echoes bool) *receiver {
	return &receiver{expected: p.expected(i), checker: newChecker(p, i, echoes)}
}

// handleBody takes one body.
func (r *receiver) handleBody(body []byte) {
	if !r.checker.check(body) {
		return
	}
	switch {
	case r.checker.received == r.expected:
		r.completedAt = time.Now()
		r.onComplete()
	case r.checker.received%progressStep == 0:
		r.received.Store(r.checker.received)
	}
}
