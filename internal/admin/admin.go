// Package admin serves the admin address of a hub over HTTP: metrics for Prometheus, health and
// readiness probes, profiles, an API that lists and disconnects clients and sends test messages,
// and the console, a web page for that API. docs/OPERATIONS.md describes it for operators,
// openapi.json for programs.
//
// No message of a client passes through this package. It reads the statistics and the clients of a
// Hub when a request asks for them, and samples rates while requests ask for them. It does not read
// flags or files. It answers no request from another machine without a token, except those for the
// probes and for the files of the console, which contain no data.
package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Limits of requests and connections.
const (
	headerTimeout  = 5 * time.Second  // to read the header of a request
	readTimeout    = 10 * time.Second // to read a whole request
	writeTimeout   = 30 * time.Second // to write the response; a profile adds its duration
	idleTimeout    = 2 * time.Minute  // between two requests: above the usual scrape interval
	maxHeaderBytes = 16 << 10         // bytes
	maxBodyBytes   = 8 << 10          // bytes: a test message to 255 receivers has up to 6 KiB of ids
)

// Server serves the admin address. All methods may be called concurrently.
type Server struct {
	// Static after New.
	config Config
	http   http.Server
	probes *probes
	rates  *rateSampler
}

// New returns a server for config. Call Serve to serve requests. On error New closes the
// listener. Its errors wrap ErrTokenRequired or ErrInvalidToken.
func New(config Config) (*Server, error) {
	config.setDefaults()
	if err := CheckAccess(config.Listener.Addr(), config.Token); err != nil {
		config.Listener.Close()
		return nil, err
	}
	s := &Server{
		config: config,
		probes: &probes{checkHealth: config.CheckHealth},
		rates:  newRateSampler(config.Hub.ClientsAfter, config.SampleInterval),
	}
	if config.Cluster != nil {
		s.probes.checkMember = config.Cluster.CheckMember
	}
	registry := newRegistry(&config)
	cluster := &clusterAPI{config.Cluster}
	routes := newRoutes(&handlers{
		probes: s.probes, registry: registry,
		clients:  &clientAPI{hub: config.Hub, messages: config.Messages, rates: s.rates, logger: config.Logger},
		messages: &messageAPI{messages: config.Messages, logger: config.Logger},
		summary: &summaryAPI{
			hub: config.Hub, probes: s.probes, latency: config.Latency, expiry: config.CertificateExpiry,
			cluster: cluster, process: newProcessSampler(), started: time.Now().Add(-config.Hub.Stats().Uptime).UTC(), version: config.Version,
		},
		cluster: cluster,
	})
	var required *tokenHash
	if config.Token != "" {
		required = hashToken(config.Token)
	}
	s.http = http.Server{
		Handler:           authorize(required, http.MaxBytesHandler(newMux(routes), maxBodyBytes)),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(config.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Serve serves requests until Close, and then returns nil, or until the listener fails, and then
// returns the error. It may be called once.
func (s *Server) Serve() error {
	err := s.http.Serve(&limitListener{Listener: s.config.Listener, maxConns: int32(s.config.MaxConnections)})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("admin: %w", err)
}

// Drain makes the readiness probe fail from now on, because the hub is about to shut down.
func (s *Server) Drain() { s.probes.draining.Store(true) }

// Close closes the listener and all connections, those with a request in progress included. It
// waits for the sampling goroutine, not for the handlers of requests. It may be called more
// than once.
func (s *Server) Close() error {
	err := s.http.Close()
	s.config.Listener.Close() // http.Close does not know a listener that was never served
	s.rates.close()
	return err
}
