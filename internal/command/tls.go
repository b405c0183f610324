package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/certs"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// certsEvery is how often the files of certificates are looked at: those who renew them
	// do so days before they must.
	certsEvery = 10 * time.Second

	// certsSoon is how long before its end a certificate is worth a warning.
	certsSoon = 14 * 24 * time.Hour

	// remindDaily and remindHourly are how often it is repeated until the certificate ends, and
	// from then on.
	remindDaily  = 24 * time.Hour
	remindHourly = time.Hour
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
		return nil, fmt.Errorf("%s: %w", c.named(err), err)
	}
	return set, nil
}

// named returns the setting whose file an error is about, or all of them.
func (c *serverTLS) named(err error) string {
	var file *os.PathError
	if errors.As(err, &file) {
		switch file.Path {
		case c.cert:
			return "-tls-cert"
		case c.key:
			return "-tls-key"
		case c.clientCA:
			return "-tls-client-ca"
		}
	}
	return "-tls-cert, -tls-key and -tls-client-ca"
}

// doubt warns of a certificate that could be used, but not for long.
func (c *serverTLS) doubt(s *settings) {
	set, err := c.read()
	if err != nil || set == nil {
		return
	}
	if until := certs.NewStore(set).Identity().NotAfter; time.Until(until) < certsSoon {
		s.warn("-tls-cert=%s is good until %s only", c.cert, until.UTC().Format(time.RFC3339))
	}
}

// secured is the TLS of a hub that runs.
type secured struct {
	logger *slog.Logger
	store  *certs.Store // nil: it speaks none

	mu       sync.Mutex
	reminded reminder
}

// reminder is the last warning of the end of a certificate.
type reminder struct {
	of   time.Time // when it ends: another one is warned of at once
	over bool      // and so is the end itself
	next time.Time // when it is time for another warning, by the wall clock
}

// follow is the part of the configuration that is about TLS: see part.
func (t *secured) follow(next *server) (apply func(), err error) {
	set, err := next.tls.read()
	switch {
	case err != nil:
		return nil, err
	case t.logger == nil: // the server has not started
		if set != nil {
			next.settings.warnIgnored("-tls-client-ca", set.Ignored())
		}
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
	go t.store.Watch(ctx, certsEvery, t.tell) // ends with ctx, like the next
	go t.remind(ctx)
	return hub.NewTLSListener(ln, t.store.Config())
}

// tell logs what has become of new files.
func (t *secured) tell(err error) {
	if err != nil {
		t.logger.Error("new certificate refused, the old one stays", "error", err)
		return
	}
	t.log("new certificate taken up")
	for _, what := range t.store.Ignored() {
		t.logger.Warn("part of a file of certificates is ignored", "what", what)
	}
}

// log says what clients are shown.
func (t *secured) log(what string) {
	names, until := t.shown()
	t.logger.Info(what, "for", names, "good_until", until.UTC().Format(time.RFC3339))
	t.warn()
}

// shown returns for which names the certificate is that clients are shown, and until when.
func (t *secured) shown() (names string, until time.Time) {
	id := t.store.Identity()
	return strings.Join(id.Names, ", "), id.NotAfter
}

// until returns what tells until when that is good; nil: clients are shown none.
func (t *secured) until() func() time.Time {
	if t.store == nil {
		return nil
	}
	return func() time.Time { return t.store.Identity().NotAfter }
}

// remind warns of the end of the certificate again and again, until ctx ends.
func (t *secured) remind(ctx context.Context) {
	tick := time.NewTicker(certsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.warn()
		case <-ctx.Done():
			return
		}
	}
}

// warn says that the certificate ends soon, or has ended, unless it has been said lately.
func (t *secured) warn() {
	names, until := t.shown()
	left := time.Until(until)
	t.mu.Lock()
	due := t.reminded.due(until, time.Now())
	t.mu.Unlock()
	switch good := until.UTC().Format(time.RFC3339); {
	case !due:
	case left > 0:
		t.logger.Warn("the certificate ends soon", "for", names, "good_until", good, "left", left.Round(time.Second))
	default:
		t.logger.Error("the certificate has ended, clients refuse it", "for", names, "good_until", good)
	}
}

// due reports whether it is time to warn of a certificate that is good until then, and takes
// it that this is done.
func (r *reminder) due(until, now time.Time) bool {
	left := until.Sub(now)
	over := left <= 0
	if left >= certsSoon || until.Equal(r.of) && over == r.over && now.Before(r.next) {
		return false
	}
	pause := remindDaily
	if over {
		pause = remindHourly
	}
	*r = reminder{of: until, over: over, next: now.Add(pause).Round(0)}
	return true
}
