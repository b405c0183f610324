package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/simulation"
	"github.com/sechlol/go-message-hub/wire"
)

// longestInterval between two sends of a client, in milliseconds: an hour.
const longestInterval = 3_600_000

// simulated is the configuration of start_simulation.
type simulated struct {
	settings *settings
	remote   remote
	size     int
	clients  int
	messages int
	interval int // milliseconds
	stat     bool
	verify   string
	protocol int
	report   string
	breaks   int
	json     string
	embed    bool
	timeout  time.Duration
}

// Simulation is start_simulation: it puts a hub under load, prints what became
// of it, and returns the exit code.
func Simulation(p Process) int {
	c := newSimulated()
	if code, done := c.settings.parse(p); done {
		return code
	}
	config, err := c.simulationConfig()
	if err != nil {
		return c.settings.complain(p, err)
	}
	log := newLogQueue(p.Stderr, c.settings.log)
	defer log.close(maxLogFlush)
	p.Stderr = log
	logger := c.settings.logger(log, slog.LevelDebug)
	c.settings.logWarnings(logger)
	config.Logger, config.Out, config.Terminal = logger, p.Stdout, p.Terminal
	return p.supervise(logger, func(stop, now context.Context) int {
		return c.run(stop, now, config, p)
	})
}

func newSimulated() *simulated {
	c := &simulated{settings: newSettings("start_simulation", "SIMULATION",
		"start_simulation connects clients to a hub, lets each of them send to all the others,\n"+
			"and checks at every receiver that each message arrives once, in order and unharmed.")}
	s := c.settings
	c.remote.add(s)
	add(s, &c.size, "size", 10240, whole(0, simulation.MaxSize), "payload of a message in bytes")
	add(s, &c.clients, "ncli", 100, whole(0, simulation.MaxClients), "number of clients to connect")
	add(s, &c.messages, "nmex", 100, whole(0, simulation.MaxMessages),
		"how often each client sends the payload to all the others")
	add(s, &c.interval, "i", 1, whole(0, longestInterval),
		"milliseconds between two sends of a client;\n0 sends as fast as the hub takes them")
	add(s, &c.stat, "stat", true, yesNo(), "show progress and statistics")
	add(s, &c.verify, "verify", "full", oneOf("full", "header", "off"), verifyUsage)
	add(s, &c.protocol, "protocol", 1, whole(1, 2), "version of the protocol that the clients speak")
	add(s, &c.report, "report", "none", oneOf("none", "written", "received", "processed"),
		"how far each message must come before the hub reports it\nto its sender; takes -protocol=2")
	add(s, &c.breaks, "reconnect", 0, whole(0, simulation.MaxReconnects),
		"how often each connection is broken on the way, at random\nmoments; every message must arrive once and in order\nall the same; takes -protocol=2")
	add(s, &c.json, "json", "", text(), "file to write the results to, as JSON")
	add(s, &c.embed, "embed", false, yesNo(), "start a hub inside this program, on a free port,\ninstead of looking for one at -addr and -port")
	add(s, &c.timeout, "timeout", simulation.DefaultTimeout, span(time.Millisecond, 24*time.Hour),
		"how long to wait for a connection, or for any progress")
	s.addCommon()
	return c
}

// verifyUsage states what verification costs: it happens in the receivers, which
// share the processors with the hub when both run on one machine.
const verifyUsage = `how closely receivers look at what arrives: at every byte,
at the first 16 and the length, or only at how many;
full costs about 0.1 s of processor time for each GB
delivered, which a hub on the same machine lacks`

// simulationConfig turns the settings into a simulation, or says why they do not
// make one.
func (c *simulated) simulationConfig() (simulation.Config, error) {
	if given := c.remote.given(); c.embed && len(given) > 0 {
		return simulation.Config{}, fmt.Errorf("-embed brings a hub of its own on a free port: leave away %s", strings.Join(given, ", "))
	}
	secure, err := c.remote.tls()
	if err != nil {
		return simulation.Config{}, err
	}
	verify, err := simulation.ParseVerify(c.verify)
	if err != nil {
		return simulation.Config{}, err
	}
	report, err := simulation.ParseLevel(c.report)
	if err != nil {
		return simulation.Config{}, err
	}
	config := simulation.Config{
		Addr:      c.remote.hostPort(),
		TLS:       secure,
		Token:     c.remote.pass.show(),
		Size:      c.size,
		Clients:   c.clients,
		Messages:  c.messages,
		Interval:  time.Duration(c.interval) * time.Millisecond,
		Verify:    verify,
		Protocol:  c.protocol,
		Report:    report,
		Reconnect: c.breaks,
		Timeout:   c.timeout,
		ShowStats: c.stat,
	}
	return config, config.Validate()
}

// run simulates until stop ends and returns the exit code.
func (c *simulated) run(stop, now context.Context, config simulation.Config, p Process) int {
	report, err := c.record(stop, now, config, p)
	if errors.Is(err, errOutputClosed) {
		return ExitPipe
	}
	if err != nil {
		if why := distrust(err); why != "" {
			err = fmt.Errorf("no connection to the hub at %s: %s", &c.remote, why)
		}
		config.Logger.Error(err.Error())
		return ExitFailure
	}
	if !report.OK() { // and has said why
		return ExitFailure
	}
	return ExitOK
}

// record writes the report to where -json says.
func (c *simulated) record(stop, now context.Context, config simulation.Config, p Process) (*simulation.Report, error) {
	results, err := openResults(c.json)
	if err != nil {
		return nil, fmt.Errorf("cannot write the results: %w", err)
	}
	defer results.discard()
	report, err := c.simulate(stop, now, config, p)
	if err != nil {
		return nil, err
	}
	if err := results.write(report); err != nil {
		return nil, fmt.Errorf("cannot write the results: %w", err)
	}
	return report, nil
}

// simulate prints the report of a simulation, on a hub of its own if asked to.
func (c *simulated) simulate(stop, now context.Context, config simulation.Config, p Process) (*simulation.Report, error) {
	if !c.embed {
		report, err := simulateOn(stop, config, p.Stdout)
		if err != nil {
			err = fmt.Errorf("%w%s", err, c.advice(err))
		}
		return report, err
	}
	own, err := embedHub(now, c.settings.logger(p.Stderr, slog.LevelWarn))
	if err != nil {
		return nil, fmt.Errorf("cannot start a hub: %w", err)
	}
	config.Addr = own.addr
	report, err := simulateOn(stop, config, p.Stdout)
	own.end(now)
	if err == nil && c.stat {
		err = own.print(p.Stdout)
	}
	return report, err
}

// advice says what to do when clients cannot connect, if the error does not.
func (c *simulated) advice(err error) string {
	var away *client.GoAwayError
	var dialed *net.OpError
	switch {
	case errors.As(err, &dialed) && dialed.Op == "dial":
		return "; start a hub with start_server, or inside this program with -embed"
	case errors.As(err, &away) && (away.Code == wire.GoAwayRefused || away.Code == wire.GoAwayExpired):
		return c.remote.credentials()
	case errors.As(err, &away), !errors.Is(err, client.ErrHubClosed) && !errors.Is(err, client.ErrLost):
		return ""
	case c.protocol == 1 && errors.Is(err, client.ErrHubClosed): // the error names the suspects
		return "; -protocol=2 and -token-file are for tokens, -addr=" + tlsScheme + "… is for TLS"
	case c.remote.secure():
		return "; it is full (its -max-clients), or asks for tokens (-protocol=2 -token-file=…)"
	default:
		return "; it is full (its -max-clients), asks for tokens (-protocol=2 -token-file=…), or wants TLS (-addr=" + tlsScheme + "…)"
	}
}

// simulateOn simulates on the hub of config and prints the report.
func simulateOn(stop context.Context, config simulation.Config, stdout io.Writer) (*simulation.Report, error) {
	report, err := simulation.Run(stop, config)
	if err != nil {
		return nil, err
	}
	if _, err := report.WriteTo(stdout); err != nil {
		return nil, fmt.Errorf("cannot print the report: %w", err)
	}
	return report, nil
}
