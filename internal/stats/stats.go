// Package stats holds what the reports are made of: latency histograms and the
// table that a program prints at its end. It watches from the side: nothing on
// the way of a message waits for it, and it knows nothing of hubs or clients.
package stats

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range that a Latency tells apart, and with how many significant digits.
// Two digits are an error of at most 1 % and keep a histogram below 40 KiB, so
// that every receiver of a simulation can have its own. The histogram counts in
// steps of about finest up to some hundred of them: a finest of 1 µs would be an
// error of a half at the shortest.
const (
	minLatency        = time.Microsecond
	resolution        = minLatency / 100
	maxLatency        = time.Hour
	significantDigits = 2
)

// Latency is a histogram of durations from 1 µs to 1 h with an error of at most
// 1 %; what lies outside is counted at the border. The maximum is exact. It is
// not safe for concurrent use: give each goroutine its own and merge them.
type Latency struct {
	histogram *hdrhistogram.Histogram
	max       time.Duration
}

// NewLatency returns an empty histogram.
func NewLatency() *Latency {
	return &Latency{histogram: hdrhistogram.New(int64(resolution), int64(maxLatency), significantDigits)}
}

// Record counts d.
func (l *Latency) Record(d time.Duration) {
	l.max = max(l.max, d)
	// The error says "out of range", which the clamp has ruled out.
	_ = l.histogram.RecordValue(int64(min(max(d, minLatency), maxLatency)))
}

// Merge adds everything that other has counted.
func (l *Latency) Merge(other *Latency) {
	l.histogram.Merge(other.histogram)
	l.max = max(l.max, other.max)
}

// Count returns how many durations were recorded.
func (l *Latency) Count() int64 { return l.histogram.TotalCount() }

// Quantile returns the duration that the share q (0 to 1) of all did not exceed,
// and 0 when nothing was recorded. The histogram may round up; no quantile is
// above the maximum.
func (l *Latency) Quantile(q float64) time.Duration {
	return min(l.max, time.Duration(l.histogram.ValueAtQuantile(q*100)))
}

// Max returns the longest duration recorded, and 0 when there is none.
func (l *Latency) Max() time.Duration { return l.max }

// Table is a list of names and values that prints with the values aligned.
type Table struct {
	rows [][2]string
}

// Row adds a line.
func (t *Table) Row(name, format string, args ...any) {
	t.rows = append(t.rows, [2]string{name, fmt.Sprintf(format, args...)})
}

// WriteTo prints the lines in the order in which they were added.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	width := 0
	for _, row := range t.rows {
		width = max(width, len(row[0]))
	}
	var b strings.Builder
	for _, row := range t.rows {
		fmt.Fprintf(&b, "%-*s  %s\n", width+1, row[0]+":", row[1])
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// Rate returns n per second of elapsed, and 0 when no time has passed.
func Rate(n uint64, elapsed time.Duration) float64 {
	if elapsed <= 0 {
		return 0
	}
	return float64(n) / elapsed.Seconds()
}
