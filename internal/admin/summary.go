package admin

import (
	"net/http"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// summaryJSON is the state of the hub in one document, of which a page such as the console requests
// one a second. Counters begin at 0 with the hub. A map has an entry for each reason, also for
// those that never occurred.
type summaryJSON struct {
	Version       string            `json:"version"`
	Started       time.Time         `json:"started"` // the same as long as the hub runs
	UptimeSeconds float64           `json:"uptime_seconds"`
	Error         *string           `json:"error"` // of the health check; null: the hub works
	Draining      bool              `json:"draining"`
	Clients       int               `json:"clients"`
	PeakClients   int               `json:"clients_peak"`
	Connected     uint64            `json:"connections"`
	Resumed       uint64            `json:"resumptions"`
	Rejected      map[string]uint64 `json:"refused"`
	Disconnected  map[string]uint64 `json:"disconnections"`
	AcceptErrors  uint64            `json:"accept_errors"`
	MessagesIn    uint64            `json:"messages_in"`
	MessagesOut   uint64            `json:"messages_out"`
	BytesIn       uint64            `json:"bytes_in"`
	BytesOut      uint64            `json:"bytes_out"`
	Delivered     uint64            `json:"delivered"`
	Dropped       map[string]uint64 `json:"dropped"`
	Fates         map[string]uint64 `json:"fates"`
	QueuedBytes   int64             `json:"queued_bytes"`
	QueuedPeak    int64             `json:"queued_bytes_peak"`
	QueuedLimit   int64             `json:"queued_bytes_limit"`
	Latency       *latencyJSON      `json:"latency"`        // null: not measured
	OpenFiles     *uint64           `json:"open_files"`     // null: unknown on this system
	MaxOpenFiles  *uint64           `json:"open_files_max"` // null: unknown on this system
	CertExpiry    *time.Time        `json:"certificate_not_after"`
	Cluster       *clusterJSON      `json:"cluster"` // null: the hub is alone
}

// latencyJSON is a histogram of delivery latencies.
type latencyJSON struct {
	Bounds []float64 `json:"bounds"` // upper bounds of the buckets except the last, in seconds
	Counts []uint64  `json:"counts"` // deliveries in each bucket
}

// summaryAPI serves the summary.
type summaryAPI struct {
	hub     Hub
	probes  *probes
	latency *Latency         // nil: not measured
	expiry  func() time.Time // Config.CertificateExpiry
	cluster *clusterAPI
	process *processSampler
	started time.Time
	version string // Config.Version
}

func (a *summaryAPI) handleSummary(w http.ResponseWriter, _ *http.Request) {
	s := a.hub.Stats()
	v := summaryJSON{
		Version: a.version, Started: a.started, UptimeSeconds: s.Uptime.Seconds(), Draining: a.probes.draining.Load(),
		Clients: s.Clients, PeakClients: s.PeakClients, Connected: s.Connected, Resumed: s.Resumed, AcceptErrors: s.AcceptErrors,
		Rejected:     countsByName(hub.RejectReasons(), s.Rejected),
		Disconnected: countsByName(hub.CloseReasons(), s.Disconnected),
		MessagesIn:   s.MessagesIn, MessagesOut: s.MessagesOut, BytesIn: s.BytesIn, BytesOut: s.BytesOut,
		Delivered: s.Delivered, Dropped: countsByName(hub.DropReasons(), s.Dropped), Fates: countsByName(wire.Fates(), s.Fates),
		QueuedBytes: s.QueuedBytes, QueuedPeak: s.PeakQueuedBytes, QueuedLimit: s.MaxQueuedBytes,
		Latency: a.latency.read(), Cluster: a.cluster.describe(),
	}
	if err := a.probes.checkHealth(); err != nil {
		text := err.Error()
		v.Error = &text
	}
	if a.expiry != nil {
		expiry := a.expiry()
		v.CertExpiry = &expiry
	}
	v.OpenFiles, v.MaxOpenFiles = a.process.openFiles()
	writeJSON(w, http.StatusOK, v)
}

// countsByName returns the counts of all keys, by their text.
func countsByName[K interface {
	comparable
	String() string
}](keys []K, counts map[K]uint64) map[string]uint64 {
	byName := make(map[string]uint64, len(keys))
	for _, key := range keys {
		byName[key.String()] = counts[key]
	}
	return byName
}

// read returns the histogram, or nil if l is nil.
func (l *Latency) read() *latencyJSON {
	if l == nil {
		return nil
	}
	var m dto.Metric
	if err := l.histogram.Write(&m); err != nil {
		panic(err) // cannot happen: the labels of a histogram without labels are valid
	}
	h := m.GetHistogram()
	v := &latencyJSON{Bounds: make([]float64, 0, len(h.GetBucket())), Counts: make([]uint64, 0, len(h.GetBucket())+1)}
	below := uint64(0)
	for _, b := range h.GetBucket() {
		v.Bounds = append(v.Bounds, b.GetUpperBound())
		v.Counts = append(v.Counts, b.GetCumulativeCount()-below)
		below = b.GetCumulativeCount()
	}
	v.Counts = append(v.Counts, h.GetSampleCount()-below)
	return v
}

// valueOf returns the value of the metric with that name, or nil if there is none.
func valueOf(families []*dto.MetricFamily, name string) *uint64 {
	i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name })
	if i < 0 {
		return nil
	}
	value := uint64(families[i].GetMetric()[0].GetGauge().GetValue())
	return &value
}
