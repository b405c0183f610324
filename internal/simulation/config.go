// Package simulation puts a hub under load and checks what becomes of it: a
// number of clients connect, every one of them sends its message to all the
// others, and every receiver verifies what arrives. Plan says what is about to
// move, Run moves it, Report says how it went.
//
// It stands outside, at both ends of the way of a message, and knows the hub
// only as an address: it can be pointed at any hub that speaks the protocol. It
// does not start a hub, read flags, install signal handlers or decide exit
// codes; that is the business of internal/command.
package simulation

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
)

// The ranges of the system's description.
const (
	MaxSize    = 1_024_000 // bytes of a body
	MaxClients = 255

	// MaxMessages is what the u32 in a body can number, where an int can hold that.
	MaxMessages = min(math.MaxUint32, math.MaxInt)

	// MaxReconnects is how often a connection can be broken in a run.
	MaxReconnects = 10_000
)

// DefaultTimeout is how long a run may go without any progress.
const DefaultTimeout = 30 * time.Second

// Config says what to simulate. Size, Clients, Messages and Interval mean what
// they say even when they are 0.
type Config struct {
	Addr     string                                // the hub, host:port
	TLS      *tls.Config                           // how to speak TLS with it; nil: not at all
	Token    func(context.Context) (string, error) // who the clients are: see client.Options; version 2 only
	Size     int                                   // bytes of a body, 0 to MaxSize
	Clients  int                                   // how many connect, 0 to MaxClients
	Messages int                                   // how often each client sends to all the others, 0 to MaxMessages
	Interval time.Duration                         // between two sends of one client, see Run; 0 is as fast as the hub takes them
	Verify   VerifyMode                            // how closely receivers look; the zero value is VerifyFull

	Protocol    int   // version of the protocol, 1 or 2; 0 means 1
	ReportLevel Level // how far each message must come before it is reported; version 2 only
	Reconnects  int   // how often each connection is broken on the way, 0 to MaxReconnects; version 2 only

	// Timeout bounds each connect, and the time in which neither a send is
	// accepted nor a delivery received. 0 means DefaultTimeout.
	Timeout time.Duration

	ShowStats  bool         // show progress and final statistics; problems are shown in any case
	Out        io.Writer    // for the plan and the bars; nil discards
	IsTerminal bool         // draw bars on Out; otherwise log one line a second
	Logger     *slog.Logger // nil discards
}

// Validate returns an error that names each setting out of range by its flag,
// with its value and what is allowed.
func (c Config) Validate() error {
	return errors.Join(
		checkAddr(c.Addr),
		checkRange("size", "bytes", c.Size, MaxSize),
		checkRange("ncli", "clients", c.Clients, MaxClients),
		checkRange("nmex", "messages", c.Messages, MaxMessages),
		checkNotNegative("i", c.Interval),
		checkNotNegative("timeout", c.Timeout),
		c.Verify.check(),
		checkRange("reconnect", "times", c.Reconnects, MaxReconnects),
		c.ReportLevel.check(),
		c.checkProtocol(),
	)
}

func (c Config) checkProtocol() error {
	switch {
	case c.Protocol < 0 || c.Protocol > 2:
		return fmt.Errorf("-protocol=%d: allowed are 1 and 2", c.Protocol)
	case c.Protocol != 2 && c.Token != nil:
		return errors.New("-token and -token-file: a token takes -protocol=2")
	case c.Protocol != 2 && c.ReportLevel != LevelNone:
		return fmt.Errorf("-report=%v: reports take -protocol=2", c.ReportLevel)
	case c.Protocol != 2 && c.Reconnects > 0:
		return fmt.Errorf("-reconnect=%d: to come back takes -protocol=2", c.Reconnects)
	}
	return nil
}

func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("-addr and -port make %q: allowed is host:port: %w", addr, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("-port=%s: allowed are 1 to 65535", port)
	}
	return nil
}

func checkRange(flag, unit string, value, maxValue int) error {
	if value < 0 || value > maxValue {
		return fmt.Errorf("-%s=%d: allowed are 0 to %s %s", flag, value, humanize.Comma(int64(maxValue)), unit)
	}
	return nil
}

func checkNotNegative(flag string, value time.Duration) error {
	if value < 0 {
		return fmt.Errorf("-%s=%v: allowed is 0 or more", flag, value)
	}
	return nil
}

// withDefaults fills in what was left out.
func (c Config) withDefaults() Config {
	if c.Protocol == 0 {
		c.Protocol = 1
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Out == nil {
		c.Out = io.Discard
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
