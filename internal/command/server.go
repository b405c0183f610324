package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/admin"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	defaultDrainTimeout = 5 * time.Second // a client that reads empties its queue much faster
	printTimeout        = 3 * time.Second // for writing the statistics to standard output
)

// server is the configuration of start_server.
type server struct {
	settings         *settings
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
	proxy            proxyFlags
	tls              tlsFlags
	tlsReloader      tlsReloader
	auth             authFlags
	authenticator    authenticator
	maxPerAddress    int
	connectRate      float64
	messageRate      float64
	byteRate         int64
	drainTimeout     time.Duration
	drainDelay       time.Duration
	drainGoAway      string // goAwayStart, goAwaySpread or goAwayEnd
	adminAddr        string // empty: no admin address
	adminTokenFile   string
	latency          *admin.Latency // nil without an admin address
	logQueue         *logQueue
	traces           traceExporter

	reloadSteps []reloadStep // run at the start and at each reload
	memoryLimit int64        // memory limit of the runtime set by setMemoryLimit, in bytes; 0: none
}

// Server is start_server: it runs a hub until a signal ends the program, and returns the exit
// code.
func Server(p Process) int {
	c := newServer()
	if code, done := c.settings.parse(p); done {
		return code
	}
	level := new(slog.LevelVar)
	c.logQueue = newLogQueue(p.Stderr, c.settings.logFormat)
	defer c.logQueue.close(logFlushTimeout)
	logger := newLogger(c.logQueue, c.settings.logFormat, level)
	c.addReloadStep(func(next *server) (apply func(), err error) {
		return func() { level.Set(logLevels[next.settings.logLevel]) }, nil
	})
	c.addReloadStep(c.tlsReloader.prepareReload)
	c.addReloadStep(c.authenticator.prepareReload)
	apply, err := c.prepareReload(c)
	if err != nil {
		return c.settings.printUsageError(p, err)
	}
	if c.settings.checkOnly {
		if err := c.checkAdmin(); err != nil {
			return c.settings.printUsageError(p, err)
		}
		c.tls.warnExpiry(c.settings)
		c.settings.printWarnings(p.Stderr)
		return c.settings.printOutput(p, c.settings.effectiveConfig())
	}
	apply()
	c.settings.logWarnings(logger)
	return c.start(p, logger)
}

// start creates the hub and runs it until a signal ends the program.
func (c *server) start(p Process, logger *slog.Logger) int {
	reloads, done := p.reloads()
	defer done()
	if c.adminAddr != "" {
		c.latency = admin.NewLatency()
	}
	if err := c.traces.start(logger); err != nil {
		return c.settings.printUsageError(p, err)
	}
	defer c.traces.stop()
	h, err := hub.New(c.hubConfig(logger))
	if err != nil {
		return c.settings.printUsageError(p, err)
	}
	c.addReloadStep(func(next *server) (apply func(), err error) {
		return func() { c.setMaxClients(h, next.maxClients, logger) }, nil
	})
	return p.supervise(logger, func(stopCtx, abortCtx context.Context) int {
		return c.run(stopCtx, abortCtx, h, p, logger, reloads)
	})
}

// setMaxClients changes the maximum number of clients of h.
func (c *server) setMaxClients(h *hub.Hub, maxClients int, logger *slog.Logger) {
	if maxClients == c.maxClients {
		return
	}
	if err := h.SetMaxClients(maxClients); err != nil {
		logger.Error("cannot change the maximum number of clients", "error", err)
		return
	}
	c.memoryLimit = setMemoryLimit(logger, c.memoryLimit, c.maxMemory, min(maxClients, maxOpenFiles()), c.tls.cert != "")
	warnLowFileLimit(logger, maxClients)
}

func newServer() *server {
	c := &server{settings: newSettings("start_server", "HUB",
		"start_server runs a message hub until it is interrupted.")}
	s := c.settings
	addSetting(s, &c.port, "port", wire.DefaultPort, intRange(0, math.MaxUint16), "TCP port to listen on; 0: any free port")
	addSetting(s, &c.addr, "addr", "", hostName(), "address or host name to listen on; empty: all addresses,\n0.0.0.0: all IPv4 addresses")
	addSetting(s, &c.stat, "stat", true, boolean(), "print statistics at shutdown", reloadable)
	addSetting(s, &c.maxBody, "max-body", wire.DefaultMaxBody, size(1, wire.MaxBodyLimit),
		"maximum size of a message body")
	addSetting(s, &c.maxMemory, "max-memory", hub.DefaultMaxQueuedBytes, size(1<<20, 1<<50),
		"memory limit for queued messages and partly read frames of\nall clients, at least four times -max-body plus overhead")
	addSetting(s, &c.maxClients, "max-clients", hub.DefaultMaxClients, intRange(1, 1<<30),
		"maximum number of connected clients", reloadable)
	addSetting(s, &c.maxWatchers, "max-watchers", hub.DefaultMaxWatchers, intRange(1, 1<<30),
		"maximum number of presence watchers; each watcher is sent\nevery join and leave")
	addSetting(s, &c.handshakeTimeout, "handshake-timeout", hub.DefaultHandshakeTimeout, duration(time.Millisecond, 24*time.Hour),
		"time limit for the TLS handshake, and then for\nauthentication if that is required")
	addSetting(s, &c.frameTimeout, "frame-timeout", hub.DefaultFrameTimeout, duration(time.Millisecond, 24*time.Hour),
		"time limit for a frame once its first byte has arrived;\nextended while the frame arrives at 1 KiB/s or more,\nmeasured over this time")
	addSetting(s, &c.stallTimeout, "stall", hub.DefaultStallTimeout, duration(time.Millisecond, 24*time.Hour),
		"how long a client that does not read can block senders\nbefore it is disconnected")
	addSetting(s, &c.keepAlive, "keepalive", hub.DefaultKeepAlive, duration(10*time.Millisecond, time.Hour),
		"keep-alive interval of version 2 clients; a connection that\nis silent for twice as long is closed")
	addSetting(s, &c.resumeWindow, "resume-window", hub.DefaultResumeWindow, duration(time.Millisecond, 24*time.Hour),
		"how long a version 2 session can be resumed, without loss,\nafter its connection was lost")
	addSetting(s, &c.credit, "credit", hub.DefaultCredit, size(4<<10, 1<<30),
		"send window: bytes that a version 2 client can send before\nthey are queued for the receivers; larger is faster with\nlong round-trip times")
	addSetting(s, &c.window, "window", hub.DefaultWindow, size(4<<10, 1<<30),
		"receive window: bytes sent to a version 2 client without\nacknowledgement; larger is faster, with more queueing delay")
	addSetting(s, &c.maxReports, "max-reports", hub.DefaultMaxReports, intRange(1, 1<<20),
		"maximum number of messages of a version 2 client that wait\nfor their reports")
	addSetting(s, &c.reportTimeout, "report-timeout", hub.DefaultReportTimeout, duration(time.Millisecond, 24*time.Hour),
		"default time limit for the report of a message")
	addSetting(s, &c.maxReportTimeout, "max-report-timeout", hub.DefaultMaxReportTimeout, duration(time.Millisecond, 24*time.Hour),
		"maximum report timeout that a message can request, at least\n-report-timeout")
	addSetting(s, &c.drainTimeout, "drain", defaultDrainTimeout, duration(0, 24*time.Hour),
		"time limit for draining queues at shutdown", reloadable)
	addSetting(s, &c.drainDelay, "drain-delay", 0, duration(0, 24*time.Hour),
		"delay before the drain: the port stays open and /readyz\nreturns 503, to let load balancers choose another hub", reloadable)
	addSetting(s, &c.drainGoAway, "drain-goaway", goAwayEnd, oneOf(goAwayStart, goAwaySpread, goAwayEnd),
		"when GOAWAY is sent to version 2 clients: at the start of\n-drain-delay, spread over the delay, or at its end", reloadable)
	addSetting(s, &c.maxPerAddress, "max-per-address", 0, intRange(0, 1<<30), "maximum number of connected clients per IP address (IPv6:\nper /64); 0: no limit")
	addSetting(s, &c.connectRate, "connect-rate", 0, perSecond(), "maximum accepted connections per second and IP address\n(IPv6: /64); 0: no limit")
	addSetting(s, &c.messageRate, "rate-messages", 0, perSecond(), "maximum average messages per second that a client can send;\n0: no limit")
	addSetting(s, &c.byteRate, "rate-bytes", 0, size(0, 1<<50), "maximum average bytes per second that a client can send;\n0: no limit")
	c.proxy.addFlags(s)
	c.tls.addFlags(s)
	c.auth.addFlags(s)
	addSetting(s, &c.adminAddr, "admin", defaultAdminAddr, listenAddress(),
		"address for metrics, probes, profiles and the list of\nclients; off: no admin address. If the default is in use,\nthe hub runs without an admin address")
	addSetting(s, &c.adminTokenFile, "admin-token-file", "", filePath(),
		"file with the bearer token for -admin; required unless\n-admin is a loopback address")
	c.traces.addFlags(s)
	s.addShowFlags()
	s.addCommonFlags(reloadable)
	s.notes = reloadNotes
	return c
}

const reloadNotes = `On SIGHUP all settings are read again, and the reloadable ones are applied to the
running hub. The others require a restart; a log line names each that has changed.
Windows has no SIGHUP.`

func (c *server) hubConfig(logger *slog.Logger) hub.Config {
	config := hub.Config{
		MaxBody:        int(c.maxBody),
		MaxQueuedBytes: c.maxMemory,
		MaxClients:     c.maxClients,
		MaxWatchers:    c.maxWatchers,
		StallTimeout:   c.stallTimeout,
		KeepAlive:      c.keepAlive,
		ResumeWindow:   c.resumeWindow,
		Credit:         int(c.credit),
		Window:         int(c.window),
		MaxReports:     c.maxReports,
		MaxPerAddress:  c.maxPerAddress,
		ConnectRate:    c.connectRate,
		MessageRate:    c.messageRate,
		ByteRate:       float64(c.byteRate),
		DisableV1:      c.auth.noClassic(),
		Logger:         logger,

		HandshakeTimeout: c.handshakeTimeout,
		FrameTimeout:     c.frameTimeout,
		ReportTimeout:    c.reportTimeout,
		MaxReportTimeout: c.maxReportTimeout,
	}
	if c.auth.tokensRequired() || c.tls.clientCA != "" {
		config.Authenticate = c.authenticator.authenticate
	}
	if c.latency != nil {
		config.OnLatency = c.latency.Observe
	}
	c.traces.configure(&config)
	return config
}

// run lets h serve until stopCtx ends, and then shuts h down. It also reloads the
// configuration. Only this goroutine accesses the settings.
func (c *server) run(stopCtx, abortCtx context.Context, h *hub.Hub, p Process, logger *slog.Logger, reloads <-chan os.Signal) int {
	defer c.traces.flush(abortCtx)
	ln, err := listenAt(net.JoinHostPort(c.addr, strconv.Itoa(c.port)))
	if err != nil {
		logger.Error("cannot listen", "error", err, "advice", listenAdvice(err))
		_ = h.Shutdown(abortCtx) // nothing is connected
		return ExitFailure
	}
	watchdog := &watchdogListener{Listener: ln}
	alive := newLiveness(h, watchdog)
	a, err := c.openAdmin(h, alive, logger)
	if err != nil {
		logger.Error("cannot open the admin address", "error", err, "advice", adminAdvice(err))
		ln.Close()
		_ = h.Shutdown(abortCtx) // nothing is connected
		return ExitFailure
	}
	defer a.close()
	setGCPercent()
	c.memoryLimit = setMemoryLimit(logger, 0, c.maxMemory, min(c.maxClients, maxOpenFiles()), c.tls.cert != "")
	warnLowFileLimit(logger, c.maxClients)
	logger.Info("listening", "addr", ln.Addr().String(),
		"max_body", formatSize(c.maxBody), "max_memory", formatSize(c.maxMemory), "max_clients", c.maxClients)
	listenerCtx, cancel := context.WithCancel(abortCtx)
	defer cancel()
	c.auth.warnUnauthenticated(logger, ln.Addr(), c.tls.clientCA)
	c.authenticator.logger = logger
	notifier := newServiceNotifier(logger)
	watchdog.Listener = c.tlsReloader.wrapListener(listenerCtx, c.proxy.wrapListener(newFileLimitListener(ln, maxOpenFiles()), h, logger), logger)
	running := serve(abortCtx, h, watchdog)
	notifier.ready(watchdog, alive)
	defer notifier.close()
	for {
		select {
		case <-reloads:
			notifier.reloading()
			c.reload(p.Args, logger)
			notifier.reloaded(watchdog)
			continue
		case <-stopCtx.Done():
		case <-running.done:
		}
		a.drain()
		notifier.stopping(c.drainDelay + c.drainTimeout)
		c.delayDrain(abortCtx, running, logger)
		return c.shutdown(abortCtx, running, p.Stdout, logger)
	}
}

// shutdown closes the hub and prints the statistics. If abortCtx ends, shutdown returns
// without the statistics.
func (c *server) shutdown(abortCtx context.Context, running *runningHub, stdout io.Writer, logger *slog.Logger) int {
	code := ExitOK
	if err := running.unexpectedErr(); err != nil {
		logger.Error("the hub stopped unexpectedly", "error", err)
		code = ExitFailure
	}
	err := running.close(abortCtx, c.drainTimeout)
	if abortCtx.Err() != nil {
		return ExitFailure
	}
	if err != nil {
		logger.Warn("some queued messages could not be delivered in time", "drain", formatDuration(c.drainTimeout))
	}
	if err := c.printStats(running.hub, stdout); err != nil {
		logger.Error("cannot print the statistics", "error", err)
		return ExitFailure
	}
	logger.Info("stopped")
	return code
}

// printStats prints the statistics. It gives up after printTimeout, because a full pipe must
// not prevent the hub from exiting.
func (c *server) printStats(h *hub.Hub, stdout io.Writer) error {
	if !c.stat {
		return nil
	}
	printed := make(chan error, 1)
	go func() { // ends with the write, or with the process, which is about to exit
		_, err := h.Stats().WriteTo(stdout)
		printed <- err
	}()
	timer := time.NewTimer(printTimeout)
	defer timer.Stop()
	select {
	case err := <-printed:
		return err
	case <-timer.C:
		return fmt.Errorf("standard output blocked for %s", formatDuration(printTimeout))
	}
}

// listenAdvice returns advice for an error of listening.
func listenAdvice(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program uses this port: stop that program, or choose another port with -port"
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 require privileges: choose another port with -port"
	default:
		return "-addr must be an address of this machine, or a host name of this machine"
	}
}
