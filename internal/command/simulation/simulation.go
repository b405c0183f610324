// Package simulation is start_simulation: the settings of the load test, its report, and a hub
// inside the program. internal/simulation makes the load.
package simulation

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
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/connect"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/internal/simulation"
	"github.com/sechlol/go-message-hub/wire"
)

// maxInterval is the maximum of -i, in milliseconds: one hour.
const maxInterval = 3_600_000

// maxEmbed is the maximum of -embed: as many hubs as one machine reasonably runs for a trial.
const maxEmbed = 9

// simulator is the configuration of start_simulation.
type simulator struct {
	settings    *settings.Settings
	remote      connect.Flags
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
	embed       int // number of hubs inside the program
	timeout     time.Duration
}

// Run is start_simulation: it puts a hub under load, prints a report, and returns the
// exit code.
func Run(p command.Process) int {
	c := newSimulator()
	if code, done := p.Parse(c.settings); done {
		return code
	}
	config, err := c.simulationConfig()
	if err != nil {
		return p.UsageError(c.settings, err)
	}
	queue := command.NewLogQueue(p.Stderr, c.settings.LogFormat)
	defer queue.Close(command.LogFlushTimeout)
	p.Stderr = queue
	logger := c.settings.Logger(queue, slog.LevelDebug)
	c.settings.Warnings.LogTo(logger)
	config.Logger, config.Out, config.IsTerminal = logger, p.Stdout, p.Terminal
	return p.Supervise(logger, func(stopCtx, abortCtx context.Context) int {
		return c.run(stopCtx, abortCtx, config, p)
	})
}

// ManPage returns the manual page of start_simulation.
func ManPage() settings.ManPage {
	return settings.ManPage{
		Name: "start_simulation", Section: 1, About: "put a message hub under load and verify it",
		Programs: []settings.ManProgram{{Settings: newSimulator().settings}}, ExitCodes: command.ExitCodes(),
		Examples: []settings.ManItem{
			{Term: "start_simulation -embed", Meaning: "runs a hub and the load in one process."},
			{Term: "start_simulation -addr=hub.example.org -ncli=10 -nmex=20 -size=1024", Meaning: "puts a light load on a remote hub."},
		},
		SeeAlso: "hubctl(1), start_server(8)",
	}
}

func newSimulator() *simulator {
	c := &simulator{settings: settings.New("start_simulation", "SIMULATION",
		"start_simulation connects clients to a hub, lets each of them send to all the others,\n"+
			"and verifies at each receiver that each message arrives once, in order and unchanged.")}
	s := c.settings
	c.remote.AddTo(s)
	settings.Add(s, &c.size, "size", 10240, settings.IntRange(0, simulation.MaxSize), "payload of a message, in bytes")
	settings.Add(s, &c.clients, "ncli", 100, settings.IntRange(0, simulation.MaxClients), "number of clients to connect")
	settings.Add(s, &c.messages, "nmex", 100, settings.IntRange(0, simulation.MaxMessages),
		"number of messages that each client sends to all the others")
	settings.Add(s, &c.interval, "i", 1, settings.IntRange(0, maxInterval),
		"interval between two sends of a client, in milliseconds;\n0: as fast as the hub accepts them")
	settings.Add(s, &c.stat, "stat", true, settings.Boolean(), "show progress and statistics")
	settings.Add(s, &c.verify, "verify", "full", settings.OneOf("full", "header", "off"), verifyUsage)
	settings.Add(s, &c.protocol, "protocol", 1, settings.IntRange(1, 2), "protocol version of the clients")
	settings.Add(s, &c.reportLevel, "report", "none", settings.OneOf("none", "written", "received", "processed"),
		"delivery level of each message that the hub reports to the\nsender; requires -protocol=2")
	settings.Add(s, &c.reconnects, "reconnect", 0, settings.IntRange(0, simulation.MaxReconnects),
		"number of times that each connection is interrupted, at\nrandom times; each message must still arrive once and in\norder; requires -protocol=2")
	settings.Add(s, &c.resultsPath, "json", "", settings.AnyText(), "file for the results, as JSON")
	settings.Add(s, &c.embed, "embed", 0, settings.BooleanOrCount(maxEmbed), embedUsage)
	settings.Add(s, &c.timeout, "timeout", simulation.DefaultTimeout, settings.Duration(time.Millisecond, 24*time.Hour),
		"time limit for each connection, and for any progress")
	s.AddCommonFlags()
	return c
}

// embedUsage is the help text of -embed.
const embedUsage = `start a hub inside this program, on a free port, instead of
connecting to -addr and -port; with a number, a cluster of
that many hubs and a NATS server`

// verifyUsage is the help text of -verify. It states the cost because the receivers share the
// processors with a hub on the same machine.
const verifyUsage = `what receivers verify: every byte, only the first 16 bytes
and the length, or only the number of messages; full costs
about 0.1 s of processor time per GB delivered, which slows
down a hub on the same machine`

// simulationConfig returns the configuration of the simulation, or an error if settings
// contradict each other.
func (c *simulator) simulationConfig() (simulation.Config, error) {
	if explicit := c.remote.Explicit(); c.embed > 0 && len(explicit) > 0 {
		return simulation.Config{}, fmt.Errorf("-embed starts its own hub on a free port: remove %s", strings.Join(explicit, ", "))
	}
	tlsConfig, err := c.remote.TLSConfig()
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
		Addr:        c.remote.HostPorts(),
		TLS:         tlsConfig,
		Token:       c.remote.GetToken(),
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
func (c *simulator) run(stopCtx, abortCtx context.Context, config simulation.Config, p command.Process) int {
	report, err := c.simulateAndSave(stopCtx, abortCtx, config, p)
	if errors.Is(err, command.ErrOutputClosed) {
		return command.ExitPipe
	}
	if err != nil {
		if explanation := connect.ExplainTLSError(err); explanation != "" {
			err = fmt.Errorf("no connection to the hub at %s: %s", &c.remote, explanation)
		}
		config.Logger.Error(err.Error())
		return command.ExitFailure
	}
	if !report.OK() { // the report says why
		return command.ExitFailure
	}
	return command.ExitOK
}

// simulateAndSave runs the simulation and writes the report to the file of -json.
func (c *simulator) simulateAndSave(stopCtx, abortCtx context.Context, config simulation.Config, p command.Process) (*simulation.Report, error) {
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

// simulate runs the simulation, on embedded hubs with -embed, and prints the report.
func (c *simulator) simulate(stopCtx, abortCtx context.Context, config simulation.Config, p command.Process) (*simulation.Report, error) {
	if c.embed == 0 {
		report, err := simulateOn(stopCtx, config, p.Stdout)
		if err != nil {
			err = fmt.Errorf("%w%s", err, c.advice(err))
		}
		return report, err
	}
	embedded, err := startHubs(abortCtx, c.embed, c.settings.Logger(p.Stderr, slog.LevelWarn))
	if err != nil {
		return nil, fmt.Errorf("cannot start a hub: %w", err)
	}
	config.Addr = embedded.addrs()
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
		return c.remote.CredentialsHint()
	case errors.As(err, &goAway), !errors.Is(err, client.ErrHubClosed) && !errors.Is(err, client.ErrConnectionLost):
		return ""
	case c.protocol == 1 && errors.Is(err, client.ErrHubClosed): // the error names the likely causes
		return "; -protocol=2 and -token-file are for tokens, -addr=" + connect.TLSScheme + "… is for TLS"
	case c.remote.UsesTLS():
		return "; the hub is full (its -max-clients), or requires tokens (-protocol=2 -token-file=…)"
	default:
		return "; the hub is full (its -max-clients), requires tokens (-protocol=2 -token-file=…), or requires TLS (-addr=" + connect.TLSScheme + "…)"
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
