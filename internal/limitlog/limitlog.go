// Package limitlog limits the rate of log lines about events that repeat: a failure that lasts
// for hours is visible but does not fill the log, and remote parties that cause an event at any
// rate cannot fill it either.
//
// It does not know what the events are. It is on the path of a message only for messages that
// the hub refuses.
package limitlog

import (
	"cmp"
	"errors"
	"log/slog"
	"math"
	"net"
	"sync"
	"time"
)

// The limits of the zero Limiter.
const (
	defaultMinInterval = 10 * time.Second
	defaultMaxInterval = 10 * time.Minute
	defaultMaxEvents   = 8
)

// Limiter decides which lines about events are logged. It allows the first line about an event
// at once, and lines about the same event again at intervals that grow from 10 s to 10
// minutes. It distinguishes 8 events, and counts all further ones as one: this bounds the
// memory, and the number of lines about errors with a different text each time. The zero value
// is ready for use. All methods can be called concurrently.
type Limiter struct {
	// Static after construction. 0 means the default.
	minInterval time.Duration // between the first two lines about an event; then it doubles
	maxInterval time.Duration
	maxEvents   int // distinguished

	mu     sync.Mutex
	events map[string]*event // by text
}

// event is the state of one event that repeats.
type event struct {
	interval time.Duration // from the last line to the next
	next     time.Time     // when the next line is due
	skipped  int           // lines skipped since the last line
}

// Allow reports whether an event with this text is to be logged now, and how many lines about
// the same event were skipped since its last line.
func (l *Limiter) Allow(text string) (skipped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.lookup(text)
	now := time.Now()
	if now.Before(e.next) {
		e.skipped++
		return 0, false
	}
	skipped = e.skipped
	minInterval, maxInterval := cmp.Or(l.minInterval, defaultMinInterval), cmp.Or(l.maxInterval, defaultMaxInterval)
	e.interval = min(maxInterval, max(minInterval, 2*e.interval))
	e.next, e.skipped = now.Add(e.interval), 0
	return skipped, true
}

// lookup returns the state of an event and creates it if necessary. It is called with mu held.
func (l *Limiter) lookup(text string) *event {
	e := l.events[text]
	if e == nil && len(l.events) >= cmp.Or(l.maxEvents, defaultMaxEvents) {
		text = "" // all further events
		e = l.events[text]
	}
	if e == nil {
		if l.events == nil {
			l.events = make(map[string]*event)
		}
		e = new(event)
		l.events[text] = e
	}
	return e
}

// Reset makes each event new again.
func (l *Limiter) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.events)
}

// Text returns the text of err for Limiter.Allow. The text of a network error omits the
// addresses because the client's port differs on each connection.
func Text(err error) string {
	if network, ok := errors.AsType[*net.OpError](err); ok {
		return network.Op + ": " + network.Err.Error()
	}
	return err.Error()
}

// Log writes lines about events that remote parties can cause at any rate: at most one line with
// the same message in an interval. All methods can be called concurrently.
type Log struct {
	logger  *slog.Logger
	limiter Limiter
}

// NewLog returns a Log that writes to logger. interval is the minimum time between two lines
// with the same message.
func NewLog(logger *slog.Logger, interval time.Duration) *Log {
	return &Log{logger, Limiter{minInterval: interval, maxInterval: interval, maxEvents: math.MaxInt}}
}

// LogWarn logs a line at level WARN, unless a line with this message was logged less than the
// interval ago. It adds the number of lines that were not logged before it. msg must be a
// constant. attrs are alternating keys and values.
func (l *Log) LogWarn(msg string, attrs ...any) {
	skipped, ok := l.limiter.Allow(msg)
	if !ok {
		return
	}
	if skipped > 0 {
		attrs = append(attrs, "not_logged_before", skipped)
	}
	l.logger.Warn(msg, attrs...)
}
