// Package stats holds latency histograms and the table that a program prints at its end. It is
// not on the path of a message: no message waits for it. It knows nothing about hubs or
// clients.
package stats

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Range and resolution of a Latency. Two significant digits give an error of at most 1 % and a
// histogram below 40 KiB, small enough for one histogram per receiver of a simulation. The
// histogram counts in steps of about resolution, up to some hundreds of them. A resolution of
// 1 µs would give an error of 50 % at minLatency.
const (
	minLatency        = time.Microsecond
	resolution        = minLatency / 100
	maxLatency        = time.Hour
	significantDigits = 2
)

// Latency is a histogram of durations from 1 µs to 1 h with an error of at most 1 %. Durations
// outside of this range count as its nearest limit. The maximum is exact. A Latency is not
// safe for concurrent use: use one per goroutine and merge them.
type Latency struct {
	histogram *hdrhistogram.Histogram
	max       time.Duration
}

// NewLatency returns an empty histogram.
func NewLatency() *Latency {
	return &Latency{histogram: hdrhistogram.New(int64(resolution), int64(maxLatency), significantDigits)}
}

// Record adds d to the histogram.
func (l *Latency) Record(d time.Duration) {
	l.max = max(l.max, d)
	// The clamp rules out the only possible error, a value out of range.
	_ = l.histogram.RecordValue(int64(min(max(d, minLatency), maxLatency)))
}

// Merge adds all durations recorded by other.
func (l *Latency) Merge(other *Latency) {
	l.histogram.Merge(other.histogram)
	l.max = max(l.max, other.max)
}

// Count returns the number of recorded durations.
func (l *Latency) Count() int64 { return l.histogram.TotalCount() }

// Quantile returns the duration that a fraction q (0 to 1) of all recorded durations does not
// exceed, and 0 if none was recorded. The histogram can round up, but Quantile never exceeds
// Max.
func (l *Latency) Quantile(q float64) time.Duration {
	return min(l.max, time.Duration(l.histogram.ValueAtQuantile(q*100)))
}

// Max returns the maximum recorded duration, and 0 if none was recorded.
func (l *Latency) Max() time.Duration { return l.max }

// Table is a list of names and values, printed with aligned values.
type Table struct {
	rows [][2]string
}

// Row adds a row.
func (t *Table) Row(name, format string, args ...any) {
	t.rows = append(t.rows, [2]string{name, fmt.Sprintf(format, args...)})
}

// WriteTo writes the rows in the order in which they were added.
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

// Rate returns n per second of elapsed, and 0 if elapsed is not positive.
func Rate(n uint64, elapsed time.Duration) float64 {
	if elapsed <= 0 {
		return 0
	}
	return float64(n) / elapsed.Seconds()
}
