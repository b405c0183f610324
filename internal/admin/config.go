package admin

import (
	"iter"
	"log/slog"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

// Hub is the part of a hub.Hub that the admin address uses. Its methods must be safe for
// concurrent use.
type Hub interface {
	Stats() hub.Stats
	ClientsAfter(after uint64) iter.Seq[hub.ClientInfo]
	Client(id uint64) (hub.ClientInfo, bool)
	Disconnect(id uint64, reconnect bool) bool
}

// DefaultMaxConnections is the default of Config.MaxConnections.
const DefaultMaxConnections = 100

// defaultSampleInterval is the default of Config.SampleInterval.
const defaultSampleInterval = 5 * time.Second

// Config is the configuration of a Server.
type Config struct {
	// Listener is the listener to serve. New takes ownership and closes it on error.
	Listener net.Listener

	// MaxConnections is the maximum number of open connections. Further connections are closed at
	// once. Default: DefaultMaxConnections.
	MaxConnections int

	// Hub is the hub whose state is served.
	Hub Hub

	// Messages sends test messages, and knows the fates of the messages of clients. Usually it is
	// the same hub.
	Messages Messages

	// Version is the version of the program, for people. It can be empty.
	Version string

	// Token is the bearer token of requests, at least 16 printable ASCII characters without spaces.
	// It can be empty if the listener is on a loopback address: requests need no token then.
	Token string

	// CheckHealth returns nil if the hub works, and otherwise the reason why not, for the probes. It
	// must be safe for concurrent use and must not block for long. nil: the hub is always healthy.
	CheckHealth func() error

	// Cluster describes the cluster of the hub. nil: the hub is alone.
	Cluster *ClusterConfig

	// LogDropped returns the number of dropped log lines, for the metrics. It must be safe for
	// concurrent use. nil: there is no such metric.
	LogDropped func() uint64

	// Latency is a histogram for the metrics and the summary. nil: there is no such metric.
	Latency *Latency

	// CertificateExpiry returns the expiry of the server certificate of the hub, for the metrics and
	// the summary. It must be safe for concurrent use. nil: there is no such metric.
	CertificateExpiry func() time.Time

	// SampleInterval is the interval over which rates are measured. Default: 5 s.
	SampleInterval time.Duration

	// Logger gets a line for each client that a request disconnects, and for each test message.
	// Default: no lines.
	Logger *slog.Logger
}

// setDefaults sets the fields that are zero to their defaults.
func (c *Config) setDefaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.CheckHealth == nil {
		c.CheckHealth = func() error { return nil }
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = DefaultMaxConnections
	}
	if c.SampleInterval == 0 {
		c.SampleInterval = defaultSampleInterval
	}
}
