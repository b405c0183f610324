package simulation

import (
	"errors"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/internal/stats"
)

// Report is what became of a run. It marshals to JSON as a whole; all counts are
// counted, none is taken from the plan.
type Report struct {
	Config Settings `json:"config"`
	Plan   Plan     `json:"plan"`

	Complete    bool   `json:"complete"`        // every message arrived at every receiver
	Interrupted bool   `json:"interrupted"`     // from outside, before that
	Cause       string `json:"cause,omitempty"` // why it ended before that

	TimeAlive           float64 `json:"time_alive_seconds"` // from the first connect until everything was there
	ClientsConnected    int     `json:"clients_connected"`
	ClientsDisconnected int     `json:"clients_disconnected"`
	Traffic             Traffic `json:"traffic"`
	Averages            Average `json:"averages_per_second"` // over the time alive

	// From when the first message was due to the last missing delivery; of a run
	// that did not complete, to the last progress.
	TransferSeconds     float64 `json:"transfer_seconds"`
	Deliveries          uint64  `json:"deliveries"` // bodies that the receivers got
	DeliveriesPerSecond float64 `json:"deliveries_per_second"`

	Latency *Latency `json:"latency_seconds,omitempty"` // nil when not known

	Reports       uint64            `json:"reports,omitempty"` // messages whose sender knows what became of them
	Fates         map[string]uint64 `json:"fates,omitempty"`   // deliveries by what was reported of them
	ReportLatency *Latency          `json:"report_latency_seconds,omitempty"`
	Breaks        int               `json:"breaks,omitempty"` // connections that were broken on purpose

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

// Traffic is what all clients counted together, answers of the hub included.
// Incoming is what came from the hub.
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

// Latency is how long deliveries took from when their message was due, in
// seconds.
type Latency struct {
	Samples int64   `json:"samples"`
	OneIn   int     `json:"one_in"` // deliveries for each that was measured
	P50     float64 `json:"p50"`
	P90     float64 `json:"p90"`
	P99     float64 `json:"p99"`
	P999    float64 `json:"p99_9"`
	Max     float64 `json:"max"`
}

// OK says that everything arrived and nothing was wrong with it.
func (r *Report) OK() bool { return r.Complete && r.Problems.Count() == 0 }

// newReport draws up the report of a run whose goroutines have all ended.
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

// traffic asks all clients.
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

// transferTime returns the time from when the first message was due to the last
// delivery, and 0 when there was none.
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

// latency merges what the receivers measured; nil when they measured nothing.
func (r *run) latency() *Latency {
	merged := stats.NewLatency()
	for _, rcv := range r.receivers {
		merged.Merge(rcv.latency)
	}
	return summarizeLatency(merged, r.oneIn())
}

// summarizeLatency sums up what was measured; nil when nothing was.
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

// problems collects what all receivers saw and, of a run in which nothing moved
// any more, what it was still waiting for. Of a run that ended otherwise nobody
// knows what would still have come.
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

// sent returns how many messages the hub has taken from each client.
func (r *run) sent() []uint32 {
	sent := make([]uint32, len(r.senders))
	for i, s := range r.senders {
		sent[i] = s.accepted.Load()
	}
	return sent
}

// addUnsent names the clients that could not send everything.
func (r *run) addUnsent(ps *Problems, sent []uint32) {
	messages := r.plan.messagesPerSender()
	for i, n := range sent {
		ps.add(Problem{
			Kind: ProblemUnsent, Client: i, ID: r.clients[i].ID(),
			Count: uint64(messages - n), Got: uint64(n), Expected: uint64(messages),
		})
	}
}

// notes says what a reader of the report must know about what it cannot say.
func (r *run) notes() (list []string) {
	switch {
	case r.plan.Deliveries == 0:
		return nil
	case r.config.Verify == VerifyOff:
		list = append(list, "verification was off: deliveries were only counted, latency was not measured")
	case r.plan.Size < headerSize:
		list = append(list, fmt.Sprintf("bodies of %d bytes cannot say whose they are (that takes %d): "+
			"only size and number of deliveries were checked, latency was not measured", r.plan.Size, headerSize))
	case r.oneIn() > 1:
		list = append(list, fmt.Sprintf("latency was measured for one delivery in %d: "+
			"the maximum is that of the samples", r.oneIn()))
	}
	return list
}
