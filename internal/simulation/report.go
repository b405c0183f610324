package simulation

import (
	"errors"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/internal/stats"
)

// Report is the result of a run. It marshals to JSON as a whole. All counts are measured; none
// is taken from the plan.
type Report struct {
	Config Settings `json:"config"`
	Plan   Plan     `json:"plan"`

	Complete    bool   `json:"complete"`        // every message arrived at every receiver
	Interrupted bool   `json:"interrupted"`     // the context of the run ended before completion
	Cause       string `json:"cause,omitempty"` // why the run did not complete

	TimeAlive           float64 `json:"time_alive_seconds"` // from the first connect until the end
	ClientsConnected    int     `json:"clients_connected"`
	ClientsDisconnected int     `json:"clients_disconnected"`
	Traffic             Traffic `json:"traffic"`
	Averages            Average `json:"averages_per_second"` // over TimeAlive

	// TransferSeconds is the time from when the first message was due to the last missing
	// delivery or, for a run that did not complete, to the last progress.
	TransferSeconds     float64 `json:"transfer_seconds"`
	Deliveries          uint64  `json:"deliveries"` // bodies that the receivers received
	DeliveriesPerSecond float64 `json:"deliveries_per_second"`

	Latency *Latency `json:"latency_seconds,omitempty"` // nil if not measured

	Reports       uint64            `json:"reports,omitempty"` // messages with a report
	Fates         map[string]uint64 `json:"fates,omitempty"`   // deliveries by reported fate
	ReportLatency *Latency          `json:"report_latency_seconds,omitempty"`
	Breaks        int               `json:"breaks,omitempty"` // connections broken on purpose

	Problems Problems `json:"problems"`
	Notes    []string `json:"notes,omitempty"` // what was not checked or measured, and why

	showStats bool
}

// Settings is the configuration of a run, as marshalled.
type Settings struct {
	Addr     string     `json:"addr"`
	Size     int        `json:"size"`
	Clients  int        `json:"clients"`
	Messages int        `json:"messages"`
	Interval float64    `json:"interval_seconds"`
	Verify   VerifyMode `json:"verify"`

	Protocol    int   `json:"protocol"`
	ReportLevel Level `json:"report"`
	Reconnects  int   `json:"reconnect,omitempty"`

	Timeout float64 `json:"timeout_seconds"`
}

// Traffic is the sum of the counters of all clients, including replies of the hub. Incoming
// messages are those that clients received from the hub.
type Traffic struct {
	MessagesIn  uint64 `json:"incoming_messages"`
	MessagesOut uint64 `json:"outgoing_messages"`
	BytesIn     uint64 `json:"bytes_read"`
	BytesOut    uint64 `json:"bytes_written"`
}

// Average is Traffic per second.
type Average struct {
	MessagesIn  float64 `json:"incoming_messages"`
	MessagesOut float64 `json:"outgoing_messages"`
	BytesIn     float64 `json:"bytes_read"`
	BytesOut    float64 `json:"bytes_written"`
}

// Latency is the time from when messages were due to their delivery or report, in seconds.
type Latency struct {
	Samples int64   `json:"samples"`
	OneIn   int     `json:"one_in"` // one delivery in OneIn was measured
	P50     float64 `json:"p50"`
	P90     float64 `json:"p90"`
	P99     float64 `json:"p99"`
	P999    float64 `json:"p99_9"`
	Max     float64 `json:"max"`
}

// OK reports whether every message arrived and there were no problems.
func (r *Report) OK() bool { return r.Complete && r.Problems.Count() == 0 }

// newReport makes the report of a run. All goroutines of the run must have ended.
func newReport(r *run) *Report {
	alive := r.outcome.alive
	report := &Report{
		Config:              r.config.settings(),
		Plan:                r.plan,
		Complete:            r.outcome.cause == nil,
		TimeAlive:           alive.Seconds(),
		ClientsConnected:    len(r.clients),
		ClientsDisconnected: r.outcome.disconnected,
		Traffic:             r.outcome.traffic,
		TransferSeconds:     r.transferTime().Seconds(),
		Latency:             r.latency(),
		Problems:            r.problems(),
		showStats:           r.config.ShowStats,
	}
	if r.outcome.cause != nil {
		report.Cause = r.outcome.cause.Error()
	}
	for _, rcv := range r.receivers {
		report.Deliveries += rcv.checker.received
	}
	if r.config.ReportLevel != LevelNone {
		report.Reports, report.Fates, report.ReportLatency = r.reported(), r.fates(), r.reportLatency()
	}
	if r.proxy != nil {
		report.Breaks = r.proxy.breakCount()
	}
	report.DeliveriesPerSecond = stats.Rate(report.Deliveries, r.transferTime())
	report.Averages = report.Traffic.perSecond(alive)
	report.Notes = r.notes()
	return report
}

func (c Config) settings() Settings {
	return Settings{
		Addr: c.Addr, Size: c.Size, Clients: c.Clients, Messages: c.Messages,
		Interval: c.Interval.Seconds(), Verify: c.Verify, Timeout: c.Timeout.Seconds(),
		Protocol: c.Protocol, ReportLevel: c.ReportLevel, Reconnects: c.Reconnects,
	}
}

func (t Traffic) perSecond(elapsed time.Duration) Average {
	return Average{
		MessagesIn:  stats.Rate(t.MessagesIn, elapsed),
		MessagesOut: stats.Rate(t.MessagesOut, elapsed),
		BytesIn:     stats.Rate(t.BytesIn, elapsed),
		BytesOut:    stats.Rate(t.BytesOut, elapsed),
	}
}

// traffic sums the counters of all clients.
func (r *run) traffic() (t Traffic) {
	for _, c := range r.clients {
		s := c.Stats()
		t.MessagesIn += s.MessagesIn
		t.MessagesOut += s.MessagesOut
		t.BytesIn += s.BytesIn
		t.BytesOut += s.BytesOut
	}
	return t
}

// transferTime returns the time from when the first message was due to the last delivery. It
// returns 0 if no message was sent.
func (r *run) transferTime() time.Duration {
	first, last, started := time.Duration(0), time.Duration(0), false
	for i, s := range r.senders {
		if s.started && (!started || s.firstDue < first) {
			first, started = s.firstDue, true
		}
		last = max(last, r.receivers[i].lastArrival)
	}
	if !started {
		return 0
	}
	if r.outcome.cause != nil {
		last = max(last, r.lastProgress.at.Sub(r.epoch))
	}
	return max(0, last-first)
}

// latency merges the measurements of all receivers. It returns nil if there are none.
func (r *run) latency() *Latency {
	merged := stats.NewLatency()
	for _, rcv := range r.receivers {
		merged.Merge(rcv.latency)
	}
	return summarizeLatency(merged, r.oneIn())
}

// summarizeLatency returns the quantiles of merged, or nil if it is empty.
func summarizeLatency(merged *stats.Latency, oneIn int) *Latency {
	if merged.Count() == 0 {
		return nil
	}
	return &Latency{
		Samples: merged.Count(),
		OneIn:   oneIn,
		P50:     merged.Quantile(0.50).Seconds(),
		P90:     merged.Quantile(0.90).Seconds(),
		P99:     merged.Quantile(0.99).Seconds(),
		P999:    merged.Quantile(0.999).Seconds(),
		Max:     merged.Max().Seconds(),
	}
}

// problems collects the faults that all receivers found and, for a run that stalled, the
// messages that are missing or unsent. For a run that ended for another reason, messages at
// the end do not count as lost, because the hub could still have delivered them.
func (r *run) problems() Problems {
	ps := Problems{Totals: make(map[ProblemKind]uint64), Details: []Problem{}}
	var sent []uint32
	if errors.As(r.outcome.cause, new(stallError)) {
		sent = r.sent()
		r.addUnsent(&ps, sent)
	}
	expected := r.plan.deliveriesPerReceiver()
	for i, rcv := range r.receivers {
		for _, p := range rcv.checker.problems(sent, expected) {
			p.Client, p.ID = i, r.clients[i].ID()
			p.Got, p.Expected = rcv.checker.received, expected
			ps.add(p)
		}
	}
	r.reportProblems(&ps)
	return ps
}

// sent returns how many messages the hub has accepted from each client.
func (r *run) sent() []uint32 {
	sent := make([]uint32, len(r.senders))
	for i, s := range r.senders {
		sent[i] = s.accepted.Load()
	}
	return sent
}

// addUnsent adds a problem for each client that could not send all messages.
func (r *run) addUnsent(ps *Problems, sent []uint32) {
	messages := r.plan.messagesPerSender()
	for i, n := range sent {
		ps.add(Problem{
			Kind: ProblemUnsent, Client: i, ID: r.clients[i].ID(),
			Count: uint64(messages - n), Got: uint64(n), Expected: uint64(messages),
		})
	}
}

// notes returns the limitations of the report: what was not checked or measured, and why.
func (r *run) notes() (list []string) {
	switch {
	case r.plan.Deliveries == 0:
		return nil
	case r.config.Verify == VerifyOff:
		list = append(list, "verification was off: deliveries were only counted, latency was not measured")
	case r.plan.Size < headerSize:
		list = append(list, fmt.Sprintf("bodies of %d bytes have no header (which needs %d bytes): "+
			"only size and number of deliveries were checked, latency was not measured", r.plan.Size, headerSize))
	case r.oneIn() > 1:
		list = append(list, fmt.Sprintf("latency was measured for one delivery in %d: "+
			"the maximum is that of the samples", r.oneIn()))
	}
	return list
}
