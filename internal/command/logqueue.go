package command

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxLogBytes is how many bytes of log lines wait for a reader that does not read:
	// some 8,000 lines.
	maxLogBytes = 1 << 20

	// maxIdleLogBytes is how large a buffer may be, in bytes, that is kept for the next lines.
	maxIdleLogBytes = 64 << 10

	// logFlushTimeout is how long the end of a program waits for its last lines to be written.
	logFlushTimeout = time.Second
)

// logQueue writes log lines from a goroutine of its own, so that nothing that logs ever waits for
// the reader of the log: a pipe that is full, a terminal that is stopped, a disk that hangs. Lines
// that find maxBytes waiting, and lines whose writing fails, are dropped and counted, and a line in
// their place says how many once lines are written again. Its methods may be called concurrently.
type logQueue struct {
	// Static after newLogQueue.
	out      io.Writer
	maxBytes int

	dropped atomic.Uint64 // lines, since the start

	mu           sync.Mutex
	pending      []byte // whole lines
	pendingLines int    // of pending
	queuedBytes  int    // bytes that wait or are being written
	unreported   int    // dropped lines that no line of the log has told yet
	closed       bool
	signal       chan struct{} // holds a token when there is something to do
	done         chan struct{} // closed when run has ended

	// Owned by run.
	spare  []byte       // the buffer that was written last
	notice bytes.Buffer // takes one line of logger
	logger *slog.Logger
}

// newLogQueue returns a queue that writes to out. Lines about itself have the given form. Its
// goroutine ends with close.
func newLogQueue(out io.Writer, format string) *logQueue {
	q := &logQueue{out: out, maxBytes: maxLogBytes, signal: make(chan struct{}, 1), done: make(chan struct{})}
	q.logger = newLogger(&q.notice, format, slog.LevelWarn)
	go q.run() // ends with close, which waits for it as long as it may
	return q
}

// Write implements io.Writer for a handler of log/slog, which writes a line at a time. It never
// waits and never fails.
func (q *logQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		q.drop(1)
		return len(line), nil
	case q.unreported > 0 || q.queuedBytes+len(line) > q.maxBytes: // nothing overtakes the line about the others
		q.drop(1)
	default:
		q.pending = append(q.pending, line...)
		q.pendingLines++
		q.queuedBytes += len(line)
	}
	select {
	case q.signal <- struct{}{}:
	default: // run has yet to look
	}
	return len(line), nil
}

// Dropped returns how many lines were dropped since the start.
func (q *logQueue) Dropped() uint64 { return q.dropped.Load() }

// drop counts lines that are not written. It is called with mu held.
func (q *logQueue) drop(lines int) {
	q.unreported += lines
	q.dropped.Add(uint64(lines))
}

// close writes what waits and ends the goroutine, or gives up after patience: then the goroutine
// ends when its writer lets go of it. Lines that come later are dropped.
func (q *logQueue) close(timeout time.Duration) {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.signal)
	}
	q.mu.Unlock()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-q.done:
	case <-timer.C:
	}
}

// run writes lines until close.
func (q *logQueue) run() {
	defer close(q.done)
	for range q.signal {
		q.flush()
	}
	q.flush()
}

// flush writes what waits, and the line about what was dropped behind it.
func (q *logQueue) flush() {
	q.mu.Lock()
	text, lines, unreported := q.pending, q.pendingLines, q.unreported
	size := len(text)
	q.pending, q.pendingLines, q.unreported = q.spare[:0], 0, 0
	q.mu.Unlock()
	if unreported > 0 {
		q.notice.Reset()
		q.logger.Warn("log lines dropped", "lines", unreported)
		text = append(text, q.notice.Bytes()...)
	}
	var err error
	if len(text) > 0 {
		_, err = q.out.Write(text)
	}
	if q.spare = text; cap(text) > maxIdleLogBytes {
		q.spare = nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queuedBytes -= size
	if err != nil {
		q.drop(lines)
		q.unreported += unreported
	}
}
