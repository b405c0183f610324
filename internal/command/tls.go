package command

import (
	"context"
	"crypto/tls"
	"errors"
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
	add(s, &c.cert, "tls-cert", "", path(), "file with the hub's certificate: with it, the hub speaks TLS;\na new one is taken up within 10s")
	add(s, &c.key, "tls-key", "", path(), "file with the private key of -tls-cert")
	add(s, &c.clientCA, "tls-client-ca", "", path(), "file with the authorities of which every client\nmust show a certificate; by default none need one")
	add(s, &c.least, "tls-min", "1.3", oneOf("1.2", "1.3"), "oldest version of TLS that is spoken")
}

// load reads the files; nil: the hub does not speak TLS.
func (c *serverTLS) load() (*secured, error) {
	switch {
	case c.cert == "" && c.key == "" && c.clientCA == "":
		return nil, nil
	case c.cert == "" || c.key == "":
		return nil, errors.New("TLS takes -tls-cert and -tls-key, a certificate and its private key")
	}
	store, err := certs.Load(certs.Files{Cert: c.cert, Key: c.key, ClientCA: c.clientCA}, tlsVersions[c.least], wire.ALPN)
	if err != nil {
		return nil, err
	}
	return &secured{store}, nil
}

// secured is a hub that speaks TLS; nil: one that does not.
type secured struct{ store *certs.Store }

// over returns ln with TLS, if there is any, and looks for new certificates until ctx ends.
func (t *secured) over(ctx context.Context, ln net.Listener, logger *slog.Logger) net.Listener {
	if t == nil {
		return ln
	}
	t.log(logger, "speaking TLS")
	go t.store.Watch(ctx, certsEvery, func(err error) { t.tell(logger, err) }) // ends with ctx
	return tls.NewListener(ln, t.store.Config())
}

// reload looks for new certificates now.
func (t *secured) reload(logger *slog.Logger) error {
	if t == nil {
		return nil
	}
	changed, err := t.store.Reload()
	if changed {
		t.log(logger, "new certificate taken up")
	}
	return err
}

// tell logs what has become of new files.
func (t *secured) tell(logger *slog.Logger, err error) {
	if err != nil {
		logger.Error("new certificate refused, the old one stays", "error", err)
		return
	}
	t.log(logger, "new certificate taken up")
}

// log says what clients are shown.
func (t *secured) log(logger *slog.Logger, what string) {
	id := t.store.Identity()
	level := slog.LevelInfo
	if time.Until(id.NotAfter) < certsSoon {
		level = slog.LevelWarn
	}
	logger.Log(context.Background(), level, what, "for", strings.Join(id.Names, ", "), "good_until", id.NotAfter.UTC().Format(time.RFC3339))
}
