package main

import (
	"sync/atomic"
	"time"
)

// seenEvery is how many bodies a receiver takes before it says so: to say it each
// time would cost more than the check does.
const seenEvery = 64

// cacheLine keeps what one goroutine writes off the lines that others read, in
// bytes: two lines, because processors fetch them in pairs.
const cacheLine = 128

// receiver is what one client of a move gets.
type receiver struct {
	// Static before the client joins.
	expected uint64
	complete func() // called once, when nothing is missing any more

	// Owned by take, and by the result after the client has left.
	check *checker
	last  time.Time // when nothing was missing any more

	_    [cacheLine]byte
	seen atomic.Uint64 // about how many have come; written by take, read by watch
	_    [cacheLine]byte
}

func newReceiver(p *plan, i int, echoes bool) *receiver {
	return &receiver{expected: p.expected(i), check: newChecker(p, i, echoes)}
}

// take takes one body.
func (r *receiver) take(body []byte) {
	if !r.check.take(body) {
		return
	}
	switch {
	case r.check.got == r.expected:
		r.last = time.Now()
		r.complete()
	case r.check.got%seenEvery == 0:
		r.seen.Store(r.check.got)
	}
}
