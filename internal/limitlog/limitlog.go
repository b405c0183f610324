// Package limitlog decides which repeated errors are logged, such that a failure that lasts
// for hours is visible but does not fill the log.
//
// It writes no log lines itself and is not on the path of a message.
package limitlog

import (
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// minInterval and maxInterval bound the time between two lines about the same error. The
	// interval doubles with each line.
	minInterval = 10 * time.Second
	maxInterval = 10 * time.Minute

	// maxErrors is the maximum number of errors that a Limiter distinguishes. All further errors
	// count as one. This bounds the memory, and the number of lines about errors with a different
	// text each time.
	maxErrors = 8
)

// Limiter limits the rate of log lines about errors. It allows a new error at once, and the
// same error again at intervals that grow from 10 s to 10 minutes. The zero value is ready for
// use. All methods can be called concurrently.
type Limiter struct {
	mu     sync.Mutex
	errors map[string]*entry // by text
}

// entry is the state of one repeated error.
type entry struct {
	interval time.Duration // from the last line to the next
	next     time.Time     // when the next line is due
	skipped  int           // lines skipped since the last line
}

// Allow reports whether an error with this text is to be logged now, and how many lines about
// the same error were skipped since its last line.
func (l *Limiter) Allow(text string) (skipped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.lookup(text)
	now := time.Now()
	if now.Before(r.next) {
		r.skipped++
		return 0, false
	}
	skipped = r.skipped
	r.interval = min(maxInterval, max(minInterval, 2*r.interval))
	r.next, r.skipped = now.Add(r.interval), 0
	return skipped, true
}

// Text returns the text of err for Allow. The text of a network error omits the addresses
// because the client's port differs on each connection.
func Text(err error) string {
	if network, ok := errors.AsType[*net.OpError](err); ok {
		return network.Op + ": " + network.Err.Error()
	}
	return err.Error()
}

// lookup returns the entry of an error and creates it if necessary. It is called with mu held.
func (l *Limiter) lookup(text string) *entry {
	r := l.errors[text]
	if r == nil && len(l.errors) >= maxErrors {
		text = "" // the entry of all further errors
		r = l.errors[text]
	}
	if r == nil {
		if l.errors == nil {
			l.errors = make(map[string]*entry)
		}
		r = new(entry)
		l.errors[text] = r
	}
	return r
}

// Reset deletes all entries: each error is new again.
func (l *Limiter) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.errors)
}
