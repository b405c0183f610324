// Package admin serves the admin address of a hub over HTTP: metrics for Prometheus, health and
// readiness probes, profiles, and an API that lists and disconnects clients. docs/OPERATIONS.md
// describes it for operators, openapi.json for programs.
//
// No message passes through this package. It reads the statistics and the clients of a Hub when a
// request asks for them, and samples rates while requests ask for them. It does not read flags or
// files. It answers no request from another machine without a token, except those for the probes.
package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sechlol/go-message-hub/hub"
)

// Hub is the part of a hub.Hub that the admin address uses. Its methods must be safe for
// concurrent use.
type Hub interface {
	Stats() hub.Stats
	Clients(after uint64, limit int) []hub.ClientInfo
	Client(id uint64) (hub.ClientInfo, bool)
	Disconnect(id uint64, reconnect bool) bool
}

// Limits of requests and connections.
const (
	headerTimeout  = 5 * time.Second  // to read the header of a request
	readTimeout    = 10 * time.Second // to read a whole request
	writeTimeout   = 30 * time.Second // to write the response; a profile adds its duration
	idleTimeout    = 2 * time.Minute  // between two requests: above the usual scrape interval
	maxHeaderBytes = 16 << 10         // bytes
	maxBodyBytes   = 4 << 10          // bytes; no request needs a body
	maxScrapes     = 4                // concurrent requests for /metrics
)

// minTokenLen is the minimum length of a token, in characters. 16 random characters cannot be
// guessed over a network.
const minTokenLen = 16

// DefaultMaxConnections is the default of Config.MaxConnections.
const DefaultMaxConnections = 100

// defaultSampleInterval is the default of Config.SampleInterval.
const defaultSampleInterval = 5 * time.Second

// Errors of New.
var (
	// ErrTokenRequired says that other machines can reach the listener and there is no token.
	ErrTokenRequired = errors.New("no token")

	// ErrInvalidToken says that the token is too short or has characters that are not allowed.
	ErrInvalidToken = errors.New("unusable token")
)

// Config is the configuration of a Server.
type Config struct {
	// Listener is the listener to serve. New takes ownership and closes it on error.
	Listener net.Listener

	// MaxConnections is the maximum number of open connections. Further connections are closed at
	// once. Default: DefaultMaxConnections.
	MaxConnections int

	// Hub is the hub whose state is served.
	Hub Hub

	// Token is the bearer token of requests, at least 16 printable ASCII characters without spaces.
	// It can be empty if the listener is on a loopback address: requests need no token then.
	Token string

	// CheckHealth returns nil if the hub works, and otherwise the reason why not, for the probes. It
	// must be safe for concurrent use and must not block for long. nil: the hub is always healthy.
	CheckHealth func() error

	// LogDropped returns the number of dropped log lines, for the metrics. It must be safe for
	// concurrent use. nil: there is no such metric.
	LogDropped func() uint64

	// Latency is a histogram for the metrics. nil: there is no such metric.
	Latency *Latency

	// CertificateExpiry returns the expiry of the server certificate of the hub, for the metrics. It
	// must be safe for concurrent use. nil: there is no such metric.
	CertificateExpiry func() time.Time

	// SampleInterval is the interval over which rates are measured. Default: 5 s.
	SampleInterval time.Duration

	// Logger gets a line for each client that a request disconnects. Default: no lines.
	Logger *slog.Logger
}

// Server serves the admin address. All methods may be called concurrently.
type Server struct {
	// Static after New.
	config    Config
	tokenHash *tokenHash // nil: requests need no token
	http      http.Server
	registry  *prometheus.Registry
	rates     *rateSampler

	draining atomic.Bool
}

// New returns a server for config. Call Serve to serve requests. On error New closes the
// listener. Its errors wrap ErrTokenRequired or ErrInvalidToken.
func New(config Config) (*Server, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.CheckHealth == nil {
		config.CheckHealth = func() error { return nil }
	}
	if config.MaxConnections == 0 {
		config.MaxConnections = DefaultMaxConnections
	}
	if config.SampleInterval == 0 {
		config.SampleInterval = defaultSampleInterval
	}
	s := &Server{config: config}
	if err := s.initAuth(); err != nil {
		config.Listener.Close()
		return nil, err
	}
	s.registry = newRegistry(&config)
	s.rates = newRateSampler(config.Hub, config.SampleInterval)
	s.http = http.Server{
		Handler:           s.authorize(http.MaxBytesHandler(s.newMux(), maxBodyBytes)),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(config.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// initAuth sets tokenHash, and returns an error if the listener needs another token.
func (s *Server) initAuth() error {
	if s.config.Token != "" {
		s.tokenHash = hashToken(s.config.Token)
	}
	return CheckAccess(s.config.Listener.Addr(), s.config.Token)
}

// CheckAccess returns the error that New returns for a listener at addr and a token.
func CheckAccess(addr net.Addr, token string) error {
	switch {
	case token != "":
		return CheckToken(token)
	case !isLoopback(addr):
		return fmt.Errorf("%w: %s can be reached from other machines", ErrTokenRequired, addr)
	}
	return nil
}

// CheckToken returns an error that wraps ErrInvalidToken unless token is valid as Config.Token.
func CheckToken(token string) error {
	switch {
	case len(token) < minTokenLen:
		return fmt.Errorf("%w: %d characters, want at least %d", ErrInvalidToken, len(token), minTokenLen)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("%w: want printable ASCII characters without spaces", ErrInvalidToken)
	}
	return nil
}

// isLoopback reports whether addr is a loopback address, which other machines cannot reach.
func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
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
func (s *Server) Drain() { s.draining.Store(true) }

// Close closes the listener and all connections, those with a request in progress included. It
// waits for the sampling goroutine, not for the handlers of requests. It may be called more
// than once.
func (s *Server) Close() error {
	err := s.http.Close()
	s.config.Listener.Close() // http.Close does not know a listener that was never served
	s.rates.close()
	return err
}
