package server

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/wire"
)

// config holds the settings of start_server.
type config struct {
	settings         *settings.Settings
	port             int
	addr             string
	stat             bool
	maxBody          int64
	maxMemory        int64
	maxClients       int
	maxWatchers      int
	stallTimeout     time.Duration
	handshakeTimeout time.Duration
	frameTimeout     time.Duration
	keepAlive        time.Duration
	resumeWindow     time.Duration
	credit           int64
	window           int64
	maxReports       int
	reportTimeout    time.Duration // default of a message
	maxReportTimeout time.Duration // maximum that a message can request
	drain            drainFlags
	maxPerAddress    int
	connectRate      float64
	messageRate      float64
	byteRate         int64
	proxy            proxyFlags
	tls              tlsFlags
	auth             authFlags
	web              webFlags
	admin            adminFlags
	traces           traceFlags
	cluster          clusterFlags
}

func newConfig() *config {
	c := &config{settings: settings.New("start_server", "HUB",
		"start_server runs a message hub until it is interrupted.")}
	s := c.settings
	settings.Add(s, &c.port, "port", wire.DefaultPort, settings.IntRange(0, math.MaxUint16), "TCP port to listen on; 0: any free port")
	settings.Add(s, &c.addr, "addr", "", hostName(), "address or host name to listen on; empty: all addresses,\n0.0.0.0: all IPv4 addresses")
	settings.Add(s, &c.stat, "stat", true, settings.Boolean(), "print statistics at shutdown", settings.Reloadable)
	c.addHubFlags(s)
	c.drain.addFlags(s)
	c.addClientFlags(s)
	c.proxy.addFlags(s)
	c.tls.addFlags(s)
	c.auth.addFlags(s)
	c.web.addFlags(s)
	c.admin.addFlags(s)
	c.traces.addFlags(s)
	c.cluster.addFlags(s)
	s.AddShowFlags()
	s.AddCommonFlags(settings.Reloadable)
	s.Notes = reloadNotes
	return c
}

// addHubFlags adds the limits and timeouts of a hub.
func (c *config) addHubFlags(s *settings.Settings) {
	settings.Add(s, &c.maxBody, "max-body", wire.DefaultMaxBody, settings.Size(1, wire.MaxBodyLimit),
		"maximum size of a message body")
	settings.Add(s, &c.maxMemory, "max-memory", hub.DefaultMaxQueuedBytes, settings.Size(1<<20, 1<<50),
		"memory limit for queued messages and partly read frames of\nall clients, at least four times -max-body plus overhead")
	settings.Add(s, &c.maxClients, "max-clients", hub.DefaultMaxClients, settings.IntRange(1, 1<<30),
		"maximum number of connected clients", settings.Reloadable)
	settings.Add(s, &c.maxWatchers, "max-watchers", hub.DefaultMaxWatchers, settings.IntRange(1, 1<<30),
		"maximum number of presence watchers; each watcher is sent\nevery join and leave")
	settings.Add(s, &c.handshakeTimeout, "handshake-timeout", hub.DefaultHandshakeTimeout, settings.Duration(time.Millisecond, 24*time.Hour),
		"time limit for the TLS handshake, and then for\nauthentication if that is required")
	settings.Add(s, &c.frameTimeout, "frame-timeout", hub.DefaultFrameTimeout, settings.Duration(time.Millisecond, 24*time.Hour),
		"time limit for a frame once its first byte has arrived;\nextended while the frame arrives at 1 KiB/s or more,\nmeasured over this time")
	settings.Add(s, &c.stallTimeout, "stall", hub.DefaultStallTimeout, settings.Duration(time.Millisecond, 24*time.Hour),
		"how long a client that does not read can block senders\nbefore it is disconnected")
	settings.Add(s, &c.keepAlive, "keepalive", hub.DefaultKeepAlive, settings.Duration(10*time.Millisecond, time.Hour),
		"keep-alive interval of version 2 clients; a connection that\nis silent for twice as long is closed")
	settings.Add(s, &c.resumeWindow, "resume-window", hub.DefaultResumeWindow, settings.Duration(time.Millisecond, 24*time.Hour),
		"how long a version 2 session can be resumed, without loss,\nafter its connection was lost")
	settings.Add(s, &c.credit, "credit", 0, settings.SizeOrZero(4<<10, 1<<30),
		"send window: bytes that a version 2 client can send before\nthey are queued for the receivers; larger is faster with\nlong round-trip times; 0: 128KiB, and 256KiB with -cluster")
	settings.Add(s, &c.window, "window", hub.DefaultWindow, settings.Size(4<<10, 1<<30),
		"receive window: bytes sent to a version 2 client without\nacknowledgement; larger is faster, with more queueing delay")
	settings.Add(s, &c.maxReports, "max-reports", hub.DefaultMaxReports, settings.IntRange(1, 1<<20),
		"maximum number of messages of a version 2 client that wait\nfor their reports")
	settings.Add(s, &c.reportTimeout, "report-timeout", hub.DefaultReportTimeout, settings.Duration(time.Millisecond, 24*time.Hour),
		"default time limit for the report of a message")
	settings.Add(s, &c.maxReportTimeout, "max-report-timeout", hub.DefaultMaxReportTimeout, settings.Duration(time.Millisecond, 24*time.Hour),
		"maximum report timeout that a message can request, at least\n-report-timeout")
}

// addClientFlags adds the limits of each client.
func (c *config) addClientFlags(s *settings.Settings) {
	settings.Add(s, &c.maxPerAddress, "max-per-address", 0, settings.IntRange(0, 1<<30), "maximum number of connected clients per IP address (IPv6:\nper /64); 0: no limit")
	settings.Add(s, &c.connectRate, "connect-rate", 0, settings.PerSecond(), "maximum accepted connections per second and IP address\n(IPv6: /64); 0: no limit")
	settings.Add(s, &c.messageRate, "rate-messages", 0, settings.PerSecond(), "maximum average messages per second that a client can send;\n0: no limit")
	settings.Add(s, &c.byteRate, "rate-bytes", 0, settings.Size(0, 1<<50), "maximum average bytes per second that a client can send;\n0: no limit")
}

const reloadNotes = `On SIGHUP all settings are read again, and the reloadable ones are applied to the
running hub. The others require a restart; a log line names each that has changed.
Windows has no SIGHUP.`

// effectiveCredit returns -credit. 0, the default of the hub, does not know of -cluster: the hub
// joins later.
func (c *config) effectiveCredit() int64 {
	if c.credit == 0 && c.cluster.enabled() {
		return hub.DefaultClusterCredit
	}
	return c.credit
}

// hubConfig returns the configuration of the hub, without its logger and the functions that it
// calls.
func (c *config) hubConfig() hub.Config {
	return hub.Config{
		MaxBody:        int(c.maxBody),
		MaxQueuedBytes: c.maxMemory,
		MaxClients:     c.maxClients,
		MaxWatchers:    c.maxWatchers,
		StallTimeout:   c.stallTimeout,
		KeepAlive:      c.keepAlive,
		ResumeWindow:   c.resumeWindow,
		Credit:         int(c.effectiveCredit()),
		Window:         int(c.window),
		MaxReports:     c.maxReports,
		MaxPerAddress:  c.maxPerAddress,
		ConnectRate:    c.connectRate,
		MessageRate:    c.messageRate,
		ByteRate:       float64(c.byteRate),
		DisableV1:      c.auth.noClassic(),
		Name:           c.cluster.hubName(),
		Address:        c.cluster.address,

		HandshakeTimeout: c.handshakeTimeout,
		FrameTimeout:     c.frameTimeout,
		ReportTimeout:    c.reportTimeout,
		MaxReportTimeout: c.maxReportTimeout,
	}
}

// authenticates reports whether clients must authenticate.
func (c *config) authenticates() bool { return c.auth.tokensRequired() || c.tls.clientCA != "" }

// validate returns an error if settings contradict each other.
func (c *config) validate() error {
	err := c.hubConfig().Validate()
	minMemory := hub.MinQueuedBytes(int(c.maxBody))
	switch {
	case err == nil:
		return cmp.Or(c.proxy.validate(), c.web.validate(c.auth.tokensRequired()), c.cluster.validate())
	case c.maxMemory < minMemory:
		return fmt.Errorf("-max-memory=%s is too small for -max-body=%s: the minimum is %s",
			settings.FormatSize(c.maxMemory), settings.FormatSize(c.maxBody), settings.FormatSize(roundUpToKiB(minMemory)))
	case c.maxReportTimeout < c.reportTimeout:
		return fmt.Errorf("-max-report-timeout=%s is below -report-timeout=%s", settings.FormatDuration(c.maxReportTimeout), settings.FormatDuration(c.reportTimeout))
	}
	return err
}

// printChecked prints the settings, which are valid, with their sources, and returns the exit
// code.
func (c *config) printChecked(p command.Process) int {
	if err := c.admin.check(); err != nil {
		return p.UsageError(c.settings, err)
	}
	c.tls.warnExpiry(&c.settings.Warnings)
	c.settings.Warnings.PrintTo(p.Stderr, c.settings.Program)
	return p.Print(c.settings, settings.EffectiveConfig(c.settings))
}

// roundUpToKiB rounds bytes up to a multiple of 1 KiB.
func roundUpToKiB(bytes int64) int64 { return (bytes + 1023) &^ 1023 }

// ManPage returns the manual page of start_server.
func ManPage() settings.ManPage {
	return settings.ManPage{
		Name: "start_server", Section: 8, About: "run a message hub",
		Programs: []settings.ManProgram{{Settings: newConfig().settings}}, ExitCodes: command.ExitCodes(),
		Files: []settings.ManItem{
			{Term: "/etc/go-message-hub/hub.conf", Meaning: "The config file of the service."},
			{Term: "/etc/go-message-hub/environment", Meaning: "Environment variables of the service, which override the config file. Optional."},
		},
		Examples: []settings.ManItem{
			{Term: "start_server -addr=127.0.0.1", Meaning: "serves only clients on this machine."},
			{Term: "HUB_PORT=7000 start_server -max-memory=256MiB -drain=30s", Meaning: "serves on another port, with more memory, and drains queues for up to 30 s at shutdown."},
			{Term: "start_server -web=" + exampleWebAddr, Meaning: "also accepts browsers and other WebSocket clients, on this machine."},
			{Term: "systemctl enable --now go-message-hub", Meaning: "runs the hub as a service, now and after each boot."},
		},
		SeeAlso: "hubctl(1), start_simulation(1), systemd.service(5)",
	}
}

// ConfigTemplate returns the config file of the service: a comment for each setting.
func ConfigTemplate() string { return settings.ConfigTemplate(newConfig().settings) }
