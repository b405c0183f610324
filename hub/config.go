package hub

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// Config says how a hub behaves. The zero value of each field means its default.
type Config struct {
	// MaxBody is the largest body of a relay in bytes, at most wire.MaxBodyLimit.
	// Default: 1 MiB. A client that sends more is disconnected.
	MaxBody int

	// MaxQueuedBytes bounds the memory of everything that the hub holds for its clients: bodies in
	// queues, and frames that are being read. An eighth of it is set aside for reading. On Linux,
	// without TLS, a message above 64 KiB waits in the kernel until all of it has come, and counts
	// from then on. Default: 48 MiB; at least 1 MiB and four times the largest relay. What cannot
	// wait comes on top: reports, and a few words of the hub's own, up to 4 KiB for each client
	// that is busy in this moment. A hub with clients of both versions may hold up to twice the
	// bodies. On top come about 5 KiB for each connection and 3 KiB of its messages, and up to 30
	// KiB for one that waits for memory or for 255 receivers with full queues. A client of version
	// 2 may have more such messages, each sent by itself: up to six times Credit, until
	// StallTimeout ends that. Then comes what the Go runtime keeps: set a memory limit for the
	// process (runtime/debug.SetMemoryLimit) where that counts.
	MaxQueuedBytes int64

	// MaxClients is how many clients there may be, those included whose connection is lost and who
	// may come back. A further connection is refused, unless it resumes the session of one of them:
	// to find out, up to 64 connections more may be open, for at most 3 s each.
	// Default: 100,000. Hub.SetMaxClients changes it later.
	MaxClients int

	// MaxPerAddress is how many of them may come from one address, and ConnectRate how many
	// connections from it are accepted in a second, on average and with one second's worth at
	// once. Of IPv6 the first 64 bits are an address. Clients who are expected back do not count, but
	// with them there are no more than twice as many, and up to 16 connections more may be open
	// for a HELLO that resumes one of them. Default: any number, as fast as they come.
	MaxPerAddress int
	ConnectRate   float64

	// OutboxBytes is how much may wait for one client before its senders have to
	// wait; one frame more may be in it. Default: 512 KiB, at least 4 KiB.
	OutboxBytes int

	// StallTimeout is how long a client for which others wait may go without taking
	// one frame or 64 KiB. Then it is disconnected. Default: 10 s.
	StallTimeout time.Duration

	// HandshakeTimeout is how long a connection that is TLS may take for its handshake, and
	// then, with Admit or DisableV1, for its first frame. Default: 10 s.
	HandshakeTimeout time.Duration

	// FrameTimeout is how long the rest of a frame may take to arrive. It may take longer while it
	// brings 1 KiB a second, measured over FrameTimeout. A client that is silent between two
	// frames may be so for ever. Default: 30 s.
	FrameTimeout time.Duration

	// MinRate is how many bytes a second a client must bring or take while it holds
	// memory that others wait for, measured over StallTimeout.
	// Default: 64 KiB.
	MinRate int

	// KeepAlive is how often the hub sends something to a client of version 2, and
	// expects to hear something. After two such intervals without a word the
	// connection is given up. Default: 15 s.
	KeepAlive time.Duration

	// ResumeWindow is how long a client of version 2 whose connection was lost may come
	// back: for so long its id, and what it has not had, are kept. Default: 30 s.
	ResumeWindow time.Duration

	// ReportTimeout is how long a report may wait for the last of its fates, if the message
	// names no other time and has no shorter one to live. Default: 1 minute.
	ReportTimeout time.Duration

	// MaxReportTimeout is the longest time that a message may name for that; one that names
	// more is reported after it. Meanwhile its report counts for MaxReports. Default: 1 hour, or
	// ReportTimeout if that is more; at least ReportTimeout.
	MaxReportTimeout time.Duration

	// Credit is what a client of version 2 may send before the hub has found room for it in the
	// queues of its receivers, in bytes: that of its messages, and 16 for each of their
	// receivers. It bounds what a client can send over a long way to Credit for each round
	// trip; the less it is, the more of what is under way is in the processor's cache
	// (docs/decisions/0006). Default: 128 KiB.
	Credit int

	// Window is how much of what was written to a client of version 2 may wait for it to say that it
	// was received, in bytes; then nothing more is written. A client says so at half of it, so
	// the more it is, the fewer acknowledgements there are, the faster one
	// client can be sent to over a long way (half of it for each round trip), and the more lies in the memory of one that
	// does not keep up, and is old when it gets there. For as long it is held here, within MaxQueuedBytes; when that
	// is short, clients are asked for acknowledgements. Default: 8 MiB (docs/decisions/0006).
	Window int

	// MaxReports is how many messages of one client may wait for their report before it
	// is not read any more. Each takes up to 3 KiB beside MaxQueuedBytes, for 255
	// receivers. Default: 1,024.
	MaxReports int

	// MaxWatchers is how many clients may ask at once to be told who comes and goes; what
	// any of those does is written to each of them, up to ten times a second, beginning with 8
	// bytes for each client that is there. One more is answered by ERROR. Default: 1,000, so
	// that clients who come and go in a storm cost no more than 10,000 writes a second.
	MaxWatchers int

	// Authenticate says who may come in, and what that client may do: for each connection, when its
	// first frame has come. An error refuses it, for good or until it has something newer to show
	// (ErrExpired); its text is told to a client of version 2, and logged. It is called concurrently,
	// by the goroutine of the connection, and may wait, but no longer than HandshakeTimeout. Default: everybody may do everything.
	Authenticate func(AuthRequest) (*Permissions, error)

	// DisableV1 says that version 1 of the protocol is not spoken.
	DisableV1 bool

	// MessageRate and ByteRate are how many messages and bytes a client may send in a second, on
	// average and with one second's worth at once. One that is faster is read more slowly: TCP
	// slows it down. A message is any frame but TAKEN and PONG, for which the hub may have asked.
	// Connections of one Permissions.Subject share them. Without a subject each connection has its own,
	// and one that comes later from an address goes on with what one that has ended there has left
	// or owes. Default: as fast as it can.
	MessageRate, ByteRate float64

	// OnLatency is told how long deliveries took: from when the hub has read the message until
	// the receiver's socket has taken it. It hears of one read in 256, each of the
	// deliveries to which that leads. It may be called concurrently and must not
	// block. Default: nothing is timed.
	OnLatency func(time.Duration)

	// OnTrace is told what became of messages that are drawn by lot, one in TraceSampleRate: once for
	// each, when it is written to its last receiver, or clear that it will not be, or after
	// ReportTimeout. It may keep the Trace, and returns false if it could not take it. It may
	// be called concurrently and must not block. Traces of 32,768 receivers may be open at
	// once, which takes 1 MiB beside MaxQueuedBytes; messages beyond that are not traced.
	// Stats.TracesDropped counts both. Default: nothing is traced.
	OnTrace func(Trace) bool

	// TraceSampleRate is of how many messages one is traced, on average. Default: 1,000. 1 is
	// every message.
	TraceSampleRate int

	// Logger gets one line for each event. Clients and the accept loop wait for its handler, so that it
	// should not block. Default: none are written.
	Logger *slog.Logger

	now func() time.Time // the wall clock; tests set another
}

// The defaults of Config.
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
	DefaultWindow           = 8 << 20
	DefaultMaxReports       = 1024
	DefaultTraceSampleRate  = 1000
	DefaultMaxWatchers      = 1000
)

// Validate returns the error that New would return for the configuration: one that
// names the field, its value and what is allowed.
func (c Config) Validate() error {
	_, err := c.withDefaults()
	return err
}

// withDefaults returns the configuration with every field set, or an error that
// names the field, its value and what is allowed.
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
	)
}

// MinQueuedBytes returns the least that Config.MaxQueuedBytes may be for bodies of up to maxBody bytes: the
// memory of four of them on their way to the hub, and 1 MiB in any case.
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
