package admin

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// prefix is the prefix of the names of all metrics of the hub.
const prefix = "messagehub_"

// Latency is a histogram of delivery latencies, for hub.Config.OnLatency.
type Latency struct{ histogram prometheus.Histogram }

// NewLatency returns an empty Latency.
func NewLatency() *Latency {
	return &Latency{prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: prefix + "delivery_latency_seconds",
		Help: "Time from reading a message to writing it to a receiver's socket, for a sample of the deliveries.",
		Buckets: []float64{
			25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1, 2.5, 5, 10,
		},
	})}
}

// Observe adds one delivery. It is safe for concurrent use.
func (l *Latency) Observe(took time.Duration) { l.histogram.Observe(took.Seconds()) }

// newRegistry returns a registry with all metrics of /metrics. A field of config that is nil has
// none.
func newRegistry(config *Config) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
		newCollector(config.Hub.Stats),
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
	if config.Cluster != nil {
		r.MustRegister(newClusterCollector(config.Cluster))
	}
	return r
}

// newLogDropped returns the counter of dropped log lines.
func newLogDropped(count func() uint64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: prefix + "log_lines_dropped_total",
		Help: "Log lines dropped because the output was blocked or failed.",
	}, func() float64 { return float64(count()) })
}

// newCertificateExpiry returns the gauge of the expiry of the server certificate. The value is
// a time: a query subtracts the current time from it.
func newCertificateExpiry(notAfter func() time.Time) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: prefix + "certificate_not_after_timestamp_seconds",
		Help: "Expiry of the server certificate, in seconds since 1970.",
	}, func() float64 { return float64(notAfter().Unix()) })
}

// collector is a prometheus.Collector that reads the statistics of a hub once per scrape.
type collector struct {
	readStats      func() hub.Stats
	stats          []statMetric
	rejected       *prometheus.Desc
	errors         *prometheus.Desc
	disconnections *prometheus.Desc
	deliveries     *prometheus.Desc
	fates          *prometheus.Desc
}

// statMetric is a metric whose value is one number of the statistics.
type statMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*hub.Stats) float64
}

func newCollector(readStats func() hub.Stats) *collector {
	return &collector{
		readStats: readStats,
		stats: []statMetric{
			newGauge("uptime_seconds", "Time since the hub was created.", func(s *hub.Stats) float64 { return s.Uptime.Seconds() }),
			newGauge("clients", "Connected clients and detached sessions.", func(s *hub.Stats) float64 { return float64(s.Clients) }),
			newGauge("clients_peak", "Peak of the number of clients.", func(s *hub.Stats) float64 { return float64(s.PeakClients) }),
			newGauge("cluster_clients", "Clients of all hubs of the cluster that the hub knows.", func(s *hub.Stats) float64 { return float64(s.ClusterClients) }),
			newCounter("connections_total", "Connections accepted.", func(s *hub.Stats) uint64 { return s.Connected }),
			newCounter("websockets_total", "Connections accepted that became WebSockets.", func(s *hub.Stats) uint64 { return s.WebSockets }),
			newCounter("resumptions_total", "Sessions resumed on a new connection.", func(s *hub.Stats) uint64 { return s.Resumed }),
			newCounter("token_renewals_total", "Tokens renewed on a connection that stayed open.", func(s *hub.Stats) uint64 { return s.Renewed }),
			newCounter("paced_total", "Pauses in reading a client that exceeded its rate limit.", func(s *hub.Stats) uint64 { return s.RateLimited }),
			newCounter("untraced_total", "Sampled messages not traced because too many traces were pending.", func(s *hub.Stats) uint64 { return s.TracesDropped }),
			newCounter("accept_errors_total", "Temporary errors of accepting a connection.", func(s *hub.Stats) uint64 { return s.AcceptErrors }),
			newCounter("messages_received_total", "Frames received, ignored ones included.", func(s *hub.Stats) uint64 { return s.MessagesIn }),
			newCounter("messages_sent_total", "Frames written completely.", func(s *hub.Stats) uint64 { return s.MessagesOut }),
			newCounter("bytes_received_total", "Bytes received on the wire.", func(s *hub.Stats) uint64 { return s.BytesIn }),
			newCounter("bytes_sent_total", "Bytes written on the wire.", func(s *hub.Stats) uint64 { return s.BytesOut }),
			newCounter("relays_total", "Requests to send a body.", func(s *hub.Stats) uint64 { return s.Relays }),
			newCounter("relays_without_receiver_total", "Requests to send a body without receivers.", func(s *hub.Stats) uint64 { return s.NoReceivers }),
			newCounter("frames_ignored_total", "Frames ignored: unknown types, empty frames, and verdicts that came too late.", func(s *hub.Stats) uint64 { return s.Ignored }),
			newGauge("queued_bytes", "Memory held for clients: bodies in queues and partial frames.", func(s *hub.Stats) float64 { return float64(s.QueuedBytes) }),
			newGauge("queued_bytes_peak", "Upper bound of the peak of memory held for clients.", func(s *hub.Stats) float64 { return float64(s.PeakQueuedBytes) }),
			newGauge("queued_bytes_limit", "Maximum memory held for clients.", func(s *hub.Stats) float64 { return float64(s.MaxQueuedBytes) }),
		},
		rejected:       newDesc("connections_refused_total", "Connections rejected, by reason.", "reason"),
		errors:         newDesc("request_errors_total", "Requests answered by an ERROR frame, by reason.", "reason"),
		disconnections: newDesc("disconnections_total", "Connections closed, by reason.", "reason"),
		deliveries:     newDesc("deliveries_total", "Deliveries to one receiver each, by outcome.", "outcome"),
		fates:          newDesc("followed_deliveries_total", "Deliveries with delivery tracking, by fate.", "fate"),
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

// Collect implements prometheus.Collector. It emits every series, even those whose value is 0,
// because a query cannot see the first increase of a series that did not exist before.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.readStats()
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
	for _, reason := range hub.DropReasons() {
		emit(c.deliveries, s.Dropped[reason], reason.String())
	}
	for _, fate := range wire.Fates() {
		emit(c.fates, s.Fates[fate], fate.String())
	}
}
