package command

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/settings"
)

// LogFlushTimeout is the time limit for writing the last lines at the end of a program.
const LogFlushTimeout = time.Second

const (
	// maxLogBytes is the maximum size of queued log lines, in bytes: about 8,000 lines.
	maxLogBytes = 1 << 20

	// maxIdleLogBytes is the maximum capacity of the buffer that is kept for later lines, in
	// bytes.
	maxIdleLogBytes = 64 << 10
)

// LogQueue writes log lines from its own goroutine. Code that logs therefore never waits for
// the reader of the log, for example a full pipe, a stopped terminal, or a disk that hangs. A
// line is dropped if maxBytes are queued, or if writing the line fails. When writing works
// again, a line reports the number of dropped lines in their place. The methods can be called
// concurrently.
type LogQueue struct {
	// Static after NewLogQueue.
	out      io.Writer
	maxBytes int

	dropped atomic.Uint64 // number of dropped lines since the start

	// Guarded by mu.
	mu           sync.Mutex
	pending      []byte // whole lines
	pendingLines int    // number of lines in pending
	queuedBytes  int    // size of pending and of the lines being written
	unreported   int    // dropped lines that the log does not mention yet
	closed       bool
	signal       chan struct{} // has one slot; wakes run
	done         chan struct{} // closed when run has returned

	// Owned by run.
	spare  []byte       // buffer of the last write, for reuse
	notice bytes.Buffer // receives one line from logger
	logger *slog.Logger
}

// NewLogQueue returns a queue that writes to out. format is the format of lines about the
// queue itself. The caller must call Close, which ends the goroutine of the queue.
func NewLogQueue(out io.Writer, format string) *LogQueue {
	q := &LogQueue{out: out, maxBytes: maxLogBytes, signal: make(chan struct{}, 1), done: make(chan struct{})}
	q.logger = settings.NewLogger(&q.notice, format, slog.LevelWarn)
	go q.run() // ends after Close, which waits for the end up to its timeout
	return q
}

// Write implements io.Writer for a handler of log/slog, which writes one line per call. It
// never blocks and never returns an error.
func (q *LogQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		q.drop(1)
		return len(line), nil
	case q.unreported > 0 || q.queuedBytes+len(line) > q.maxBytes:
		// With unreported lines, line is dropped even if it fits: no line overtakes the report.
		q.drop(1)
	default:
		q.pending = append(q.pending, line...)
		q.pendingLines++
		q.queuedBytes += len(line)
	}
	select {
	case q.signal <- struct{}{}:
	default: // run has not handled the last signal yet
	}
	return len(line), nil
}

// Dropped returns the number of lines dropped since the start.
func (q *LogQueue) Dropped() uint64 { return q.dropped.Load() }

// drop counts lines that are not written. The caller holds mu.
func (q *LogQueue) drop(lines int) {
	q.unreported += lines
	q.dropped.Add(uint64(lines))
}

// Close writes the queued lines and ends the goroutine. After timeout, Close returns anyway,
// and the goroutine ends when its write returns. Lines written after Close are dropped.
func (q *LogQueue) Close(timeout time.Duration) {
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

// run writes lines until Close is called.
func (q *LogQueue) run() {
	defer close(q.done)
	for range q.signal {
		q.flush()
	}
	q.flush()
}

// flush writes the queued lines, followed by a line that reports dropped lines.
func (q *LogQueue) flush() {
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
