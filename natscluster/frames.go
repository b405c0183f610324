package natscluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/sechlol/go-message-hub/internal/natsconn"
)

// maxPayload is the maximum size of a frame that is received, in bytes: a hub of another version
// can use what cluster.MaxFrame leaves.
const maxPayload = 64 << 10

// openFrames opens the connection for the frames of a session, to the server that nats.go has
// chosen. It subscribes to what other hubs send, and checks that the hub may subscribe and
// publish. Behind a load balancer it can come to another server, which does no harm.
func (c *Cluster) openFrames(ctx context.Context, s *session) error {
	config, err := c.framesConfig(s)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", s.nc.ConnectedAddr())
	if err != nil {
		return fmt.Errorf("open the connection for frames: %w", err)
	}
	s.frames, err = natsconn.Open(ctx, nc, config)
	return knownError(err)
}

// framesConfig returns the configuration of the connection for frames: TLS and the user are those
// of the connection of nats.go.
func (c *Cluster) framesConfig(s *session) (config natsconn.Config, err error) {
	server, err := url.Parse(s.nc.ConnectedUrl())
	if err != nil {
		return config, errors.New("the URL of the server cannot be parsed") // err can hold a password
	}
	config = natsconn.Config{
		Name: s.nc.Opts.Name + " (frames)", Version: cmp.Or(c.config.Version, "unknown"),
		Subjects:   []string{nodeSubject(c.config.Name, c.lease.Node()), allSubject(c.config.Name)},
		MaxPayload: maxPayload,
		Handle:     c.receive,
		OnError:    func(err *natsconn.ServerError) { c.logEvent(knownError(err)) },

		WriteTimeout: writeTimeout, PingInterval: pingInterval, MaxPings: maxPings,
	}
	if config.Auth, err = framesAuth(&s.nc.Opts, server.User); err != nil {
		return config, err
	}
	state, err := s.nc.TLSConnectionState()
	switch {
	case errors.Is(err, nats.ErrConnectionNotTLS):
		return config, nil
	case err != nil:
		return config, err
	}
	config.TLS = new(tls.Config)
	if c.config.TLS != nil {
		config.TLS = c.config.TLS.Clone()
	}
	config.TLS.ServerName = cmp.Or(config.TLS.ServerName, state.ServerName, server.Hostname())
	return config, nil
}

// framesAuth returns what nats.go shows to a server with this user in its URL.
func framesAuth(o *nats.Options, user *url.Userinfo) (auth natsconn.Auth, err error) {
	auth.Sign = o.SignatureCB
	if user == nil {
		auth.NKey = o.Nkey
	} else if password, ok := user.Password(); ok {
		auth.User, auth.Password = user.Username(), password
	} else {
		auth.Token = user.Username()
	}
	if o.UserJWT != nil {
		auth.JWT, err = o.UserJWT()
	}
	return auth, err
}

// framesError is an error of the connection for frames that stands for one of nats.go.
type framesError struct {
	error
	known error
}

func (e *framesError) Unwrap() []error { return []error{e.error, e.known} }

// knownErrors are the errors of nats.go for what a server tells, by the beginning of the text.
var knownErrors = map[string]error{
	"permissions violation":              nats.ErrPermissionViolation,
	"authorization violation":            nats.ErrAuthorization,
	"user authentication expired":        nats.ErrAuthExpired,
	"user authentication revoked":        nats.ErrAuthRevoked,
	"account authentication expired":     nats.ErrAccountAuthExpired,
	"stale connection":                   nats.ErrStaleConnection,
	"maximum connections exceeded":       nats.ErrMaxConnectionsExceeded,
	"maximum account active connections": nats.ErrMaxAccountConnectionsExceeded,
	"maximum subscriptions exceeded":     nats.ErrMaxSubscriptionsExceeded,
	"secure connection - tls required":   nats.ErrSecureConnRequired,
}

// knownError adds the error of nats.go that the first error of a server stands for.
func knownError(err error) error {
	var told *natsconn.ServerError
	if !errors.As(err, &told) {
		return err
	}
	text := strings.ToLower(told.Text)
	for prefix, known := range knownErrors {
		if strings.HasPrefix(text, prefix) {
			return &framesError{err, known}
		}
	}
	return err
}
