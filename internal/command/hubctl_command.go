package command

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
	"github.com/sechlol/go-message-hub/wire"
)

// connectTimeout is how long a hub may take to let somebody in: it answers at once
// unless it is overloaded or far away.
const connectTimeout = 10 * time.Second

// hubCommand is the configuration that the subcommands of hubctl share which speak to
// a hub.
type hubCommand struct {
	settings   *settings
	remote     hubFlags
	jsonOutput bool
	timeout    time.Duration
	maxBody    int64       // of those who send or receive; 0: what the hub allows
	tlsConfig  *tls.Config // set by run; nil: without TLS
}

func newHubCommand(name, about string) *hubCommand {
	c := &hubCommand{settings: newSettings(hubctl+" "+name, hubctlPrefix, about)}
	c.remote.addFlags(c.settings)
	return c
}

// addCommonFlags adds what every subcommand has, at the end of the usage.
func (c *hubCommand) addCommonFlags(timeout time.Duration, usage string) {
	addSetting(c.settings, &c.timeout, "timeout", timeout, duration(time.Millisecond, 24*time.Hour), usage)
	addSetting(c.settings, &c.jsonOutput, "json", false, boolean(), "print one JSON object per line")
	c.settings.addCommonFlags()
}

// timeoutUsage is that of subcommands that wait for nothing but the hub.
const timeoutUsage = "how long the hub may take for the connection, and for an answer"

// idNotes explain the results as JSON. Programs that read JSON numbers as floating
// point lose the end of an id above 2⁵³.
const idNotes = "\nIds and numbers of messages are text in decimal."

// run does work until the first signal, and returns the exit code. A signal is no
// event worth a line: whoever sent it knows.
func (c *hubCommand) run(p Process, work func(stopCtx context.Context) (int, error)) int {
	var err error
	if c.tlsConfig, err = c.remote.tlsConfig(); err != nil {
		return c.settings.printUsageError(p, err)
	}
	c.settings.emitWarnings(p.Stderr)
	logger := c.settings.logger(p.Stderr, slog.LevelWarn)
	return p.supervise(logger, func(stopCtx, _ context.Context) int {
		code, err := work(stopCtx)
		switch {
		case errors.Is(err, errOutputClosed): // as "| head -1" does
			return ExitPipe
		case err != nil:
			c.printError(p, err)
		}
		return code
	})
}

// printError says what did not go well: a sentence for people, unless they
// have asked for JSON.
func (c *hubCommand) printError(p Process, err error) {
	if c.settings.logFormat == logJSON {
		newLogger(p.Stderr, logJSON, slog.LevelInfo).Error(err.Error())
		return
	}
	fmt.Fprintf(p.Stderr, "%s: %v\n", c.settings.program, err)
}

// printResult prints a result: its text for people, or its fields for programs.
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

// hubAddr returns the address of the hub.
func (c *hubCommand) hubAddr() string { return c.remote.String() }

// rejectAll takes the messages of a client that does not listen. Unread they would keep back what the
// hub reports, and in the end those who send them.
func rejectAll(m client.Message) { m.Nak() }

var errInterrupted = errors.New("interrupted")

// dial connects to the hub. Its errors can be shown to people.
func (c *hubCommand) dial(stopCtx context.Context, timeout time.Duration, options client.Options) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(stopCtx, timeout)
	defer cancel()
	options.TLS, options.GetToken = c.tlsConfig, c.remote.token.tokenFunc()
	options.Name = c.settings.program
	options.MaxBody = int(c.maxBody)
	conn, err := client.Dial(ctx, c.remote.hostPort(), &options)
	if err == nil {
		return conn, nil
	}
	if stopCtx.Err() != nil {
		return nil, errInterrupted
	}
	return nil, c.explainDialError(err, timeout)
}

// explainDialError says why there is no connection, and what to do about it. patience is how long it was
// waited for; 0: the client knows.
func (c *hubCommand) explainDialError(err error, timeout time.Duration) error {
	var dialErr *net.OpError
	var dnsErr *net.DNSError
	var errno syscall.Errno
	var goAway *client.GoAwayError
	if explanation := explainTLSError(err); explanation != "" {
		return fmt.Errorf("no connection to the hub at %s: %s", c.hubAddr(), explanation)
	}
	switch {
	case errors.As(err, &dnsErr):
		return fmt.Errorf("no hub at %s: %w; -addr must name the host of the hub", c.hubAddr(), dnsErr)
	case errors.As(err, &dialErr) && dialErr.Op == "dial":
		reason := dialErr.Err
		if errors.As(err, &errno) {
			reason = errno
		}
		return fmt.Errorf("no hub at %s: %w; start one with start_server, or name another with -addr and -port", c.hubAddr(), reason)
	case errors.Is(err, context.DeadlineExceeded) && timeout == 0:
		return fmt.Errorf("no hub at %s: something takes the connection, and says nothing in time", c.hubAddr())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no hub at %s: something took the connection, and said nothing for %s", c.hubAddr(), formatDuration(timeout))
	case errors.As(err, &goAway) && (goAway.Code == wire.GoAwayRefused || goAway.Code == wire.GoAwayExpired):
		return fmt.Errorf("the hub at %s does not let this client in: %s%s", c.hubAddr(), goAway.Reason, c.remote.credentialsHint())
	case errors.As(err, &goAway):
		return fmt.Errorf("the hub at %s lets nobody in: %s", c.hubAddr(), goAway.Reason)
	case errors.Is(err, client.ErrHubClosed), errors.Is(err, client.ErrConnectionLost):
		return fmt.Errorf("what is at %s closed the connection at once: %s, or no hub", c.hubAddr(), c.likelyCauses())
	case errors.Is(err, client.ErrWatchForbidden):
		return fmt.Errorf("the hub at %s does not let this client watch: its token or certificate does not allow it", c.hubAddr())
	case errors.Is(err, client.ErrProtocol):
		return fmt.Errorf("what is at %s does not speak like a hub: see whether -port is right", c.hubAddr())
	}
	return err
}

// likelyCauses says what may close a connection at once.
func (c *hubCommand) likelyCauses() string {
	if c.remote.usesTLS() {
		return "a hub that is full (-max-clients) or ends"
	}
	return "a hub that is full (-max-clients), ends, or wants TLS (-addr=" + tlsScheme + "…)"
}

// explainError says why a hub to which there was a connection did not do what was asked.
func (c *hubCommand) explainError(stopCtx context.Context, err error) error {
	var goAway *client.GoAwayError
	switch {
	case stopCtx.Err() != nil:
		return errInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the hub at %s gave no answer for %s; -timeout waits longer", c.hubAddr(), formatDuration(c.timeout))
	case errors.Is(err, client.ErrVersion):
		return fmt.Errorf("the hub at %s speaks version 1 of the protocol, and this needs version 2", c.hubAddr())
	case errors.Is(err, client.ErrTooManyWatchers):
		return fmt.Errorf("the hub at %s tells as many clients who comes and goes as it may: try again later, or have its -max-watchers raised", c.hubAddr())
	case errors.Is(err, client.ErrProtocol):
		return fmt.Errorf("the hub at %s said what cannot be understood: %w", c.hubAddr(), err)
	case errors.As(err, &goAway):
		return fmt.Errorf("the hub at %s has sent this client away: %s", c.hubAddr(), goAway.Reason)
	case errors.Is(err, client.ErrHubClosed), errors.Is(err, client.ErrConnectionLost):
		return fmt.Errorf("the connection to the hub at %s is lost", c.hubAddr())
	}
	return err
}

// pluralize returns n of something.
func pluralize(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

func formatID(id uint64) string { return strconv.FormatUint(id, 10) }
