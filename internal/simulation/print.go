package simulation

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/sechlol/go-message-hub/internal/stats"
)

// WriteTo prints the report for people: the statistics, unless the run was told
// not to show them, and whatever went wrong in any case. It implements
// io.WriterTo.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	if r.showStats {
		r.printStatistics(&b)
	}
	r.printEnding(&b)
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (r *Report) printStatistics(b *strings.Builder) {
	var t stats.Table
	t.Row("Time alive", "%v", seconds(r.TimeAlive))
	t.Row("Clients Connected", "%d", r.ClientsConnected)
	t.Row("Clients Disconnected", "%d", r.ClientsDisconnected)
	t.Row("Incoming Messages", "%s", comma(r.Traffic.MessagesIn))
	t.Row("Outgoing Messages", "%s", comma(r.Traffic.MessagesOut))
	t.Row("Bytes Read", "%s", bytesOf(r.Traffic.BytesIn))
	t.Row("Bytes Written", "%s", bytesOf(r.Traffic.BytesOut))
	t.Row("Incoming Messages per second", "%s", rate(r.Averages.MessagesIn))
	t.Row("Outgoing Messages per second", "%s", rate(r.Averages.MessagesOut))
	t.Row("Bytes Read per second", "%s", bytesOf(uint64(r.Averages.BytesIn)))
	t.Row("Bytes Written per second", "%s", bytesOf(uint64(r.Averages.BytesOut)))
	t.Row("Deliveries", "%s of %s", comma(r.Deliveries), comma(r.Plan.Deliveries))
	t.Row("Transfer time", "%v", seconds(r.TransferSeconds))
	t.Row("Deliveries per second", "%s", rate(r.DeliveriesPerSecond))
	r.Latency.print(&t, "Latency")
	if r.Config.Report != LevelNone {
		t.Row("Reports", "%s of %s", comma(r.Reports), comma(r.Plan.Sends))
		for _, fate := range slices.Sorted(maps.Keys(r.Fates)) {
			t.Row("Reported as "+fate, "%s", comma(r.Fates[fate]))
		}
		r.ReportLatency.print(&t, "Report latency")
	}
	if r.Config.Reconnect > 0 {
		t.Row("Connections broken", "%d", r.Breaks)
	}
	_, _ = t.WriteTo(b) // a strings.Builder takes everything
	for _, note := range r.Notes {
		fmt.Fprintf(b, "Note: %s.\n", note)
	}
}

// print adds the rows of a latency, if it is known.
func (l *Latency) print(t *stats.Table, name string) {
	if l == nil {
		return
	}
	t.Row(name+" p50", "%v", seconds(l.P50))
	t.Row(name+" p90", "%v", seconds(l.P90))
	t.Row(name+" p99", "%v", seconds(l.P99))
	t.Row(name+" p99.9", "%v", seconds(l.P999))
	t.Row(name+" max", "%v", seconds(l.Max))
}

// printEnding says how it ended, and nothing about a run without fault.
func (r *Report) printEnding(b *strings.Builder) {
	if r.Cause != "" {
		fmt.Fprintf(b, "The simulation did not complete: %s.\n", r.Cause)
	}
	if r.Problems.Count() == 0 {
		return
	}
	var totals []string
	for _, kind := range slices.Sorted(maps.Keys(r.Problems.Totals)) {
		totals = append(totals, fmt.Sprintf("%s %s", comma(r.Problems.Totals[kind]), kind))
	}
	fmt.Fprintf(b, "Problems: %s.\n", strings.Join(totals, ", "))
	for _, p := range r.Problems.Details {
		fmt.Fprintf(b, "  %s\n", p)
	}
	if r.Problems.Omitted > 0 {
		fmt.Fprintf(b, "  and %s more, not listed\n", comma(uint64(r.Problems.Omitted)))
	}
}

// seconds makes a duration that reads well: four digits or so of it.
func seconds(s float64) time.Duration {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d > time.Minute:
		return d.Round(time.Second)
	case d > time.Second:
		return d.Round(time.Millisecond)
	default:
		return d.Round(time.Microsecond)
	}
}

func rate(perSecond float64) string { return humanize.CommafWithDigits(perSecond, 1) }

func bytesOf(n uint64) string { return fmt.Sprintf("%s (%s)", comma(n), humanize.Bytes(n)) }
