package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/internal/certs"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// certsEvery is how often the files of certificates are looked at: those who renew them
	// do so days before they must.
	certsEvery = 10 * time.Second

	// certsSoon is how long before its end a certificate is worth a warning.
	certsSoon = 14 * 24 * time.Hour
)

// serverTLS is what can be set about TLS of a hub.
type serverTLS struct {
	cert     string
	key      string
	clientCA string
	least    string
}

var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func (c *serverTLS) add(s *settings) {
	add(s, &c.cert, "tls-cert", "", path(), "file with the hub's certificate: with it, the hub speaks TLS;\na new one is taken up within 10s", reloadable)
	add(s, &c.key, "tls-key", "", path(), "file with the private key of -tls-cert", reloadable)
	add(s, &c.clientCA, "tls-client-ca", "", path(), "file with the authorities of which every client\nmust show a certificate; by default none need one", reloadable)
	add(s, &c.least, "tls-min", "1.3", oneOf("1.2", "1.3"), "oldest version of TLS that is spoken", reloadable)
}

// read reads the files; nil: the hub does not speak TLS.
func (c *serverTLS) read() (*certs.Set, error) {
	switch {
	case c.cert == "" && c.key == "" && c.clientCA == "":
		return nil, nil
	case c.cert == "" || c.key == "":
		return nil, errors.New("TLS takes -tls-cert and -tls-key, a certificate and its private key")
	}
	set, err := certs.Read(certs.Files{Cert: c.cert, Key: c.key, ClientCA: c.clientCA}, tlsVersions[c.least], wire.ALPN)
	if err != nil {
		return nil, fmt.Errorf("no TLS: %w", err)
	}
	return set, nil
}

// secured is the TLS of a hub that runs.
type secured struct {
	logger *slog.Logger
	store  *certs.Store // nil: it speaks none
}

// follow is the part of the configuration that is about TLS: see part.
func (t *secured) follow(next *server) (apply func(), err error) {
	set, err := next.tls.read()
	switch {
	case err != nil:
		return nil, err
	case t.logger == nil: // the server has not started
		return func() {
			if set != nil {
				t.store = certs.NewStore(set)
			}
		}, nil
	case (set == nil) != (t.store == nil):
		return nil, errors.New("-tls-cert: only a restart begins or ends to speak TLS")
	case set == nil:
		return nil, nil
	}
	return func() {
		if t.store.Use(set) {
			t.tell(nil)
		}
	}, nil
}

// over returns ln with TLS, if there is any, and looks for new certificates until ctx ends.
func (t *secured) over(ctx context.Context, ln net.Listener, logger *slog.Logger) net.Listener {
	t.logger = logger
	if t.store == nil {
		return ln
	}
	t.log("speaking TLS")
	go t.store.Watch(ctx, certsEvery, t.tell) // ends with ctx
	return tls.NewListener(ln, t.store.Config())
}

// tell logs what has become of new files.
func (t *secured) tell(err error) {
	if err != nil {
		t.logger.Error("new certificate refused, the old one stays", "error", err)
		return
	}
	t.log("new certificate taken up")
}

// log says what clients are shown.
func (t *secured) log(what string) {
	id := t.store.Identity()
	level := slog.LevelInfo
	if time.Until(id.NotAfter) < certsSoon {
		level = slog.LevelWarn
	}
	t.logger.Log(context.Background(), level, what, "for", strings.Join(id.Names, ", "), "good_until", id.NotAfter.UTC().Format(time.RFC3339))
}
