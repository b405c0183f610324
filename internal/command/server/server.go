// Package server is start_server: its settings, and the hub as a process of an operator, with
// reloading, an admin address, certificates, tokens, traces, the service manager and the limits
// of the operating system. Messages do not pass through this package; package hub handles them.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/admin"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/serve"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/natscluster"
)

const printTimeout = 3 * time.Second // for writing the statistics to standard output

// program is a start_server that runs. Its settings change when they are reloaded.
type program struct {
	config      *config
	logger      *slog.Logger
	logQueue    *command.LogQueue
	reloader    reloader
	tls         tlsReloader
	auth        authenticator
	web         *webServer     // nil without a web address
	latency     *admin.Latency // nil without an admin address
	traces      traceExporter
	membership  membership
	memoryLimit int64 // memory limit of the runtime set by setMemoryLimit, in bytes; 0: none
}

// Run is start_server: it runs a hub until a signal ends the program, and returns the exit code.
func Run(p command.Process) int {
	c := newConfig()
	if code, done := p.Parse(c.settings); done {
		return code
	}
	level := new(slog.LevelVar)
	s := &program{config: c, logQueue: command.NewLogQueue(p.Stderr, c.settings.LogFormat)}
	defer s.logQueue.Close(command.LogFlushTimeout)
	s.logger = settings.NewLogger(s.logQueue, c.settings.LogFormat, level)
	s.reloader.add(func(next *config) (apply func(), err error) {
		return func() { level.Set(next.settings.LogLevel()) }, nil
	})
	s.reloader.add(func(next *config) (apply func(), err error) {
		return s.tls.prepare(&next.tls, &next.settings.Warnings)
	})
	s.reloader.add(func(next *config) (apply func(), err error) {
		return s.auth.prepare(&next.auth, next.tls.clientCA != "", &next.settings.Warnings)
	})
	apply, err := s.reloader.prepare(c)
	if err != nil {
		return p.UsageError(c.settings, err)
	}
	if s.membership.config, err = c.cluster.config(); err != nil {
		return p.UsageError(c.settings, err)
	}
	if c.settings.CheckOnly {
		return c.printChecked(p)
	}
	apply()
	c.settings.Warnings.LogTo(s.logger)
	return s.start(p)
}

// start creates the hub and runs it until a signal ends the program.
func (s *program) start(p command.Process) int {
	reloads, done := p.NotifyReloads()
	defer done()
	if s.config.admin.addr != "" {
		s.latency = admin.NewLatency()
	}
	if err := s.traces.start(&s.config.traces, s.logger); err != nil {
		return p.UsageError(s.config.settings, err)
	}
	defer s.traces.stop()
	hubConfig := s.config.hubConfig()
	s.addHooks(&hubConfig)
	h, err := hub.New(hubConfig)
	if err != nil {
		return p.UsageError(s.config.settings, err)
	}
	if s.web, err = s.config.web.newWebServer(h); err != nil {
		return p.UsageError(s.config.settings, err)
	}
	s.reloader.add(func(next *config) (apply func(), err error) {
		return func() { s.setMaxClients(h, next.maxClients) }, nil
	})
	s.reloader.add(func(next *config) (apply func(), err error) { return s.web.prepare(&next.web) })
	return p.Supervise(s.logger, func(stopCtx, abortCtx context.Context) int {
		return s.run(stopCtx, abortCtx, h, p, reloads)
	})
}

// addHooks adds the logger and the functions that the hub calls.
func (s *program) addHooks(c *hub.Config) {
	c.Logger, c.Software = s.logger, buildVersion()
	if s.config.authenticates() {
		c.Authenticate = s.auth.authenticate
	}
	if s.latency != nil {
		c.OnLatency = s.latency.Observe
	}
	s.traces.configure(&s.config.traces, c)
}

// setMaxClients changes the maximum number of clients of h.
func (s *program) setMaxClients(h *hub.Hub, maxClients int) {
	if maxClients == s.config.maxClients {
		return
	}
	if err := h.SetMaxClients(maxClients); err != nil {
		s.logger.Error("cannot change the maximum number of clients", "error", err)
		return
	}
	s.limitMemory(maxClients)
}

// limitMemory sets the memory limit of the runtime for so many clients, and warns if the process
// cannot open as many files.
func (s *program) limitMemory(maxClients int) {
	s.memoryLimit = setMemoryLimit(s.logger, s.memoryLimit, s.config.maxMemory, min(maxClients, maxOpenFiles()), s.config.tls.cert != "")
	warnLowFileLimit(s.logger, maxClients)
}

// run lets h serve until stopCtx ends, and then shuts h down. It also reloads the
// configuration. Only this goroutine accesses the settings.
func (s *program) run(stopCtx, abortCtx context.Context, h *hub.Hub, p command.Process, reloads <-chan os.Signal) int {
	defer s.traces.flush(abortCtx)
	c, logger := s.config, s.logger
	o, err := s.open(h)
	if err != nil {
		_ = h.Shutdown(abortCtx) // nothing is connected
		return command.ExitFailure
	}
	defer o.admin.close()
	defer s.membership.close() // after the shutdown of the hub
	if c.cluster.enabled() {
		if err := s.join(stopCtx, h, &o); err != nil {
			return s.abandon(stopCtx, abortCtx, h)
		}
	}
	setGCPercent()
	s.limitMemory(c.maxClients)
	logger.Info("listening", "addr", o.ln.Addr().String(),
		"max_body", settings.FormatSize(c.maxBody), "max_memory", settings.FormatSize(c.maxMemory), "max_clients", c.maxClients)
	listenerCtx, cancel := context.WithCancel(abortCtx)
	defer cancel()
	c.auth.warnUnauthenticated(logger, o.ln.Addr(), "-addr=localhost", c.tls.clientCA)
	s.auth.logger = logger
	notifier := newServiceNotifier(logger)
	o.watchdog.Listener = s.tls.wrapListener(listenerCtx, c.proxy.wrapListener(newFileLimitListener(o.ln, maxOpenFiles()), h, logger), logger)
	running := serve.Start(abortCtx, h, o.watchdog)
	s.web.serve(abortCtx, c, &s.tls, logger)
	notifier.ready(o.watchdog, o.alive)
	defer notifier.close()
	for {
		select {
		case <-reloads:
			notifier.reloading()
			s.reloader.reload(c, p.Args, logger)
			notifier.reloaded(o.watchdog)
			continue
		case <-stopCtx.Done():
		case <-running.Done():
		case <-s.web.stopped():
		}
		o.admin.drain()
		notifier.stopping(c.drain.delay + c.drain.timeout)
		c.drain.wait(abortCtx, running, logger)
		return s.shutdown(abortCtx, running, p.Stdout)
	}
}

// join makes h a member of its cluster, and then opens the addresses of h again. It logs an error
// unless stopCtx has ended.
func (s *program) join(stopCtx context.Context, h *hub.Hub, o *opened) error {
	if err := s.membership.join(stopCtx, s, h); err != nil {
		if stopCtx.Err() == nil {
			s.logger.Error("cannot join the cluster", "error", err, "advice", natscluster.Advice(err))
		}
		return err
	}
	return s.listen(o)
}

// abandon ends a hub that has not served, and returns the exit code.
func (s *program) abandon(stopCtx, abortCtx context.Context, h *hub.Hub) int {
	_ = h.Shutdown(abortCtx) // nothing is connected
	if stopCtx.Err() != nil {
		s.logger.Info("stopped")
		return command.ExitOK
	}
	return command.ExitFailure
}

// opened are the addresses that the program has opened, besides the web address.
type opened struct {
	ln       net.Listener // of the hub
	watchdog *watchdogListener
	alive    *liveness
	admin    *adminServer // nil without an admin address
}

// listen opens the addresses of the hub. If one cannot be opened, it logs the error, and closes the
// other.
func (s *program) listen(o *opened) (err error) {
	c := s.config
	if o.ln, err = listenAt(net.JoinHostPort(c.addr, strconv.Itoa(c.port))); err != nil {
		s.logger.Error("cannot listen", "error", err, "advice", listenAdvice(err))
		return err
	}
	if err = s.web.listen(c.web.addr); err != nil {
		s.logger.Error("cannot open the web address", "error", err, "advice", "choose another address with -web, or disable it with -web=off")
		o.ln.Close()
	}
	return err
}

// open opens all addresses. If one cannot be opened, it logs the error, and closes the others. In a
// cluster it closes those of the hub at once: it only finds out whether they can be opened. A
// client of a hub that waits for NATS thus goes to another hub, instead of waiting for an answer.
func (s *program) open(h *hub.Hub) (o opened, err error) {
	if err = s.listen(&o); err != nil {
		return o, err
	}
	if s.config.cluster.enabled() {
		o.ln.Close()
		s.web.close()
	}
	o.watchdog = new(watchdogListener) // run sets its Listener
	o.alive = newLiveness(h, o.watchdog)
	if o.admin, err = s.openAdmin(h, o.alive); err != nil {
		s.logger.Error("cannot open the admin address", "error", err, "advice", adminAdvice(err))
		o.ln.Close()
		s.web.close()
	}
	return o, err
}

// buildVersion returns the version of the program.
func buildVersion() string {
	info, _ := debug.ReadBuildInfo()
	return command.BuildVersion(info)
}

// openAdmin opens the admin address of h, unless it is disabled.
func (s *program) openAdmin(h *hub.Hub, alive *liveness) (*adminServer, error) {
	return s.config.admin.open(s.config.settings.IsSet("admin"), admin.Config{
		MaxConnections: adminConnectionLimit(maxOpenFiles()), Hub: h, Messages: h, Version: buildVersion(), CheckHealth: alive.err,
		Cluster: s.config.cluster.adminConfig(h, &s.membership), Latency: s.latency, LogDropped: s.logQueue.Dropped,
		CertificateExpiry: s.tls.notAfterFunc(), Logger: s.logger,
	})
}

// shutdown closes the hub and prints the statistics. If abortCtx ends, shutdown returns
// without the statistics.
func (s *program) shutdown(abortCtx context.Context, running *serve.Running, stdout io.Writer) int {
	code := command.ExitOK
	if err := running.UnexpectedErr(); err != nil {
		s.logger.Error("the hub stopped unexpectedly", "error", err)
		code = command.ExitFailure
	}
	if err := s.web.unexpectedErr(); err != nil {
		s.logger.Error("the web address has stopped unexpectedly", "error", err)
		code = command.ExitFailure
	}
	err := running.Close(abortCtx, s.config.drain.timeout)
	s.web.wait()
	if abortCtx.Err() != nil {
		return command.ExitFailure
	}
	if err != nil {
		s.logger.Warn("some queued messages could not be delivered in time", "drain", settings.FormatDuration(s.config.drain.timeout))
	}
	if err := s.printStats(running.Hub, stdout); err != nil {
		s.logger.Error("cannot print the statistics", "error", err)
		return command.ExitFailure
	}
	s.logger.Info("stopped")
	return code
}

// printStats prints the statistics. It gives up after printTimeout, because a full pipe must
// not prevent the hub from exiting.
func (s *program) printStats(h *hub.Hub, stdout io.Writer) error {
	if !s.config.stat {
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
		return fmt.Errorf("standard output blocked for %s", settings.FormatDuration(printTimeout))
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
