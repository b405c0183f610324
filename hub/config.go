package hub

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// Config configures a hub. The zero value of each field means its default.
type Config struct {
	// MaxBody is the maximum size of a relayed body in bytes, at most wire.MaxBodyLimit. The hub
	// disconnects a client that sends a larger body. Default: 1 MiB.
	MaxBody int

	// MaxQueuedBytes bounds the memory, in bytes, that the hub holds for its clients: bodies in
	// queues and frames that are being read. An eighth of it is reserved for reading. On Linux
	// without TLS, a message above 64 KiB waits in the kernel until all of it has arrived, and
	// counts from then on. Default: 48 MiB. Minimum: 1 MiB and four times the largest relay.
	//
	// The following memory is not part of MaxQueuedBytes:
	//
	// - reports and control frames, which cannot wait: up to 4 KiB for each client that is busy at
	//   the moment;
	// - a second copy of bodies, if a hub has clients of both versions: up to MaxQueuedBytes again;
	// - about 5 KiB for each connection and 3 KiB for its messages;
	// - up to 30 KiB for a connection that waits for memory or for 255 receivers with full queues. A
	//   v2 client can have more such messages, each of them sent separately: up to six times Credit,
	//   until StallTimeout ends the wait;
	// - the overhead of the Go runtime. Set a memory limit for the process
	//   (runtime/debug.SetMemoryLimit) if that matters.
	MaxQueuedBytes int64

	// MaxClients is the maximum number of clients. A detached session that can still be resumed
	// counts as a client. The hub rejects a further connection, unless the connection resumes the
	// session of one of these clients. Up to 64 additional connections can be open while the hub
	// waits for their HELLO, each for at most 3 s. Default: 100,000. Hub.SetMaxClients changes
	// the maximum later.
	MaxClients int

	// MaxPerAddress is the maximum number of clients from one IP address. ConnectRate is the
	// maximum rate at which the hub accepts connections from one address, in connections per
	// second on average, with bursts of up to one second's worth. An IPv6 address counts by its
	// first 64 bits.
	//
	// Detached sessions do not count towards MaxPerAddress, but connections and detached sessions
	// of one address are at most twice MaxPerAddress. Up to 16 additional connections from an
	// address can be open while the hub waits for a HELLO that resumes one of its sessions.
	// Default of both: no limit.
	MaxPerAddress int
	ConnectRate   float64

	// OutboxBytes is the maximum number of bytes queued for one client before its senders are
	// blocked. The frame that reaches the limit is still queued as a whole. Default: 512 KiB.
	// Minimum: 4 KiB.
	OutboxBytes int

	// StallTimeout is how long a client for which senders wait can go without reading one frame
	// or 64 KiB. After that the hub disconnects the client. Default: 10 s.
	StallTimeout time.Duration

	// HandshakeTimeout limits the TLS handshake of a connection. With Authenticate or DisableV1
	// it then also limits the wait for the first frame of the connection. For a WebSocket, it
	// limits the TLS handshake, the upgrade request, and the wait for the first frame. Default: 10
	// s.
	HandshakeTimeout time.Duration

	// FrameTimeout is how long the rest of a frame can take to arrive. A frame can take longer if
	// at least 1 KiB per second arrives, measured over FrameTimeout. Between two frames a client
	// can be silent without limit. Default: 30 s.
	FrameTimeout time.Duration

	// MinRate is the minimum rate, in bytes per second, at which a client must read or write
	// while it holds memory for which other clients wait. The rate is measured over StallTimeout.
	// Default: 64 KiB.
	MinRate int

	// KeepAlive is the interval in which the hub sends something to each v2 client and expects to
	// receive something from it. The hub closes the connection after two such intervals without
	// data from the client. Default: 15 s.
	KeepAlive time.Duration

	// ResumeWindow is how long a v2 client can resume its session after its connection is lost.
	// The hub keeps the client's id and its unacknowledged messages for that time. Default: 30 s.
	ResumeWindow time.Duration

	// ReportTimeout is how long a report can wait for the last of its fates, unless the message
	// names another timeout or has a shorter time to live. Default: 1 minute.
	ReportTimeout time.Duration

	// MaxReportTimeout is the maximum timeout that a message can name for its report. A message
	// that names a longer one is reported after MaxReportTimeout. The pending report counts
	// towards MaxReports. Default: 1 hour, or ReportTimeout if that is longer. Minimum:
	// ReportTimeout.
	MaxReportTimeout time.Duration

	// Credit is the maximum number of bytes that a v2 client can send before the hub has queued
	// them for their receivers: the bytes of its messages, and 16 bytes for each of their
	// receivers. Credit limits the throughput of a client to Credit bytes per round trip, which
	// matters over a long path. A smaller Credit keeps more of the data in flight in the
	// processor's cache (docs/decisions/0006). Default: 128 KiB, and with Cluster 256 KiB, because
	// a round trip between hubs takes longer.
	//
	// In a cluster, the hub also reads nothing more from a v1 client that has Credit bytes under
	// way to other hubs, beside what the last read has brought. Each batch of messages to the same
	// receivers counts 512 bytes more, and 16 for each receiver.
	Credit int

	// Window is the maximum number of unacknowledged bytes written to a v2 client. When it is
	// reached, the hub writes nothing more until the client acknowledges. A client acknowledges
	// after half of Window. A larger Window means fewer ACKs and more throughput to one client
	// over a long path (half of Window per round trip), but also more data in the memory of a
	// client that does not keep up, and older data when the client reads it. The hub holds
	// unacknowledged bytes within MaxQueuedBytes. When that memory is short, the hub asks clients
	// for acknowledgements. Default: 8 MiB (docs/decisions/0006).
	Window int

	// MaxReports is the maximum number of messages of one client that wait for their report. When
	// it is reached, the hub stops reading from the client. Each pending report takes up to 3
	// KiB, for 255 receivers, which is not part of MaxQueuedBytes. Default: 1,024.
	MaxReports int

	// MaxWatchers is the maximum number of presence watchers. The hub writes each change to each
	// watcher, up to ten times a second, beginning with 8 bytes for each connected client. The
	// hub answers a WATCH beyond the maximum with ERROR. Default: 1,000, which limits a storm of
	// connects and disconnects to 10,000 writes a second.
	MaxWatchers int

	// Authenticate decides whether a client is accepted, and returns what the client is permitted
	// to do. The hub calls it once for each connection, when the first frame has arrived, and when
	// a v2 client renews its token, at most once a second for each session. An error rejects the
	// client, or leaves it its Permissions if it renews its token. An error that wraps ErrExpired
	// asks the client to reconnect with newer credentials; any other error tells it not to
	// reconnect. A v2 client receives the text of the error, and the hub logs it. Authenticate is
	// called concurrently, in one goroutine for each connection. It can block, but no longer than
	// HandshakeTimeout. Meanwhile the hub does not read the client; a renewal fails after the least
	// of HandshakeTimeout, half of StallTimeout, and KeepAlive. Default: each client is accepted
	// and can do everything.
	Authenticate func(AuthRequest) (*Permissions, error)

	// DisableV1 rejects clients that use version 1 of the protocol.
	DisableV1 bool

	// MessageRate and ByteRate limit how many messages and bytes a client can send per second, on
	// average, with bursts of up to one second's worth. The hub reads from a faster client more
	// slowly, and TCP slows the client down. Each frame is a message, except ACK and PONG, which
	// the hub can have asked for. Connections with the same Permissions.Subject share one limit.
	// A connection without a subject has its own limit. A later connection from the same address
	// continues with what a closed connection has left or owes. Default: no limit.
	MessageRate, ByteRate float64

	// OnLatency receives the latency of deliveries: the time from when the hub has read a message
	// until it has written the message to the receiver's socket. The hub samples one read in 256
	// and calls OnLatency for each delivery that results from that read. OnLatency can be called
	// concurrently and must not block. Default: no latency is measured.
	OnLatency func(time.Duration)

	// OnTrace receives the traces of randomly sampled messages, one message in TraceSampleRate.
	// The hub calls it once for each sampled message: when the fate for its last receiver is
	// decided (written, or not deliverable), or after ReportTimeout. OnTrace can keep the Trace,
	// and returns false if it drops it. OnTrace can be called concurrently and must not block.
	// Open traces have at most 32,768 receivers in total, which takes 1 MiB beside
	// MaxQueuedBytes; further messages are not traced. Stats.TracesDropped counts both kinds of
	// drops. Default: no message is traced.
	OnTrace func(Trace) bool

	// TraceSampleRate is the average number of messages for each traced message. 1 traces every
	// message. Default: 1,000.
	TraceSampleRate int

	// Cluster makes the hub a member of a cluster: its clients can send to those of all other hubs
	// of the cluster, and see them in lists. The ids that the hub assigns begin with its number
	// there. Each other hub costs 4 MiB beside MaxQueuedBytes, or twice MaxBody if that is more, and
	// each of its clients 50 bytes. The hub leaves the cluster at Shutdown, and does not close what
	// Cluster consists of. Hub.JoinCluster does the same later. Default: the hub is alone.
	Cluster Cluster

	// Name, Address and Software describe the hub to the operators of its cluster: a name, the
	// address at which clients reach it, and its version. Each has at most 255 bytes. Default:
	// empty.
	Name, Address, Software string

	// Logger receives one line for each event. Clients and the accept loop wait for its handler,
	// which should not block. Default: nothing is logged.
	Logger *slog.Logger

	now func() time.Time // the wall clock; tests replace it
}

// Defaults of the fields of Config.
const (
	DefaultMaxQueuedBytes   = 48 << 20
	DefaultMaxClients       = 100_000
	DefaultOutboxBytes      = 512 << 10
	DefaultStallTimeout     = 10 * time.Second
	DefaultFrameTimeout     = 30 * time.Second
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultMinRate          = 64 << 10
	DefaultKeepAlive        = 15 * time.Second
	DefaultResumeWindow     = 30 * time.Second
	DefaultReportTimeout    = time.Minute
	DefaultMaxReportTimeout = time.Hour
	DefaultCredit           = 128 << 10
	DefaultClusterCredit    = 256 << 10 // of a hub with Config.Cluster
	DefaultWindow           = 8 << 20
	DefaultMaxReports       = 1024
	DefaultTraceSampleRate  = 1000
	DefaultMaxWatchers      = 1000
)

// Validate returns the error that New would return for the configuration. The error names the
// field, its value and the permitted range.
func (c Config) Validate() error {
	_, err := c.withDefaults()
	return err
}

// withDefaults returns the configuration with every field set, or an error that names the
// field, its value and the permitted range.
func (c Config) withDefaults() (Config, error) {
	setDefault(&c.MaxBody, wire.DefaultMaxBody)
	setDefault(&c.MaxQueuedBytes, DefaultMaxQueuedBytes)
	setDefault(&c.MaxClients, DefaultMaxClients)
	setDefault(&c.OutboxBytes, DefaultOutboxBytes)
	setDefault(&c.StallTimeout, DefaultStallTimeout)
	setDefault(&c.FrameTimeout, DefaultFrameTimeout)
	setDefault(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	setDefault(&c.MinRate, DefaultMinRate)
	setDefault(&c.KeepAlive, DefaultKeepAlive)
	setDefault(&c.ResumeWindow, DefaultResumeWindow)
	setDefault(&c.ReportTimeout, DefaultReportTimeout)
	setDefault(&c.MaxReportTimeout, max(DefaultMaxReportTimeout, c.ReportTimeout))
	if c.Cluster != nil {
		setDefault(&c.Credit, DefaultClusterCredit)
	}
	setDefault(&c.Credit, DefaultCredit)
	setDefault(&c.Window, DefaultWindow)
	setDefault(&c.MaxReports, DefaultMaxReports)
	setDefault(&c.TraceSampleRate, DefaultTraceSampleRate)
	setDefault(&c.MaxWatchers, DefaultMaxWatchers)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	if err := checkRange("MaxBody", c.MaxBody, 1, wire.MaxBodyLimit); err != nil {
		return c, err
	}
	return c, firstError(
		checkRange("MaxQueuedBytes", c.MaxQueuedBytes, MinQueuedBytes(c.MaxBody), 1<<50),
		checkMaxClients(c.MaxClients),
		checkRange("MaxPerAddress", c.MaxPerAddress, 0, 1<<30),
		checkRange("ConnectRate", c.ConnectRate, 0, 1e9),
		checkRange("OutboxBytes", c.OutboxBytes, 4<<10, 1<<30),
		checkRange("StallTimeout", c.StallTimeout, time.Millisecond, 24*time.Hour),
		checkRange("HandshakeTimeout", c.HandshakeTimeout, time.Millisecond, 24*time.Hour),
		checkRange("FrameTimeout", c.FrameTimeout, time.Millisecond, 24*time.Hour),
		checkRange("MinRate", c.MinRate, 1, 1<<30),
		checkRange("KeepAlive", c.KeepAlive, 10*time.Millisecond, time.Hour),
		checkRange("ResumeWindow", c.ResumeWindow, time.Millisecond, 24*time.Hour),
		checkRange("ReportTimeout", c.ReportTimeout, time.Millisecond, 24*time.Hour),
		checkRange("MaxReportTimeout", c.MaxReportTimeout, c.ReportTimeout, 24*time.Hour),
		checkRange("MessageRate", c.MessageRate, 0, 1e12),
		checkRange("ByteRate", c.ByteRate, 0, 1e15),
		checkRange("Credit", c.Credit, 4<<10, 1<<30),
		checkRange("Window", c.Window, 4<<10, 1<<30),
		checkRange("MaxReports", c.MaxReports, 1, 1<<20),
		checkRange("TraceSampleRate", c.TraceSampleRate, 1, 1<<30),
		checkRange("MaxWatchers", c.MaxWatchers, 1, 1<<30),
		checkRange("length of Name", len(c.Name), 0, 255),
		checkRange("length of Address", len(c.Address), 0, 255),
		checkRange("length of Software", len(c.Software), 0, 255),
	)
}

// MinQueuedBytes returns the minimum of Config.MaxQueuedBytes for bodies of up to maxBody
// bytes: the memory of four such bodies on their way to the hub, and at least 1 MiB.
func MinQueuedBytes(maxBody int) int64 { return max(1<<20, 4*int64(wire.MaxRequestLength(maxBody))) }

func checkMaxClients(maxClients int) error { return checkRange("MaxClients", maxClients, 1, 1<<30) }

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func checkRange[T int | int64 | float64 | time.Duration](name string, value, minValue, maxValue T) error {
	if value < minValue || value > maxValue {
		return fmt.Errorf("hub: %s is %v, must be from %v to %v", name, value, minValue, maxValue)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
