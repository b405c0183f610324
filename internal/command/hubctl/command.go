package hubctl

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/connect"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	program   = "hubctl"
	envPrefix = "HUBCTL" // prefix of its environment variables
)

// connectTimeout is the default time limit for the connection and the handshake. A hub answers
// at once unless it is overloaded or far away.
const connectTimeout = 10 * time.Second

// hubCommand is the configuration common to the subcommands of hubctl that talk to a hub.
type hubCommand struct {
	settings   *settings.Settings
	remote     connect.Flags
	jsonOutput bool
	timeout    time.Duration
	maxBody    int64          // in bytes, for send and listen; 0: limit of the hub
	tlsConfig  *tls.Config    // set by run; nil: no TLS
	client     *client.Client // set by dial
}

// newSettings returns the settings of the subcommand name, still without any setting.
func newSettings(name, about string) *settings.Settings {
	return settings.New(program+" "+name, envPrefix, about)
}

// emitWarnings logs the warnings of s with -log=json, and otherwise prints them as sentences.
func emitWarnings(s *settings.Settings, w io.Writer) {
	if s.LogFormat == settings.LogJSON {
		s.Warnings.LogTo(s.Logger(w, slog.LevelWarn))
	} else {
		s.Warnings.PrintTo(w, s.Program)
	}
}

func newHubCommand(name, about string) *hubCommand {
	c := &hubCommand{settings: newSettings(name, about)}
	c.remote.AddTo(c.settings)
	return c
}

// addCommonFlags adds the settings that all these subcommands have, at the end of the usage.
// timeout and usage are the default and the help text of -timeout.
func (c *hubCommand) addCommonFlags(timeout time.Duration, usage string) {
	settings.Add(c.settings, &c.timeout, "timeout", timeout, settings.Duration(time.Millisecond, 24*time.Hour), usage)
	settings.Add(c.settings, &c.jsonOutput, "json", false, settings.Boolean(), "print one JSON object per line")
	c.settings.AddCommonFlags()
}

// timeoutUsage is the help text of -timeout for subcommands that wait only for the hub.
const timeoutUsage = "time limit for the connection, and for each answer"

// idNotes explains ids in JSON. They are strings because programs that read JSON numbers as
// floating point lose the last digits of ids above 2⁵³.
const idNotes = "\nIds and message numbers are decimal strings."

// run runs work until the first signal and returns the exit code. It does not log the signal,
// because the sender of the signal knows about it.
func (c *hubCommand) run(p command.Process, work func(stopCtx context.Context) (int, error)) int {
	var err error
	if c.tlsConfig, err = c.remote.TLSConfig(); err != nil {
		return p.UsageError(c.settings, err)
	}
	return c.supervise(p, work)
}

// supervise is run without a connection to a hub.
func (c *hubCommand) supervise(p command.Process, work func(stopCtx context.Context) (int, error)) int {
	emitWarnings(c.settings, p.Stderr)
	logger := c.settings.Logger(p.Stderr, slog.LevelWarn)
	return p.Supervise(logger, func(stopCtx, _ context.Context) int {
		code, err := work(stopCtx)
		switch {
		case errors.Is(err, command.ErrOutputClosed): // as "| head -1" does
			return command.ExitPipe
		case err != nil:
			c.printError(p, err)
		}
		return code
	})
}

// printError prints err to standard error: as a log line with -log=json, otherwise as a
// sentence.
func (c *hubCommand) printError(p command.Process, err error) {
	if c.settings.LogFormat == settings.LogJSON {
		settings.NewLogger(p.Stderr, settings.LogJSON, slog.LevelInfo).Error(err.Error())
		return
	}
	fmt.Fprintf(p.Stderr, "%s: %v\n", c.settings.Program, err)
}

// printResult prints result: as a JSON object with -json, otherwise as text.
func (c *hubCommand) printResult(w io.Writer, result fmt.Stringer) error {
	var err error
	if c.jsonOutput {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(result)
	} else {
		_, err = fmt.Fprintln(w, result)
	}
	if err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	return nil
}

// hubAddr returns the address of the connected hub as shown to users.
func (c *hubCommand) hubAddr() string {
	if c.client == nil {
		return c.remote.String()
	}
	return c.client.Addr()
}

// rejectAll rejects a message of a client that does not listen. An unread message would delay
// the report of the hub and finally block its sender.
func rejectAll(m client.Message) { m.Nak() }

var errInterrupted = errors.New("interrupted")

// dial connects to the hub. Its errors are sentences for users.
func (c *hubCommand) dial(stopCtx context.Context, timeout time.Duration, options client.Options) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(stopCtx, timeout)
	defer cancel()
	options.TLS, options.GetToken = c.tlsConfig, c.remote.GetToken()
	options.Name = c.settings.Program
	options.MaxBody = int(c.maxBody)
	conn, err := client.Dial(ctx, c.remote.String(), &options)
	if err == nil {
		c.client = conn
		return conn, nil
	}
	if stopCtx.Err() != nil {
		return nil, errInterrupted
	}
	return nil, c.explainDialError(err, timeout)
}

// explainDialError returns an error that says why there is no connection and what to do about
// that. timeout is the time limit of the connection, or 0 if the client library has chosen the
// limit.
func (c *hubCommand) explainDialError(err error, timeout time.Duration) error {
	var failed *client.DialError
	var at *client.AddressError
	switch {
	case errors.As(err, &failed):
		text := "no hub of these accepts the connection:"
		for _, attempt := range failed.Attempts {
			text += fmt.Sprintf("\n  %v", c.explainAttempt(attempt.Addr, attempt.Err, 0))
		}
		return errors.New(text)
	case errors.As(err, &at):
		return c.explainAttempt(at.Addr, at.Err, timeout)
	}
	return c.explainAttempt(c.remote.String(), err, timeout)
}

// explainAttempt is explainDialError for an attempt to connect to addr.
func (c *hubCommand) explainAttempt(addr string, err error, timeout time.Duration) error {
	var dialErr *net.OpError
	var dnsErr *net.DNSError
	var errno syscall.Errno
	var goAway *client.GoAwayError
	if explanation := connect.ExplainTLSError(err); explanation != "" {
		return fmt.Errorf("no connection to the hub at %s: %s", addr, explanation)
	}
	switch {
	case errors.As(err, &dnsErr):
		return fmt.Errorf("no hub at %s: %w; -addr must name the host of the hub", addr, dnsErr)
	case errors.As(err, &dialErr) && dialErr.Op == "dial":
		reason := dialErr.Err
		if errors.As(err, &errno) {
			reason = errno
		}
		return fmt.Errorf("no hub at %s: %w; start one with start_server, or name another with -addr and -port", addr, reason)
	case errors.Is(err, context.DeadlineExceeded) && timeout == 0:
		return fmt.Errorf("no hub at %s: the connection was accepted, but the handshake got no answer in time", addr)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no hub at %s: the connection was accepted, but the handshake got no answer for %s", addr, settings.FormatDuration(timeout))
	case errors.As(err, &goAway) && (goAway.Code == wire.GoAwayRefused || goAway.Code == wire.GoAwayExpired):
		return fmt.Errorf("the hub at %s rejected this client: %s%s", addr, goAway.Reason, c.remote.CredentialsHint())
	case errors.As(err, &goAway):
		return fmt.Errorf("the hub at %s accepts no connections: %s", addr, goAway.Reason)
	case errors.Is(err, client.ErrHubClosed), errors.Is(err, client.ErrConnectionLost):
		return fmt.Errorf("the server at %s closed the connection at once: %s, or not a hub", addr, c.likelyCauses())
	case errors.Is(err, client.ErrWatchForbidden):
		return fmt.Errorf("the hub at %s does not allow this client to watch: its token or certificate forbids it", addr)
	case errors.Is(err, client.ErrProtocol):
		return fmt.Errorf("the server at %s does not speak the hub protocol: check -port", addr)
	}
	return err
}

// likelyCauses returns the conditions under which a hub closes a connection at once.
func (c *hubCommand) likelyCauses() string {
	if c.remote.UsesTLS() {
		return "a hub that is full (-max-clients) or shutting down"
	}
	return "a hub that is full (-max-clients), is shutting down, or requires TLS (-addr=" + connect.TLSScheme + "…)"
}

// explainError returns an error that says why a request to a connected hub failed.
func (c *hubCommand) explainError(stopCtx context.Context, err error) error {
	var goAway *client.GoAwayError
	switch {
	case stopCtx.Err() != nil:
		return errInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the hub at %s did not answer within %s; increase -timeout", c.hubAddr(), settings.FormatDuration(c.timeout))
	case errors.Is(err, client.ErrVersion):
		return fmt.Errorf("the hub at %s speaks version 1 of the protocol, and this needs version 2", c.hubAddr())
	case errors.Is(err, client.ErrTooManyWatchers):
		return fmt.Errorf("the hub at %s has reached its maximum number of watchers: try again later, or raise its -max-watchers", c.hubAddr())
	case errors.Is(err, client.ErrProtocol):
		return fmt.Errorf("the hub at %s sent an invalid frame: %w", c.hubAddr(), err)
	case errors.As(err, &goAway):
		return fmt.Errorf("the hub at %s closed the connection: %s", c.hubAddr(), goAway.Reason)
	case errors.Is(err, client.ErrHubClosed), errors.Is(err, client.ErrConnectionLost):
		return fmt.Errorf("the connection to the hub at %s is lost", c.hubAddr())
	}
	return err
}

// pluralize returns n and the noun, in the plural unless n is 1.
func pluralize(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

func formatID(id uint64) string { return strconv.FormatUint(id, 10) }
