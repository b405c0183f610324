// Package admin is the window through which an operator sees into a hub: metrics
// for Prometheus, probes of life and readiness, profiles, and an API over HTTP that
// lists clients and ends their connections. OPERATIONS.md in docs/ describes it for
// operators, openapi.json for programs.
//
// It stands beside the way of a message, not on it: it asks the hub when it is asked
// itself. It knows neither flags nor files, and nothing of it may be
// reached from another machine without a token.
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

// Hub is what can be seen and done here: a hub.Hub. Its methods may be called
// concurrently.
type Hub interface {
	Stats() hub.Stats
	Clients(after uint64, limit int) []hub.ClientInfo
	Client(id uint64) (hub.ClientInfo, bool)
	Disconnect(id uint64, reconnect bool) bool
}

// Limits of what one who asks can take from the hub.
const (
	headerTimeout  = 5 * time.Second  // for the head of a request
	readTimeout    = 10 * time.Second // for all of it
	writeTimeout   = 30 * time.Second // for the answer; a profile adds the time for which it runs
	idleTimeout    = 2 * time.Minute  // between two requests: longer than Prometheus usually waits
	maxHeaderBytes = 16 << 10         // bytes
	maxBodyBytes   = 4 << 10          // bytes; no request needs one
	maxScrapes     = 4                // at the same time
)

// minTokenLen is how many characters a token has at least: 16 random ones cannot be
// guessed over a network.
const minTokenLen = 16

// DefaultMaxConnections is how many connections may be open at the same time.
const DefaultMaxConnections = 100

// defaultSampleInterval is the time over which rates are measured.
const defaultSampleInterval = 5 * time.Second

// Errors of New.
var (
	// ErrTokenRequired says that other machines could ask without a token.
	ErrTokenRequired = errors.New("no token")

	// ErrInvalidToken says that what is given cannot be one.
	ErrInvalidToken = errors.New("unusable token")
)

// Config is what a Server needs.
type Config struct {
	// Listener is where it serves; it belongs to the Server from New on.
	Listener net.Listener

	// MaxConnections is how many connections may be open at the same time; further ones are closed at once.
	// Default: DefaultMaxConnections.
	MaxConnections int

	// Hub is what it looks into.
	Hub Hub

	// Token is what whoever asks must know, at least 16 characters. It may be empty
	// if the listener can be reached only from this machine.
	Token string

	// CheckHealth returns why the hub does not work, and nil while it does, for the probes. It may be called
	// concurrently and must not wait long. nil: it works for as long as it answers here.
	CheckHealth func() error

	// LogDropped returns how many lines of the log were dropped, which is among the metrics. It may be
	// called concurrently. nil: none ever is.
	LogDropped func() uint64

	// Latency is shown among the metrics. nil: there is none.
	Latency *Latency

	// CertificateExpiry returns until when the certificate that the hub shows is good, which is
	// among the metrics. It may be called concurrently. nil: it shows none.
	CertificateExpiry func() time.Time

	// SampleInterval is over which time rates are measured. Default: 5 s.
	SampleInterval time.Duration

	// Logger gets a line for each client that is disconnected here. Default: none are
	// written.
	Logger *slog.Logger
}

// Server serves the admin address. All methods may be called concurrently.
type Server struct {
	// Static after New.
	config    Config
	tokenHash *tokenHash // nil: whoever is on this machine may ask
	http      http.Server
	registry  *prometheus.Registry
	rates     *rateSampler

	draining atomic.Bool
}

// New returns a server that serves nobody yet, or an error that says why it must not. In
// that case the listener is closed.
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

// initAuth sees to it that nobody gets in without a token from another machine.
func (s *Server) initAuth() error {
	if s.config.Token != "" {
		s.tokenHash = hashToken(s.config.Token)
	}
	return CheckAccess(s.config.Listener.Addr(), s.config.Token)
}

// CheckAccess returns the error that New would return for a listener at addr and a token.
func CheckAccess(addr net.Addr, token string) error {
	switch {
	case token != "":
		return CheckToken(token)
	case !isLoopback(addr):
		return fmt.Errorf("%w: %s can be reached from other machines, so it needs one", ErrTokenRequired, addr)
	}
	return nil
}

// CheckToken returns an error that wraps ErrInvalidToken if a text cannot be Config.Token.
func CheckToken(token string) error {
	switch {
	case len(token) < minTokenLen:
		return fmt.Errorf("%w: it has %d characters, at least %d are needed", ErrInvalidToken, len(token), minTokenLen)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("%w: it must be one word of ASCII characters, for it travels in a header", ErrInvalidToken)
	}
	return nil
}

// isLoopback reports whether an address can be reached from this machine only.
func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// Serve serves until Close, and then returns nil; or until the listener breaks, and
// then returns why. It may be called once.
func (s *Server) Serve() error {
	err := s.http.Serve(&limitListener{Listener: s.config.Listener, maxConns: int32(s.config.MaxConnections)})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("admin: %w", err)
}

// Drain says that the hub is about to end: from now on it is not ready.
func (s *Server) Drain() { s.draining.Store(true) }

// Close ends the serving at once, whoever is still being answered, and waits until nothing
// of the server runs but what answers. It may be called more than once.
func (s *Server) Close() error {
	err := s.http.Close()
	s.config.Listener.Close() // Serve may never have been called
	s.rates.close()
	return err
}
