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

// WriteTo writes the report as text: the statistics if Config.ShowStats was set, and always
// the problems. It implements io.WriterTo.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	if r.showStats {
		r.printStatistics(&b)
	}
	r.printOutcome(&b)
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (r *Report) printStatistics(b *strings.Builder) {
	var t stats.Table
	t.Row("Duration", "%v", roundSeconds(r.TimeAlive))
	t.Row("Clients Connected", "%d", r.ClientsConnected)
	for _, a := range r.Addresses {
		t.Row("Clients Connected to "+a.Addr, "%d", a.Clients)
	}
	t.Row("Clients Disconnected", "%d", r.ClientsDisconnected)
	t.Row("Incoming Messages", "%s", formatCount(r.Traffic.MessagesIn))
	t.Row("Outgoing Messages", "%s", formatCount(r.Traffic.MessagesOut))
	t.Row("Bytes Read", "%s", formatBytes(r.Traffic.BytesIn))
	t.Row("Bytes Written", "%s", formatBytes(r.Traffic.BytesOut))
	t.Row("Incoming Messages per second", "%s", formatRate(r.Averages.MessagesIn))
	t.Row("Outgoing Messages per second", "%s", formatRate(r.Averages.MessagesOut))
	t.Row("Bytes Read per second", "%s", formatBytes(uint64(r.Averages.BytesIn)))
	t.Row("Bytes Written per second", "%s", formatBytes(uint64(r.Averages.BytesOut)))
	t.Row("Deliveries", "%s of %s", formatCount(r.Deliveries), formatCount(r.Plan.Deliveries))
	t.Row("Transfer time", "%v", roundSeconds(r.TransferSeconds))
	t.Row("Deliveries per second", "%s", formatRate(r.DeliveriesPerSecond))
	r.Latency.print(&t, "Latency")
	if r.Config.ReportLevel != LevelNone {
		t.Row("Reports", "%s of %s", formatCount(r.Reports), formatCount(r.Plan.Sends))
		for _, fate := range slices.Sorted(maps.Keys(r.Fates)) {
			t.Row("Reported as "+fate, "%s", formatCount(r.Fates[fate]))
		}
		r.ReportLatency.print(&t, "Report latency")
	}
	if r.Config.Reconnects > 0 {
		t.Row("Connections broken", "%d", r.Breaks)
	}
	_, _ = t.WriteTo(b) // a strings.Builder does not fail
	for _, note := range r.Notes {
		fmt.Fprintf(b, "Note: %s.\n", note)
	}
}

// print adds the rows of a latency. A nil latency has no rows.
func (l *Latency) print(t *stats.Table, name string) {
	if l == nil {
		return
	}
	t.Row(name+" p50", "%v", roundSeconds(l.P50))
	t.Row(name+" p90", "%v", roundSeconds(l.P90))
	t.Row(name+" p99", "%v", roundSeconds(l.P99))
	t.Row(name+" p99.9", "%v", roundSeconds(l.P999))
	t.Row(name+" max", "%v", roundSeconds(l.Max))
}

// printOutcome prints why a run did not complete and which problems it had. It prints nothing
// for a successful run.
func (r *Report) printOutcome(b *strings.Builder) {
	if r.Cause != "" {
		fmt.Fprintf(b, "The simulation did not complete: %s.\n", r.Cause)
	}
	if r.Problems.Count() == 0 {
		return
	}
	var totals []string
	for _, kind := range slices.Sorted(maps.Keys(r.Problems.Totals)) {
		totals = append(totals, fmt.Sprintf("%s %s", formatCount(r.Problems.Totals[kind]), kind))
	}
	fmt.Fprintf(b, "Problems: %s.\n", strings.Join(totals, ", "))
	for _, p := range r.Problems.Details {
		fmt.Fprintf(b, "  %s\n", p)
	}
	if r.Problems.Omitted > 0 {
		fmt.Fprintf(b, "  and %s more, not listed\n", formatCount(uint64(r.Problems.Omitted)))
	}
}

// roundSeconds converts seconds into a duration, rounded for display.
func roundSeconds(s float64) time.Duration {
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

func formatRate(perSecond float64) string { return humanize.CommafWithDigits(perSecond, 1) }

func formatBytes(n uint64) string { return fmt.Sprintf("%s (%s)", formatCount(n), humanize.Bytes(n)) }
