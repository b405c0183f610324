package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/admin"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	defaultPort  = 9999            // by the system's description
	defaultDrain = 5 * time.Second // what is queued for a client that reads is gone long before
)

// server is the configuration of start_server.
type server struct {
	settings  *settings
	port      int
	addr      string
	stat      bool
	maxBody   int64
	maxMemory int64
	clients   int
	stall     time.Duration
	keepAlive time.Duration
	resume    time.Duration
	credit    int64
	drain     time.Duration
	admin     string // address; empty: none
	tokenFile string
	latency   *admin.Latency // nil without an admin address
}

// Server is start_server: it runs a hub until a signal ends it, and returns the
// exit code.
func Server(p Process) int {
	c := newServer()
	if code, done := c.settings.parse(p); done {
		return code
	}
	logger := newLogger(p.Stderr, c.settings.log, slog.LevelInfo)
	if c.admin != "" {
		c.latency = admin.NewLatency()
	}
	h, err := hub.New(c.hubConfig(logger))
	if err != nil {
		return c.settings.complain(p, fmt.Errorf("-max-memory=%s and -max-body=%s do not fit together: %w",
			formatSize(c.maxMemory), formatSize(c.maxBody), err))
	}
	return p.supervise(logger, func(stop, now context.Context) int {
		return c.run(stop, now, h, p.Stdout, logger)
	})
}

func newServer() *server {
	c := &server{settings: newSettings("start_server", "HUB",
		"start_server runs a message hub until it is interrupted.")}
	s := c.settings
	add(s, &c.port, "port", defaultPort, whole(0, math.MaxUint16), "TCP port to listen on; 0 takes any free one")
	add(s, &c.addr, "addr", "", host(), "interface to listen on, by its address or name; all by default")
	add(s, &c.stat, "stat", true, yesNo(), "print the collected statistics before closing")
	add(s, &c.maxBody, "max-body", wire.DefaultMaxBody, size(1, wire.BodyMost),
		"largest body that a client may send")
	add(s, &c.maxMemory, "max-memory", hub.DefaultMaxQueuedBytes, size(1<<20, 1<<50),
		"bound of what is held in memory for all clients together,\nat least four times max-body and a bit")
	add(s, &c.clients, "max-clients", hub.DefaultMaxClients, whole(1, 1<<30),
		"clients that may be connected at once")
	add(s, &c.stall, "stall", hub.DefaultStallTimeout, span(time.Millisecond, 24*time.Hour),
		"how long a client may block others by not reading\nbefore it is disconnected")
	add(s, &c.keepAlive, "keepalive", hub.DefaultKeepAlive, span(10*time.Millisecond, time.Hour),
		"how often something must be heard from a client that speaks\nversion 2; after twice as long its connection is lost")
	add(s, &c.resume, "resume-window", hub.DefaultResumeWindow, span(time.Millisecond, 24*time.Hour),
		"how long such a client may come back after its connection\nwas lost, and miss nothing")
	add(s, &c.credit, "credit", hub.DefaultCredit, size(4<<10, 1<<30),
		"what such a client may send before its receivers' queues\nhave taken it; more is faster over a long way")
	add(s, &c.drain, "drain", defaultDrain, span(0, 24*time.Hour),
		"how long queues may take to empty when the hub ends")
	add(s, &c.admin, "admin", defaultAdmin, endpoint(),
		"address for metrics, probes, profiles and the list of\nclients; off for none. If the default is taken, the hub\nruns without")
	add(s, &c.tokenFile, "admin-token-file", "", path(),
		"file with the token that whoever asks there must know;\nneeded where other machines can reach it")
	s.addCommon()
	return c
}

func (c *server) hubConfig(logger *slog.Logger) hub.Config {
	config := hub.Config{
		MaxBody:        int(c.maxBody),
		MaxQueuedBytes: c.maxMemory,
		MaxClients:     c.clients,
		StallTimeout:   c.stall,
		KeepAlive:      c.keepAlive,
		ResumeWindow:   c.resume,
		Credit:         int(c.credit),
		Logger:         logger,
	}
	if c.latency != nil {
		config.Latency = c.latency.Observe
	}
	return config
}

// run lets h serve until stop ends, and closes it.
func (c *server) run(stop, now context.Context, h *hub.Hub, stdout io.Writer, logger *slog.Logger) int {
	ln, err := net.Listen("tcp", net.JoinHostPort(c.addr, strconv.Itoa(c.port)))
	if err != nil {
		logger.Error("cannot listen", "error", err, "advice", adviceOn(err))
		_ = h.Shutdown(now) // nothing is connected
		return ExitFailure
	}
	a, err := c.administer(h, logger)
	if err != nil {
		logger.Error("cannot open the admin address", "error", err, "advice", adviceOnAdmin(err))
		ln.Close()
		_ = h.Shutdown(now) // nothing is connected
		return ExitFailure
	}
	defer a.close()
	limitMemory(logger, c.maxMemory, min(c.clients, openFiles()))
	warnOfFewFiles(logger, c.clients)
	logger.Info("listening", "addr", ln.Addr().String(),
		"max_body", formatSize(c.maxBody), "max_memory", formatSize(c.maxMemory), "max_clients", c.clients)
	work := serve(now, h, ln)
	select {
	case <-stop.Done():
	case <-work.ended:
	}
	a.drain()
	return c.windUp(now, work, stdout, logger)
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

func (c *server) print(h *hub.Hub, stdout io.Writer) error {
	if !c.stat {
		return nil
	}
	_, err := h.Stats().WriteTo(stdout)
	return err
}

// adviceOn says what to do about a failure to listen.
func adviceOn(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has this port: stop it, or choose another with -port"
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 are for privileged programs: choose another with -port"
	default:
		return "-addr must name an interface of this machine"
	}
}
