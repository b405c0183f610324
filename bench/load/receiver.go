package main

import (
	"sync/atomic"
	"time"
)

// progressStep is the number of bodies between two updates of receiver.received. An update for
// each body would cost more than the check.
const progressStep = 64

// cacheLine is the padding in bytes that keeps fields written by one goroutine off the cache
// lines that others read. It is two lines, because processors fetch lines in pairs.
const cacheLine = 128

// receiver checks the messages of one client of a move.
type receiver struct {
	// Static before the client connects.
	expected   uint64
	onComplete func() // called once, when no message is missing

	// Owned by handleBody, and by transfer.result after the connection is closed.
	checker     *checker
	completedAt time.Time // when the last missing message arrived

	_        [cacheLine]byte
	received atomic.Uint64 // approximate count; written by handleBody, read by receivedCount
	_        [cacheLine]byte
}

func newReceiver(p *plan, i int, echoes bool) *receiver {
	return &receiver{expected: p.expected(i), checker: newChecker(p, i, echoes)}
}

// handleBody checks one body.
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
