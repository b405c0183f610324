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
	defaultDrain = 5 * time.Second // what is queued for a client that reads is gone long before
	maxPrint     = 3 * time.Second // that standard output may take for the statistics
)

// server is the configuration of start_server.
type server struct {
	settings   *settings
	port       int
	addr       string
	stat       bool
	maxBody    int64
	maxMemory  int64
	clients    int
	watchers   int
	stall      time.Duration
	handshake  time.Duration
	frame      time.Duration
	keepAlive  time.Duration
	resume     time.Duration
	credit     int64
	window     int64
	reports    int
	report     time.Duration // report timeout
	maxReport  time.Duration // the longest one that a message may name
	proxied    proxied
	tls        serverTLS
	secured    secured
	access     access
	gate       gate
	perAddress int
	connects   float64
	messages   float64
	bytes      int64
	drain      time.Duration
	drainDelay time.Duration
	goAway     string // when clients of version 2 are told to go: one of goAwayTimes
	admin      string // address; empty: none
	tokenFile  string
	latency    *admin.Latency // nil without an admin address
	log        *logQueue
	traces     traces

	parts  []part // what follows the configuration while the server runs
	memory int64  // limit of the runtime's memory that we have set, in bytes
}

// Server is start_server: it runs a hub until a signal ends it, and returns the
// exit code.
func Server(p Process) int {
	c := newServer()
	if code, done := c.settings.parse(p); done {
		return code
	}
	level := new(slog.LevelVar)
	c.log = newLogQueue(p.Stderr, c.settings.log)
	defer c.log.close(maxLogFlush)
	logger := newLogger(c.log, c.settings.log, level)
	c.follow(func(next *server) (apply func(), err error) {
		return func() { level.Set(logLevels[next.settings.level]) }, nil
	})
	c.follow(c.secured.follow)
	c.follow(c.gate.follow)
	apply, err := c.prepare(c)
	if err != nil {
		return c.settings.complain(p, err)
	}
	if c.settings.check {
		if err := c.checkAdmin(); err != nil {
			return c.settings.complain(p, err)
		}
		c.tls.doubt(c.settings)
		c.settings.printWarnings(p.Stderr)
		return c.settings.show(p, c.settings.effective())
	}
	apply()
	c.settings.logWarnings(logger)
	return c.start(p, logger)
}

// start runs a hub until a signal ends it.
func (c *server) start(p Process, logger *slog.Logger) int {
	reloads, done := p.reloads()
	defer done()
	if c.admin != "" {
		c.latency = admin.NewLatency()
	}
	if err := c.traces.start(logger); err != nil {
		return c.settings.complain(p, err)
	}
	defer c.traces.stop()
	h, err := hub.New(c.hubConfig(logger))
	if err != nil {
		return c.settings.complain(p, err)
	}
	c.follow(func(next *server) (apply func(), err error) {
		return func() { c.admit(h, next.clients, logger) }, nil
	})
	return p.supervise(logger, func(stop, now context.Context) int {
		return c.run(stop, now, h, p, logger, reloads)
	})
}

// admit lets so many clients be connected at once from now on.
func (c *server) admit(h *hub.Hub, clients int, logger *slog.Logger) {
	if clients == c.clients {
		return
	}
	if err := h.SetMaxClients(clients); err != nil {
		logger.Error("cannot change how many clients may connect", "error", err)
		return
	}
	c.memory = limitMemory(logger, c.memory, c.maxMemory, min(clients, openFiles()), c.tls.cert != "")
	warnOfFewFiles(logger, clients)
}

func newServer() *server {
	c := &server{settings: newSettings("start_server", "HUB",
		"start_server runs a message hub until it is interrupted.")}
	s := c.settings
	add(s, &c.port, "port", wire.DefaultPort, whole(0, math.MaxUint16), "TCP port to listen on; 0 takes any free one")
	add(s, &c.addr, "addr", "", host(), "address to listen on, or host name of one; all by default,\n0.0.0.0 for all of IPv4")
	add(s, &c.stat, "stat", true, yesNo(), "print the collected statistics before closing", reloadable)
	add(s, &c.maxBody, "max-body", wire.DefaultMaxBody, size(1, wire.BodyMost),
		"largest body that a client may send")
	add(s, &c.maxMemory, "max-memory", hub.DefaultMaxQueuedBytes, size(1<<20, 1<<50),
		"bound of what is held in memory for all clients together,\nat least four times max-body and a bit")
	add(s, &c.clients, "max-clients", hub.DefaultMaxClients, whole(1, 1<<30),
		"clients that may be connected at once", reloadable)
	add(s, &c.watchers, "max-watchers", hub.DefaultMaxWatchers, whole(1, 1<<30),
		"clients that may be told at once who comes and goes: each of\nthem is told what any client does")
	add(s, &c.handshake, "handshake-timeout", hub.DefaultHandshakeTimeout, span(time.Millisecond, 24*time.Hour),
		"how long a client may take for TLS, and then to say who it\nis where it must")
	add(s, &c.frame, "frame-timeout", hub.DefaultFrameTimeout, span(time.Millisecond, 24*time.Hour),
		"how long the rest of a message may take once its first byte\nis there; longer while it brings 1 KiB a second, measured\nover that time")
	add(s, &c.stall, "stall", hub.DefaultStallTimeout, span(time.Millisecond, 24*time.Hour),
		"how long a client may block others by not reading\nbefore it is disconnected")
	add(s, &c.keepAlive, "keepalive", hub.DefaultKeepAlive, span(10*time.Millisecond, time.Hour),
		"how often something must be heard from a client that speaks\nversion 2; after twice as long its connection is lost")
	add(s, &c.resume, "resume-window", hub.DefaultResumeWindow, span(time.Millisecond, 24*time.Hour),
		"how long such a client may come back after its connection\nwas lost, and miss nothing")
	add(s, &c.credit, "credit", hub.DefaultCredit, size(4<<10, 1<<30),
		"what such a client may send before its receivers' queues\nhave taken it; more is faster over a long way")
	add(s, &c.window, "window", hub.DefaultWindow, size(4<<10, 1<<30),
		"what such a client may be sent before it says that it has\nreceived it; more is faster, and older when it gets there")
	add(s, &c.reports, "max-reports", hub.DefaultMaxReports, whole(1, 1<<20),
		"messages of such a client that may wait for their report")
	add(s, &c.report, "report-timeout", hub.DefaultReportTimeout, span(time.Millisecond, 24*time.Hour),
		"how long the report of a message may wait, unless the\nmessage says how long")
	add(s, &c.maxReport, "max-report-timeout", hub.DefaultMaxReportTimeout, span(time.Millisecond, 24*time.Hour),
		"longest time that a message may name for its report, at\nleast report-timeout")
	add(s, &c.drain, "drain", defaultDrain, span(0, 24*time.Hour),
		"how long queues may take to empty when the hub ends", reloadable)
	add(s, &c.drainDelay, "drain-delay", 0, span(0, 24*time.Hour),
		"how long the hub serves on before that, port open, while\n/readyz says 503: for load balancers to look elsewhere", reloadable)
	add(s, &c.goAway, "drain-goaway", goAwayEnd, oneOf(goAwayStart, goAwaySpread, goAwayEnd),
		"when clients of version 2 are told to reconnect: at the\nstart of -drain-delay, one after another over it, or at its\nend", reloadable)
	add(s, &c.perAddress, "max-per-address", 0, whole(0, 1<<30), "clients that may be connected from one address at once;\n0 is any number")
	add(s, &c.connects, "connect-rate", 0, perSecond(), "connections from one address that are accepted in a second;\n0 is as many as come")
	add(s, &c.messages, "rate-messages", 0, perSecond(), "messages that a client may send in a second, on average;\n0 is as many as it can")
	add(s, &c.bytes, "rate-bytes", 0, size(0, 1<<50), "bytes that it may send in a second; likewise")
	c.proxied.add(s)
	c.tls.add(s)
	c.access.add(s)
	add(s, &c.admin, "admin", defaultAdmin, endpoint(),
		"address for metrics, probes, profiles and the list of\nclients; off for none. If the default is taken, the hub\nruns without")
	add(s, &c.tokenFile, "admin-token-file", "", path(),
		"file with the token that whoever asks there must know;\nneeded where other machines can reach it")
	c.traces.add(s)
	s.addShow()
	s.addCommon(reloadable)
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
		MaxClients:     c.clients,
		MaxWatchers:    c.watchers,
		StallTimeout:   c.stall,
		KeepAlive:      c.keepAlive,
		ResumeWindow:   c.resume,
		Credit:         int(c.credit),
		Window:         int(c.window),
		MaxReports:     c.reports,
		MaxPerAddress:  c.perAddress,
		ConnectRate:    c.connects,
		MessageRate:    c.messages,
		ByteRate:       float64(c.bytes),
		NoClassic:      c.access.noClassic(),
		Logger:         logger,

		HandshakeTimeout: c.handshake,
		FrameTimeout:     c.frame,
		ReportTimeout:    c.report,
		MaxReportTimeout: c.maxReport,
	}
	if c.access.closed() || c.tls.clientCA != "" {
		config.Admit = c.gate.admit
	}
	if c.latency != nil {
		config.Latency = c.latency.Observe
	}
	c.traces.observed(&config)
	return config
}

// run lets h serve until stop ends, and closes it. Meanwhile it reloads the
// configuration when asked to, in this goroutine, which alone looks at it.
func (c *server) run(stop, now context.Context, h *hub.Hub, p Process, logger *slog.Logger, reloads <-chan os.Signal) int {
	defer c.traces.flush(now)
	ln, err := listenAt(net.JoinHostPort(c.addr, strconv.Itoa(c.port)))
	if err != nil {
		logger.Error("cannot listen", "error", err, "advice", adviceOn(err))
		_ = h.Shutdown(now) // nothing is connected
		return ExitFailure
	}
	door := &door{Listener: ln}
	alive := newLiveness(h, door)
	a, err := c.administer(h, alive, logger)
	if err != nil {
		logger.Error("cannot open the admin address", "error", err, "advice", adviceOnAdmin(err))
		ln.Close()
		_ = h.Shutdown(now) // nothing is connected
		return ExitFailure
	}
	defer a.close()
	collectEarlier()
	c.memory = limitMemory(logger, 0, c.maxMemory, min(c.clients, openFiles()), c.tls.cert != "")
	warnOfFewFiles(logger, c.clients)
	logger.Info("listening", "addr", ln.Addr().String(),
		"max_body", formatSize(c.maxBody), "max_memory", formatSize(c.maxMemory), "max_clients", c.clients)
	life, end := context.WithCancel(now)
	defer end()
	c.access.warnOfStrangers(logger, ln.Addr(), c.tls.clientCA)
	c.gate.logger = logger
	service := newService(logger)
	door.Listener = c.secured.over(life, c.proxied.over(spareFiles(ln, openFiles()), h, logger), logger)
	work := serve(now, h, door)
	service.ready(door, alive)
	defer service.close()
	for {
		select {
		case <-reloads:
			service.reloading()
			c.reload(p.Args, logger)
			service.reloaded(door)
			continue
		case <-stop.Done():
		case <-work.ended:
		}
		a.drain()
		service.stopping(c.drainDelay + c.drain)
		c.delayDrain(now, work, logger)
		return c.windUp(now, work, p.Stdout, logger)
	}
}

// windUp closes the hub and prints what it has counted, unless now ends: then
// nobody waits for it.
func (c *server) windUp(now context.Context, work *served, stdout io.Writer, logger *slog.Logger) int {
	code := ExitOK
	if err := work.broken(); err != nil {
		logger.Error("the hub could not go on", "error", err)
		code = ExitFailure
	}
	err := work.close(now, c.drain)
	if now.Err() != nil {
		return ExitFailure
	}
	if err != nil {
		logger.Warn("some of what was queued could not be delivered in time", "drain", formatSpan(c.drain))
	}
	if err := c.print(work.hub, stdout); err != nil {
		logger.Error("cannot print the statistics", "error", err)
		return ExitFailure
	}
	logger.Info("stopped")
	return code
}

// print prints the statistics, unless nobody takes them for maxPrint: a pipe that is full must not keep the
// hub from its end.
func (c *server) print(h *hub.Hub, stdout io.Writer) error {
	if !c.stat {
		return nil
	}
	printed := make(chan error, 1)
	go func() { // ends when stdout takes it; otherwise with the process, which is about to end
		_, err := h.Stats().WriteTo(stdout)
		printed <- err
	}()
	enough := time.NewTimer(maxPrint)
	defer enough.Stop()
	select {
	case err := <-printed:
		return err
	case <-enough.C:
		return fmt.Errorf("nobody reads standard output for %s", formatSpan(maxPrint))
	}
}

// adviceOn says what to do about a failure to listen.
func adviceOn(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has this port: stop it, or choose another with -port"
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 are for privileged programs: choose another with -port"
	default:
		return "-addr must be an address of this machine, or a host name for one"
	}
}
