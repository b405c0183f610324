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

// maxInterval is the maximum of -i, in milliseconds: one hour.
const maxInterval = 3_600_000

// simulator is the configuration of start_simulation.
type simulator struct {
	settings    *settings
	remote      hubFlags
	size        int
	clients     int
	messages    int
	interval    int // milliseconds
	stat        bool
	verify      string
	protocol    int
	reportLevel string
	reconnects  int
	resultsPath string
	embed       bool
	timeout     time.Duration
}

// Simulation is start_simulation: it puts a hub under load, prints a report, and returns the
// exit code.
func Simulation(p Process) int {
	c := newSimulator()
	if code, done := c.settings.parse(p); done {
		return code
	}
	config, err := c.simulationConfig()
	if err != nil {
		return c.settings.printUsageError(p, err)
	}
	queue := newLogQueue(p.Stderr, c.settings.logFormat)
	defer queue.close(logFlushTimeout)
	p.Stderr = queue
	logger := c.settings.logger(queue, slog.LevelDebug)
	c.settings.logWarnings(logger)
	config.Logger, config.Out, config.IsTerminal = logger, p.Stdout, p.Terminal
	return p.supervise(logger, func(stopCtx, abortCtx context.Context) int {
		return c.run(stopCtx, abortCtx, config, p)
	})
}

func newSimulator() *simulator {
	c := &simulator{settings: newSettings("start_simulation", "SIMULATION",
		"start_simulation connects clients to a hub, lets each of them send to all the others,\n"+
			"and verifies at each receiver that each message arrives once, in order and unchanged.")}
	s := c.settings
	c.remote.addFlags(s)
	addSetting(s, &c.size, "size", 10240, intRange(0, simulation.MaxSize), "payload of a message, in bytes")
	addSetting(s, &c.clients, "ncli", 100, intRange(0, simulation.MaxClients), "number of clients to connect")
	addSetting(s, &c.messages, "nmex", 100, intRange(0, simulation.MaxMessages),
		"number of messages that each client sends to all the others")
	addSetting(s, &c.interval, "i", 1, intRange(0, maxInterval),
		"interval between two sends of a client, in milliseconds;\n0: as fast as the hub accepts them")
	addSetting(s, &c.stat, "stat", true, boolean(), "show progress and statistics")
	addSetting(s, &c.verify, "verify", "full", oneOf("full", "header", "off"), verifyUsage)
	addSetting(s, &c.protocol, "protocol", 1, intRange(1, 2), "protocol version of the clients")
	addSetting(s, &c.reportLevel, "report", "none", oneOf("none", "written", "received", "processed"),
		"delivery level of each message that the hub reports to the\nsender; requires -protocol=2")
	addSetting(s, &c.reconnects, "reconnect", 0, intRange(0, simulation.MaxReconnects),
		"number of times that each connection is interrupted, at\nrandom times; each message must still arrive once and in\norder; requires -protocol=2")
	addSetting(s, &c.resultsPath, "json", "", anyText(), "file for the results, as JSON")
	addSetting(s, &c.embed, "embed", false, boolean(), "start a hub inside this program, on a free port, instead of\nconnecting to -addr and -port")
	addSetting(s, &c.timeout, "timeout", simulation.DefaultTimeout, duration(time.Millisecond, 24*time.Hour),
		"time limit for each connection, and for any progress")
	s.addCommonFlags()
	return c
}

// verifyUsage is the help text of -verify. It states the cost because the receivers share the
// processors with a hub on the same machine.
const verifyUsage = `what receivers verify: every byte, only the first 16 bytes
and the length, or only the number of messages; full costs
about 0.1 s of processor time per GB delivered, which slows
down a hub on the same machine`

// simulationConfig returns the configuration of the simulation, or an error if settings
// contradict each other.
func (c *simulator) simulationConfig() (simulation.Config, error) {
	if explicit := c.remote.explicitFlags(); c.embed && len(explicit) > 0 {
		return simulation.Config{}, fmt.Errorf("-embed starts its own hub on a free port: remove %s", strings.Join(explicit, ", "))
	}
	tlsConfig, err := c.remote.tlsConfig()
	if err != nil {
		return simulation.Config{}, err
	}
	verify, err := simulation.ParseVerifyMode(c.verify)
	if err != nil {
		return simulation.Config{}, err
	}
	report, err := simulation.ParseLevel(c.reportLevel)
	if err != nil {
		return simulation.Config{}, err
	}
	config := simulation.Config{
		Addr:        c.remote.hostPort(),
		TLS:         tlsConfig,
		Token:       c.remote.token.tokenFunc(),
		Size:        c.size,
		Clients:     c.clients,
		Messages:    c.messages,
		Interval:    time.Duration(c.interval) * time.Millisecond,
		Verify:      verify,
		Protocol:    c.protocol,
		ReportLevel: report,
		Reconnects:  c.reconnects,
		Timeout:     c.timeout,
		ShowStats:   c.stat,
	}
	return config, config.Validate()
}

// run simulates until the load is done or stopCtx ends, and returns the exit code.
func (c *simulator) run(stopCtx, abortCtx context.Context, config simulation.Config, p Process) int {
	report, err := c.simulateAndSave(stopCtx, abortCtx, config, p)
	if errors.Is(err, errOutputClosed) {
		return ExitPipe
	}
	if err != nil {
		if explanation := explainTLSError(err); explanation != "" {
			err = fmt.Errorf("no connection to the hub at %s: %s", &c.remote, explanation)
		}
		config.Logger.Error(err.Error())
		return ExitFailure
	}
	if !report.OK() { // the report says why
		return ExitFailure
	}
	return ExitOK
}

// simulateAndSave runs the simulation and writes the report to the file of -json.
func (c *simulator) simulateAndSave(stopCtx, abortCtx context.Context, config simulation.Config, p Process) (*simulation.Report, error) {
	results, err := openResultsFile(c.resultsPath)
	if err != nil {
		return nil, fmt.Errorf("cannot write the results: %w", err)
	}
	defer results.discard()
	report, err := c.simulate(stopCtx, abortCtx, config, p)
	if err != nil {
		return nil, err
	}
	if err := results.write(report); err != nil {
		return nil, fmt.Errorf("cannot write the results: %w", err)
	}
	return report, nil
}

// simulate runs the simulation, on an embedded hub with -embed, and prints the report.
func (c *simulator) simulate(stopCtx, abortCtx context.Context, config simulation.Config, p Process) (*simulation.Report, error) {
	if !c.embed {
		report, err := simulateOn(stopCtx, config, p.Stdout)
		if err != nil {
			err = fmt.Errorf("%w%s", err, c.advice(err))
		}
		return report, err
	}
	embedded, err := startEmbeddedHub(abortCtx, c.settings.logger(p.Stderr, slog.LevelWarn))
	if err != nil {
		return nil, fmt.Errorf("cannot start a hub: %w", err)
	}
	config.Addr = embedded.addr
	report, err := simulateOn(stopCtx, config, p.Stdout)
	embedded.shutdown(abortCtx)
	if err == nil && c.stat {
		err = embedded.printStats(p.Stdout)
	}
	return report, err
}

// advice returns advice for an error of connecting. It returns "" if the error itself says
// what to do.
func (c *simulator) advice(err error) string {
	var goAway *client.GoAwayError
	var dialErr *net.OpError
	switch {
	case errors.As(err, &dialErr) && dialErr.Op == "dial":
		return "; start a hub with start_server, or inside this program with -embed"
	case errors.As(err, &goAway) && (goAway.Code == wire.GoAwayRefused || goAway.Code == wire.GoAwayExpired):
		return c.remote.credentialsHint()
	case errors.As(err, &goAway), !errors.Is(err, client.ErrHubClosed) && !errors.Is(err, client.ErrConnectionLost):
		return ""
	case c.protocol == 1 && errors.Is(err, client.ErrHubClosed): // the error names the likely causes
		return "; -protocol=2 and -token-file are for tokens, -addr=" + tlsScheme + "… is for TLS"
	case c.remote.usesTLS():
		return "; the hub is full (its -max-clients), or requires tokens (-protocol=2 -token-file=…)"
	default:
		return "; the hub is full (its -max-clients), requires tokens (-protocol=2 -token-file=…), or requires TLS (-addr=" + tlsScheme + "…)"
	}
}

// simulateOn runs the simulation with the hub of config and prints the report.
func simulateOn(stopCtx context.Context, config simulation.Config, stdout io.Writer) (*simulation.Report, error) {
	report, err := simulation.Run(stopCtx, config)
	if err != nil {
		return nil, err
	}
	if _, err := report.WriteTo(stdout); err != nil {
		return nil, fmt.Errorf("cannot print the report: %w", err)
	}
	return report, nil
}
