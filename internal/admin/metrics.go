package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// prefix begins the name of every metric of the hub's own.
const prefix = "messagehub_"

// Latency is a histogram of how long deliveries took, for hub.Config.OnLatency.
type Latency struct{ histogram prometheus.Histogram }

// NewLatency returns an empty one.
func NewLatency() *Latency {
	return &Latency{prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: prefix + "delivery_latency_seconds",
		Help: "Time from reading a message to writing it to a receiver's socket, for a sample of the deliveries.",
		Buckets: []float64{
			25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10,
		},
	})}
}

// Observe adds one delivery. It may be called concurrently.
func (l *Latency) Observe(took time.Duration) { l.histogram.Observe(took.Seconds()) }

// newRegistry returns everything that /metrics shows.
func newRegistry(config *Config) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
		newCollector(config.Hub),
	)
	if config.Latency != nil {
		r.MustRegister(config.Latency.histogram)
	}
	if config.LogDropped != nil {
		r.MustRegister(newLogDropped(config.LogDropped))
	}
	if config.CertificateExpiry != nil {
		r.MustRegister(newCertificateExpiry(config.CertificateExpiry))
	}
	return r
}

// newLogDropped returns the metric of lines that the log lacks.
func newLogDropped(count func() uint64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: prefix + "log_lines_dropped_total",
		Help: "Lines of the log that were dropped, as nobody read it or it could not be written.",
	}, func() float64 { return float64(count()) })
}

// newCertificateExpiry returns the metric by which the end of a certificate is seen before it comes: a
// time, from which whoever asks subtracts his own.
func newCertificateExpiry(notAfter func() time.Time) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: prefix + "certificate_not_after_timestamp_seconds",
		Help: "Until when the certificate that the hub shows is good, in seconds since 1970.",
	}, func() float64 { return float64(notAfter().Unix()) })
}

// collector reads the statistics of a hub once for each scrape.
type collector struct {
	hub            Hub
	stats          []statMetric
	rejected       *prometheus.Desc
	errors         *prometheus.Desc
	disconnections *prometheus.Desc
	deliveries     *prometheus.Desc
	fates          *prometheus.Desc
}

// statMetric is a metric that is one number of the statistics.
type statMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*hub.Stats) float64
}

func newCollector(h Hub) *collector {
	return &collector{
		hub: h,
		stats: []statMetric{
			newGauge("uptime_seconds", "Time since the hub was made.", func(s *hub.Stats) float64 { return s.Uptime.Seconds() }),
			newGauge("clients", "Clients that are connected, or expected back.", func(s *hub.Stats) float64 { return float64(s.Clients) }),
			newGauge("clients_peak", "The most clients at one time.", func(s *hub.Stats) float64 { return float64(s.PeakClients) }),
			newCounter("connections_total", "Connections accepted.", func(s *hub.Stats) uint64 { return s.Connected }),
			newCounter("resumptions_total", "Connections that went on where another had ended.", func(s *hub.Stats) uint64 { return s.Resumed }),
			newCounter("paced_total", "How often a client was not read for a while because it was faster than it may be.", func(s *hub.Stats) uint64 { return s.RateLimited }),
			newCounter("untraced_total", "Messages that were to be traced and are not, as too many were.", func(s *hub.Stats) uint64 { return s.TracesDropped }),
			newCounter("accept_errors_total", "Failures to accept a connection that the hub survived.", func(s *hub.Stats) uint64 { return s.AcceptErrors }),
			newCounter("messages_received_total", "Frames received, ignored ones included.", func(s *hub.Stats) uint64 { return s.MessagesIn }),
			newCounter("messages_sent_total", "Frames written whole.", func(s *hub.Stats) uint64 { return s.MessagesOut }),
			newCounter("bytes_received_total", "Bytes received on the wire.", func(s *hub.Stats) uint64 { return s.BytesIn }),
			newCounter("bytes_sent_total", "Bytes written on the wire.", func(s *hub.Stats) uint64 { return s.BytesOut }),
			newCounter("relays_total", "Requests to relay a body.", func(s *hub.Stats) uint64 { return s.Relays }),
			newCounter("relays_without_receiver_total", "Requests to relay a body that named nobody.", func(s *hub.Stats) uint64 { return s.NoReceivers }),
			newCounter("frames_ignored_total", "Frames of types that mean nothing, empty ones, and verdicts that came too late.", func(s *hub.Stats) uint64 { return s.Ignored }),
			newGauge("queued_bytes", "Memory held for clients: bodies in queues, and frames that are being read.", func(s *hub.Stats) float64 { return float64(s.QueuedBytes) }),
			newGauge("queued_bytes_peak", "The most memory held for clients at one time, at most.", func(s *hub.Stats) float64 { return float64(s.PeakQueuedBytes) }),
			newGauge("queued_bytes_limit", "Memory that may be held for clients.", func(s *hub.Stats) float64 { return float64(s.MaxQueuedBytes) }),
		},
		rejected:       newDesc("connections_refused_total", "Connections closed at once.", "reason"),
		errors:         newDesc("request_errors_total", "Requests answered with an error.", "reason"),
		disconnections: newDesc("disconnections_total", "Connections that ended.", "reason"),
		deliveries:     newDesc("deliveries_total", "Copies of bodies, by whether they were written to their receiver.", "outcome"),
		fates:          newDesc("followed_deliveries_total", "Copies of bodies that their sender wanted followed, by what became of them.", "fate"),
	}
}

func newDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

func newGauge(name, help string, value func(*hub.Stats) float64) statMetric {
	return statMetric{newDesc(name, help), prometheus.GaugeValue, value}
}

func newCounter(name, help string, value func(*hub.Stats) uint64) statMetric {
	return statMetric{newDesc(name, help), prometheus.CounterValue, func(s *hub.Stats) float64 { return float64(value(s)) }}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.stats {
		ch <- m.desc
	}
	for _, desc := range []*prometheus.Desc{c.rejected, c.errors, c.disconnections, c.deliveries, c.fates} {
		ch <- desc
	}
}

// Collect implements prometheus.Collector. Series that never moved are there with a
// 0, so that an increase from nothing is seen.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.hub.Stats()
	for _, m := range c.stats {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&s))
	}
	emit := func(desc *prometheus.Desc, n uint64, label string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), label)
	}
	for _, reason := range hub.RejectReasons() {
		emit(c.rejected, s.Rejected[reason], reason.String())
	}
	for _, code := range wire.ErrorCodes() {
		emit(c.errors, s.Errors[code], code.String())
	}
	for _, reason := range hub.CloseReasons() {
		emit(c.disconnections, s.Disconnected[reason], reason.String())
	}
	emit(c.deliveries, s.Delivered, "written")
	emit(c.deliveries, s.Unknown, "unknown")
	emit(c.deliveries, s.Forbidden, "forbidden")
	emit(c.deliveries, s.Gone, "gone")
	emit(c.deliveries, s.TooLarge, "too large")
	for _, fate := range wire.Fates() {
		emit(c.fates, s.Fates[fate], fate.String())
	}
}
