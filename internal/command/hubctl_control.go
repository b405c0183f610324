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

// control is the configuration that the subcommands of hubctl share which speak to
// a hub.
type control struct {
	settings *settings
	remote   remote
	json     bool
	timeout  time.Duration
	maxBody  int64       // of those who send or receive; 0: what the hub allows
	secure   *tls.Config // set by run; nil: without TLS
}

func newControl(verb, about string) *control {
	c := &control{settings: newSettings(hubctl+" "+verb, hubctlPrefix, about)}
	c.remote.add(c.settings)
	return c
}

// addCommon adds what every subcommand has, at the end of the usage.
func (c *control) addCommon(timeout time.Duration, usage string) {
	add(c.settings, &c.timeout, "timeout", timeout, span(time.Millisecond, 24*time.Hour), usage)
	add(c.settings, &c.json, "json", false, yesNo(), "print one JSON object per line")
	c.settings.addCommon()
}

// timeoutUsage is that of subcommands that wait for nothing but the hub.
const timeoutUsage = "how long the hub may take for the connection, and for an answer"

// idNotes explain the results as JSON. Programs that read JSON numbers as floating
// point lose the end of an id above 2⁵³.
const idNotes = "\nIds and numbers of messages are text in decimal."

// run does work until the first signal, and returns the exit code. A signal is no
// event worth a line: whoever sent it knows.
func (c *control) run(p Process, work func(stop context.Context) (int, error)) int {
	var err error
	if c.secure, err = c.remote.tls(); err != nil {
		return c.settings.complain(p, err)
	}
	c.settings.tellWarnings(p.Stderr)
	logger := c.settings.logger(p.Stderr, slog.LevelWarn)
	return p.supervise(logger, func(stop, _ context.Context) int {
		code, err := work(stop)
		switch {
		case errors.Is(err, errOutputClosed): // as "| head -1" does
			return ExitPipe
		case err != nil:
			c.complain(p, err)
		}
		return code
	})
}

// complain says what did not go well: a sentence for people, unless they
// have asked for JSON.
func (c *control) complain(p Process, err error) {
	if c.settings.log == logJSON {
		newLogger(p.Stderr, logJSON, slog.LevelInfo).Error(err.Error())
		return
	}
	fmt.Fprintf(p.Stderr, "%s: %v\n", c.settings.program, err)
}

// print prints a result: its text for people, or its fields for programs.
func (c *control) print(w io.Writer, result fmt.Stringer) error {
	var err error
	if c.json {
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

// hub returns the address of the hub.
func (c *control) hub() string { return c.remote.String() }

// turnDown takes the messages of a client that does not listen. Unread they would keep back what the
// hub reports, and in the end those who send them.
func turnDown(m client.Message) { m.Reject() }

var errInterrupted = errors.New("interrupted")

// dial connects to the hub. Its errors can be shown to people.
func (c *control) dial(stop context.Context, patience time.Duration, options client.Options) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(stop, patience)
	defer cancel()
	options.TLS, options.Token = c.secure, c.remote.pass.show()
	options.Name = c.settings.program
	options.MaxBody = int(c.maxBody)
	conn, err := client.Dial(ctx, c.remote.hostPort(), &options)
	if err == nil {
		return conn, nil
	}
	if stop.Err() != nil {
		return nil, errInterrupted
	}
	return nil, c.noHub(err, patience)
}

// noHub says why there is no connection, and what to do about it. patience is how long it was
// waited for; 0: the client knows.
func (c *control) noHub(err error, patience time.Duration) error {
	var dialed *net.OpError
	var unknown *net.DNSError
	var number syscall.Errno
	var away *client.GoAwayError
	if why := distrust(err); why != "" {
		return fmt.Errorf("no connection to the hub at %s: %s", c.hub(), why)
	}
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("no hub at %s: %w; -addr must name the host of the hub", c.hub(), unknown)
	case errors.As(err, &dialed) && dialed.Op == "dial":
		reason := dialed.Err
		if errors.As(err, &number) {
			reason = number
		}
		return fmt.Errorf("no hub at %s: %w; start one with start_server, or name another with -addr and -port", c.hub(), reason)
	case errors.Is(err, context.DeadlineExceeded) && patience == 0:
		return fmt.Errorf("no hub at %s: something takes the connection, and says nothing in time", c.hub())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no hub at %s: something took the connection, and said nothing for %s", c.hub(), formatSpan(patience))
	case errors.As(err, &away) && (away.Code == wire.GoAwayRefused || away.Code == wire.GoAwayExpired):
		return fmt.Errorf("the hub at %s does not let this client in: %s%s", c.hub(), away.Reason, c.remote.credentials())
	case errors.As(err, &away):
		return fmt.Errorf("the hub at %s lets nobody in: %s", c.hub(), away.Reason)
	case errors.Is(err, client.ErrHubClosed), errors.Is(err, client.ErrLost):
		return fmt.Errorf("what is at %s closed the connection at once: %s, or no hub", c.hub(), c.suspects())
	case errors.Is(err, client.ErrMayNotWatch):
		return fmt.Errorf("the hub at %s does not let this client watch: its token or certificate does not allow it", c.hub())
	case errors.Is(err, client.ErrProtocol):
		return fmt.Errorf("what is at %s does not speak like a hub: see whether -port is right", c.hub())
	}
	return err
}

// suspects says what may close a connection at once.
func (c *control) suspects() string {
	if c.remote.secure() {
		return "a hub that is full (-max-clients) or ends"
	}
	return "a hub that is full (-max-clients), ends, or wants TLS (-addr=" + tlsScheme + "…)"
}

// problem says why a hub to which there was a connection did not do what was asked.
func (c *control) problem(stop context.Context, err error) error {
	var away *client.GoAwayError
	switch {
	case stop.Err() != nil:
		return errInterrupted
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the hub at %s gave no answer for %s; -timeout waits longer", c.hub(), formatSpan(c.timeout))
	case errors.Is(err, client.ErrVersion):
		return fmt.Errorf("the hub at %s speaks version 1 of the protocol, and this needs version 2", c.hub())
	case errors.Is(err, client.ErrTooManyWatchers):
		return fmt.Errorf("the hub at %s tells as many clients who comes and goes as it may: try again later, or have its -max-watchers raised", c.hub())
	case errors.Is(err, client.ErrProtocol):
		return fmt.Errorf("the hub at %s said what cannot be understood: %w", c.hub(), err)
	case errors.As(err, &away):
		return fmt.Errorf("the hub at %s has sent this client away: %s", c.hub(), away.Reason)
	case errors.Is(err, client.ErrHubClosed), errors.Is(err, client.ErrLost):
		return fmt.Errorf("the connection to the hub at %s is lost", c.hub())
	}
	return err
}

// counted returns n of something.
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func decimal(id uint64) string { return strconv.FormatUint(id, 10) }
