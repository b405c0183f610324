package natscluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/natsconn"
)

const (
	// connectTimeout is the time limit of a connection to one server: dialing, and then TLS and
	// authentication.
	connectTimeout = 2 * time.Second

	// requestTimeout is the time limit of one request to a server, or to JetStream.
	requestTimeout = 2 * time.Second

	// writeTimeout is the time limit of each write to a server. A connection that exceeds it is
	// closed: a server that reads nothing delays Carrier.Send only once.
	writeTimeout = 2 * time.Second

	// A server that answers none of maxPings, sent at pingInterval, is lost. The default of nats.go
	// is 2 min, longer than the hub takes to declare other hubs lost.
	pingInterval = time.Second
	maxPings     = 2
)

// options returns the options of a connection. nats.go does not reconnect: Cluster opens a new
// session instead, because each connection needs the checks of the first, and because nats.go
// gives up after errors that it does not know. A session has no buffer for what is sent while it
// is not connected: what is late is of no use, and the link sends it again.
func (c *Cluster) options(ctx context.Context, s *session) ([]nats.Option, error) {
	auth, err := c.config.authOptions()
	if err != nil {
		return nil, err
	}
	options := append(auth,
		nats.Name("go-message-hub "+c.config.HubName),
		nats.NoReconnect(),
		nats.ReconnectBufSize(-1),
		nats.NoEcho(),
		nats.Timeout(connectTimeout),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPings),
		nats.FlusherTimeout(writeTimeout),
		nats.SetCustomDialer(&dialer{ctx: ctx, s: s}),
		nats.SkipHostLookup(), // the dialer does it, within connectTimeout
		nats.SkipSubjectValidation(),
		nats.CustomInboxPrefix(inboxPrefix(c.config.Name)),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) { c.handleAsyncError(s, sub, err) }),
		nats.ClosedHandler(func(*nats.Conn) { close(s.closed) }),
	)
	if c.config.TLS != nil {
		options = append(options, nats.Secure(c.config.TLS))
	}
	return options, nil
}

// connect connects to one of the servers. servers are URLs that an earlier connection was told,
// besides those of the configuration.
func (c *Cluster) connect(ctx context.Context, servers []string) (*session, error) {
	s := &session{closed: make(chan struct{})}
	options, err := c.options(ctx, s)
	if err != nil {
		return nil, err
	}
	options = append(options, func(o *nats.Options) error {
		o.Servers = slices.Concat(c.config.URLs, servers)
		return nil
	})
	if s.nc, err = nats.Connect("", options...); err != nil {
		return nil, fmt.Errorf("NATS at %s cannot be reached: %w", c.config.displayURLs(), s.connectErrors(err))
	}
	s.server = displayURL(s.nc.ConnectedUrl())
	if err := s.checkPayload(); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// withUser returns URLs that a server has told, with the user of the first URL of the
// configuration.
func (c *Cluster) withUser(servers []string) []string {
	first, err := url.Parse(c.config.URLs[0])
	if err != nil || first.User == nil {
		return servers
	}
	for i, server := range servers {
		if u, err := url.Parse(server); err == nil {
			u.User = first.User
			servers[i] = u.String()
		}
	}
	return servers
}

// dialer dials for one session. Its connections are closed when a write fails.
type dialer struct {
	ctx context.Context // for Dial, which has none
	s   *session
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	netDialer := net.Dialer{Timeout: connectTimeout}
	nc, err := netDialer.DialContext(d.ctx, network, address)
	if err != nil {
		d.s.addDialError(err)
		return nil, err
	}
	return conn{nc}, nil
}

// conn is a connection that a failed write closes, because of which all others that wait to write
// fail at once.
type conn struct{ net.Conn }

func (c conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.Close()
	}
	return n, err
}

// session is two connections to NATS: that of nats.go, for JetStream, and one for frames. It ends
// with the first of them that ends.
type session struct {
	// Static after the session was opened.
	nc     *nats.Conn
	server string         // URL of the server, without credentials
	frames *natsconn.Conn // nil until all else is open
	closed chan struct{}  // closed by nats.go when its connection is

	buckets atomic.Pointer[buckets] // nil: not open yet

	// Guarded by mu.
	mu         sync.Mutex
	dialErrors []error
	openedAt   time.Time // zero: not opened yet, and open returns the errors of nats.go
}

// addDialError adds the reason why a server cannot be reached. nats.go keeps only the last one.
func (s *session) addDialError(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialErrors = append(s.dialErrors, err)
}

// connectErrors returns why no server could be reached, in one line: each error of the dialer once,
// and last, unless it is nats.ErrNoServers, which says less than these.
func (s *session) connectErrors(last error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all error
	seen := make(map[string]bool)
	for _, err := range append(s.dialErrors, last) {
		switch text := err.Error(); {
		case seen[text], len(s.dialErrors) > 0 && errors.Is(err, nats.ErrNoServers):
			continue
		case all == nil:
			all = err
		default:
			all = fmt.Errorf("%w; %w", all, err)
		}
		seen[err.Error()] = true
	}
	return all
}

func (s *session) setOpened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.openedAt = time.Now()
}

func (s *session) isOpened() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.openedAt.IsZero()
}

// age returns how long the session has been open.
func (s *session) age() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.openedAt)
}

// close closes the connections. It waits until no frame is handled any more, and until nats.go has
// called the last callback.
func (s *session) close() {
	if s.frames != nil {
		s.frames.Close()
	}
	s.nc.Close()
	<-s.closed
}

// payloadError means that a server does not permit frames of cluster.MaxFrame bytes.
type payloadError struct{ max int64 }

func (e *payloadError) Error() string {
	return fmt.Sprintf("the NATS server permits messages of %d bytes, and hubs need %d", e.max, cluster.MaxFrame)
}

func (s *session) checkPayload() error {
	if maxPayload := s.nc.MaxPayload(); maxPayload < cluster.MaxFrame {
		return &payloadError{maxPayload}
	}
	return nil
}

// permissionError adds the last missing permission that the server has told to err, which is the
// error of something that got no answer.
func (s *session) permissionError(err error) error {
	if last := s.nc.LastError(); err != nil && errors.Is(last, nats.ErrPermissionViolation) && !errors.Is(err, nats.ErrPermissionViolation) {
		return fmt.Errorf("%w (%w)", last, err)
	}
	return err
}
