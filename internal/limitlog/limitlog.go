// Package limitlog decides which of the errors that repeat are worth a log line, so that a
// failure that lasts for hours neither goes unseen nor fills the log.
//
// It does not log by itself, and it is not on the path of a message.
package limitlog

import (
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// minInterval and maxInterval bound the time between two lines about the same error. It
	// doubles with each of them.
	minInterval = 10 * time.Second
	maxInterval = 10 * time.Minute

	// maxErrors is how many different errors are told apart; the rest count as one. It bounds
	// the memory, and the lines about errors whose text is different each time.
	maxErrors = 8
)

// Limiter limits log lines. An error that is new is logged at once, and the same one again at
// intervals that grow from 10 s to 10 minutes. The zero value is ready for use. All methods may be
// called concurrently.
type Limiter struct {
	mu     sync.Mutex
	errors map[string]*entry // by text
}

// entry is one error that happens again and again.
type entry struct {
	interval time.Duration // from the last line to the next
	next     time.Time     // when the next line is due
	skipped  int           // since the last line
}

// Allow reports whether an error with this text is to be logged now, and how often the same
// error was left out since it was logged last.
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

// Text returns the text of err for Allow: of an error of the network without the addresses,
// for the client's port is another one on each connection.
func Text(err error) string {
	if network, ok := errors.AsType[*net.OpError](err); ok {
		return network.Op + ": " + network.Err.Error()
	}
	return err.Error()
}

// lookup returns what is known of an error.
func (l *Limiter) lookup(text string) *entry {
	r := l.errors[text]
	if r == nil && len(l.errors) >= maxErrors {
		text = "" // stands for the rest
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

// Reset forgets all errors: the next one is new.
func (l *Limiter) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.errors)
}
