package simulation

import (
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
	Breaks        int               `json:"breaks,omitempty"`    // connections broken on purpose
	Addresses     []AddressCount    `json:"addresses,omitempty"` // nil with one address

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

// AddressCount is the number of clients that were connected to one of several addresses when the
// first messages were sent.
type AddressCount struct {
	Addr    string `json:"addr"`
	Clients int    `json:"clients"`
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
