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
	defaultDrainTimeout = 5 * time.Second // what is queued for a client that reads is gone long before
	printTimeout        = 3 * time.Second // that standard output may take for the statistics
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
	reportTimeout    time.Duration // report timeout
	maxReportTimeout time.Duration // the longest one that a message may name
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
	drainGoAway      string // when clients of version 2 are told to go: one of goAwayTimes
	adminAddr        string // address; empty: none
	adminTokenFile   string
	latency          *admin.Latency // nil without an admin address
	logQueue         *logQueue
	traces           traceExporter

	reloadSteps []reloadStep // what follows the configuration while the server runs
	memoryLimit int64        // limit of the runtime's memory that we have set, in bytes
}

// Server is start_server: it runs a hub until a signal ends it, and returns the
// exit code.
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

// start runs a hub until a signal ends it.
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

// setMaxClients lets so many clients be connected at once from now on.
func (c *server) setMaxClients(h *hub.Hub, maxClients int, logger *slog.Logger) {
	if maxClients == c.maxClients {
		return
	}
	if err := h.SetMaxClients(maxClients); err != nil {
		logger.Error("cannot change how many clients may connect", "error", err)
		return
	}
	c.memoryLimit = setMemoryLimit(logger, c.memoryLimit, c.maxMemory, min(maxClients, maxOpenFiles()), c.tls.cert != "")
	warnLowFileLimit(logger, maxClients)
}

func newServer() *server {
	c := &server{settings: newSettings("start_server", "HUB",
		"start_server runs a message hub until it is interrupted.")}
	s := c.settings
	addSetting(s, &c.port, "port", wire.DefaultPort, intRange(0, math.MaxUint16), "TCP port to listen on; 0 takes any free one")
	addSetting(s, &c.addr, "addr", "", hostName(), "address to listen on, or host name of one; all by default,\n0.0.0.0 for all of IPv4")
	addSetting(s, &c.stat, "stat", true, boolean(), "print the collected statistics before closing", reloadable)
	addSetting(s, &c.maxBody, "max-body", wire.DefaultMaxBody, size(1, wire.MaxBodyLimit),
		"largest body that a client may send")
	addSetting(s, &c.maxMemory, "max-memory", hub.DefaultMaxQueuedBytes, size(1<<20, 1<<50),
		"bound of what is held in memory for all clients together,\nat least four times max-body and a bit")
	addSetting(s, &c.maxClients, "max-clients", hub.DefaultMaxClients, intRange(1, 1<<30),
		"clients that may be connected at once", reloadable)
	addSetting(s, &c.maxWatchers, "max-watchers", hub.DefaultMaxWatchers, intRange(1, 1<<30),
		"clients that may be told at once who comes and goes: each of\nthem is told what any client does")
	addSetting(s, &c.handshakeTimeout, "handshake-timeout", hub.DefaultHandshakeTimeout, duration(time.Millisecond, 24*time.Hour),
		"how long a client may take for TLS, and then to say who it\nis where it must")
	addSetting(s, &c.frameTimeout, "frame-timeout", hub.DefaultFrameTimeout, duration(time.Millisecond, 24*time.Hour),
		"how long the rest of a message may take once its first byte\nis there; longer while it brings 1 KiB a second, measured\nover that time")
	addSetting(s, &c.stallTimeout, "stall", hub.DefaultStallTimeout, duration(time.Millisecond, 24*time.Hour),
		"how long a client may block others by not reading\nbefore it is disconnected")
	addSetting(s, &c.keepAlive, "keepalive", hub.DefaultKeepAlive, duration(10*time.Millisecond, time.Hour),
		"how often something must be heard from a client that speaks\nversion 2; after twice as long its connection is lost")
	addSetting(s, &c.resumeWindow, "resume-window", hub.DefaultResumeWindow, duration(time.Millisecond, 24*time.Hour),
		"how long such a client may come back after its connection\nwas lost, and miss nothing")
	addSetting(s, &c.credit, "credit", hub.DefaultCredit, size(4<<10, 1<<30),
		"what such a client may send before its receivers' queues\nhave taken it; more is faster over a long way")
	addSetting(s, &c.window, "window", hub.DefaultWindow, size(4<<10, 1<<30),
		"what such a client may be sent before it says that it has\nreceived it; more is faster, and older when it gets there")
	addSetting(s, &c.maxReports, "max-reports", hub.DefaultMaxReports, intRange(1, 1<<20),
		"messages of such a client that may wait for their report")
	addSetting(s, &c.reportTimeout, "report-timeout", hub.DefaultReportTimeout, duration(time.Millisecond, 24*time.Hour),
		"how long the report of a message may wait, unless the\nmessage says how long")
	addSetting(s, &c.maxReportTimeout, "max-report-timeout", hub.DefaultMaxReportTimeout, duration(time.Millisecond, 24*time.Hour),
		"longest time that a message may name for its report, at\nleast report-timeout")
	addSetting(s, &c.drainTimeout, "drain", defaultDrainTimeout, duration(0, 24*time.Hour),
		"how long queues may take to empty when the hub ends", reloadable)
	addSetting(s, &c.drainDelay, "drain-delay", 0, duration(0, 24*time.Hour),
		"how long the hub serves on before that, port open, while\n/readyz says 503: for load balancers to look elsewhere", reloadable)
	addSetting(s, &c.drainGoAway, "drain-goaway", goAwayEnd, oneOf(goAwayStart, goAwaySpread, goAwayEnd),
		"when clients of version 2 are told to reconnect: at the\nstart of -drain-delay, one after another over it, or at its\nend", reloadable)
	addSetting(s, &c.maxPerAddress, "max-per-address", 0, intRange(0, 1<<30), "clients that may be connected from one address at once;\n0 is any number")
	addSetting(s, &c.connectRate, "connect-rate", 0, perSecond(), "connections from one address that are accepted in a second;\n0 is as many as come")
	addSetting(s, &c.messageRate, "rate-messages", 0, perSecond(), "messages that a client may send in a second, on average;\n0 is as many as it can")
	addSetting(s, &c.byteRate, "rate-bytes", 0, size(0, 1<<50), "bytes that it may send in a second; likewise")
	c.proxy.addFlags(s)
	c.tls.addFlags(s)
	c.auth.addFlags(s)
	addSetting(s, &c.adminAddr, "admin", defaultAdminAddr, listenAddress(),
		"address for metrics, probes, profiles and the list of\nclients; off for none. If the default is taken, the hub\nruns without")
	addSetting(s, &c.adminTokenFile, "admin-token-file", "", filePath(),
		"file with the token that whoever asks there must know;\nneeded where other machines can reach it")
	c.traces.addFlags(s)
	s.addShowFlags()
	s.addCommonFlags(reloadable)
	s.notes = reloadNotes
	return c
}

const reloadNotes = `On SIGHUP everything is read again, and what is reloadable is applied to the
running hub. The rest takes a restart, and a log line says so. Windows has no
SIGHUP.`

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

// run lets h serve until stop ends, and closes it. Meanwhile it reloads the
// configuration when asked to, in this goroutine, which alone looks at it.
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

// shutdown closes the hub and prints what it has counted, unless now ends: then
// nobody waits for it.
func (c *server) shutdown(abortCtx context.Context, running *runningHub, stdout io.Writer, logger *slog.Logger) int {
	code := ExitOK
	if err := running.unexpectedErr(); err != nil {
		logger.Error("the hub could not go on", "error", err)
		code = ExitFailure
	}
	err := running.close(abortCtx, c.drainTimeout)
	if abortCtx.Err() != nil {
		return ExitFailure
	}
	if err != nil {
		logger.Warn("some of what was queued could not be delivered in time", "drain", formatDuration(c.drainTimeout))
	}
	if err := c.printStats(running.hub, stdout); err != nil {
		logger.Error("cannot print the statistics", "error", err)
		return ExitFailure
	}
	logger.Info("stopped")
	return code
}

// printStats prints the statistics, unless nobody takes them for printTimeout: a pipe that is full must not keep the
// hub from its end.
func (c *server) printStats(h *hub.Hub, stdout io.Writer) error {
	if !c.stat {
		return nil
	}
	printed := make(chan error, 1)
	go func() { // ends when stdout takes it; otherwise with the process, which is about to end
		_, err := h.Stats().WriteTo(stdout)
		printed <- err
	}()
	timer := time.NewTimer(printTimeout)
	defer timer.Stop()
	select {
	case err := <-printed:
		return err
	case <-timer.C:
		return fmt.Errorf("nobody reads standard output for %s", formatDuration(printTimeout))
	}
}

// listenAdvice says what to do about a failure to listen.
func listenAdvice(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has this port: stop it, or choose another with -port"
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 are for privileged programs: choose another with -port"
	default:
		return "-addr must be an address of this machine, or a host name for one"
	}
}
