// Package simulation puts a hub under load and verifies what the hub delivers. A number of
// clients connect, each client sends its messages to all other clients, and each receiver
// checks what arrives. Config.Plan computes what a run moves, Run moves it, and Report
// describes the result.
//
// The package is at both ends of the path of a message and knows the hub only by its address.
// It can test any hub that speaks the protocol. It does not start a hub, read flags, install
// signal handlers or choose exit codes; internal/command/simulation does.
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
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// The limits of the system's specification.
const (
	MaxSize    = 1_024_000 // bytes of a body
	MaxClients = 255

	// MaxMessages is the largest count that the u32 message number in a body can represent,
	// limited by the size of an int.
	MaxMessages = min(math.MaxUint32, math.MaxInt)

	// MaxReconnects is the maximum number of times that each connection is broken in a run.
	MaxReconnects = 10_000
)

// DefaultTimeout is the default of Config.Timeout.
const DefaultTimeout = 30 * time.Second

// Config is the configuration of a run. For Size, Clients, Messages and Interval, 0 is an
// ordinary value and does not select a default.
type Config struct {
	// Addr is the address of the hub, host:port, or those of several hubs, separated by commas. The
	// clients spread over them evenly: see Run.
	Addr string
	TLS  *tls.Config // nil: connect without TLS
	// Token returns the token that authenticates the clients, see client.Options.GetToken.
	// Version 2 only.
	Token   func(context.Context) (string, error)
	Size    int // bytes of a body, 0 to MaxSize
	Clients int // number of clients, 0 to MaxClients
	// Messages is the number of messages that each client sends to all other clients, 0 to
	// MaxMessages.
	Messages int
	// Interval is the time between two sends of one client, see Run. With 0, clients send as fast
	// as the hub accepts messages.
	Interval time.Duration
	Verify   VerifyMode // how thoroughly receivers check bodies; the zero value is VerifyFull

	Protocol int // protocol version, 1 or 2; 0 means 1
	// ReportLevel is the level at which the hub reports each message. Version 2 only.
	ReportLevel Level
	// Reconnects is the number of times that each connection is broken during the run, 0 to
	// MaxReconnects. Version 2 only.
	Reconnects int

	// Timeout is the maximum duration of each connect, and of a period in which the hub neither
	// accepts a send nor delivers a message. 0 means DefaultTimeout.
	Timeout time.Duration

	// ShowStats enables progress and final statistics. Problems are always shown.
	ShowStats  bool
	Out        io.Writer    // receives the plan and the progress bars; nil discards them
	IsTerminal bool         // draw progress bars on Out; otherwise log one line a second
	Logger     *slog.Logger // nil discards
}

// Validate returns an error for all settings out of range. It names each by its flag, with the
// value and the allowed range.
func (c Config) Validate() error {
	return errors.Join(
		c.checkAddrs(),
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
		return errors.New("-token and -token-file require -protocol=2")
	case c.Protocol != 2 && c.ReportLevel != LevelNone:
		return fmt.Errorf("-report=%v requires -protocol=2", c.ReportLevel)
	case c.Protocol != 2 && c.Reconnects > 0:
		return fmt.Errorf("-reconnect=%d requires -protocol=2", c.Reconnects)
	}
	return nil
}

// addrs returns all addresses.
func (c Config) addrs() []string { return strings.Split(c.Addr, ",") }

// addrsOf returns the addresses in the order in which client i tries them. Client i begins with
// address i mod n. The clients of one address spread evenly over the others when its hub is gone.
func (c Config) addrsOf(i int) []string {
	addrs := c.addrs()
	n := len(addrs)
	first := addrs[i%n : i%n+1]
	others := slices.Concat(addrs[i%n+1:], addrs[:i%n])
	if n == 1 {
		return first
	}
	shift := i / n % len(others)
	return slices.Concat(first, others[shift:], others[:shift])
}

func (c Config) checkAddrs() error {
	var errs []error
	for _, addr := range c.addrs() {
		errs = append(errs, checkAddr(addr))
	}
	return errors.Join(errs...)
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

// withDefaults returns c with defaults in place of unset fields.
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
