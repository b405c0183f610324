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
	// certCheckInterval is how often the files of certificates are looked at: those who renew them
	// do so days before they must.
	certCheckInterval = 10 * time.Second

	// certExpiryWarning is how long before its end a certificate is worth a warning.
	certExpiryWarning = 14 * 24 * time.Hour

	// expiryReminderInterval and expiredReminderInterval are how often it is repeated until the certificate ends, and
	// from then on.
	expiryReminderInterval  = 24 * time.Hour
	expiredReminderInterval = time.Hour
)

// tlsFlags is what can be set about TLS of a hub.
type tlsFlags struct {
	cert       string
	key        string
	clientCA   string
	minVersion string
}

var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func (f *tlsFlags) addFlags(s *settings) {
	addSetting(s, &f.cert, "tls-cert", "", filePath(), "file with the hub's certificate: with it, the hub speaks TLS;\na new one is taken up within 10s", reloadable)
	addSetting(s, &f.key, "tls-key", "", filePath(), "file with the private key of -tls-cert", reloadable)
	addSetting(s, &f.clientCA, "tls-client-ca", "", filePath(), "file with the authorities of which every client\nmust show a certificate; by default none need one", reloadable)
	addSetting(s, &f.minVersion, "tls-min", "1.3", oneOf("1.2", "1.3"), "oldest version of TLS that is spoken", reloadable)
}

// load reads the files; nil: the hub does not speak TLS.
func (f *tlsFlags) load() (*certs.Set, error) {
	switch {
	case f.cert == "" && f.key == "" && f.clientCA == "":
		return nil, nil
	case f.cert == "" || f.key == "":
		return nil, errors.New("TLS takes -tls-cert and -tls-key, a certificate and its private key")
	}
	set, err := certs.Read(certs.Files{Cert: f.cert, Key: f.key, ClientCA: f.clientCA}, tlsVersions[f.minVersion], wire.ALPN)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.flagNames(err), err)
	}
	return set, nil
}

// flagNames returns the setting whose file an error is about, or all of them.
func (f *tlsFlags) flagNames(err error) string {
	var file *os.PathError
	if errors.As(err, &file) {
		switch file.Path {
		case f.cert:
			return "-tls-cert"
		case f.key:
			return "-tls-key"
		case f.clientCA:
			return "-tls-client-ca"
		}
	}
	return "-tls-cert, -tls-key and -tls-client-ca"
}

// warnExpiry warns of a certificate that could be used, but not for long.
func (f *tlsFlags) warnExpiry(s *settings) {
	set, err := f.load()
	if err != nil || set == nil {
		return
	}
	if notAfter := certs.NewStore(set).CertInfo().NotAfter; time.Until(notAfter) < certExpiryWarning {
		s.warn("-tls-cert=%s is good until %s only", f.cert, notAfter.UTC().Format(time.RFC3339))
	}
}

// tlsReloader is the TLS of a hub that runs.
type tlsReloader struct {
	logger *slog.Logger
	store  *certs.Store // nil: it speaks none

	mu           sync.Mutex
	lastReminder reminder
}

// reminder is the last warning of the end of a certificate.
type reminder struct {
	notAfter time.Time // when it ends: another one is warned of at once
	expired  bool      // and so is the end itself
	nextAt   time.Time // when it is time for another warning, by the wall clock
}

// prepareReload is the part of the configuration that is about TLS: see part.
func (t *tlsReloader) prepareReload(next *server) (apply func(), err error) {
	set, err := next.tls.load()
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
		if t.store.Replace(set) {
			t.logReload(nil)
		}
	}, nil
}

// wrapListener returns ln with TLS, if there is any, and looks for new certificates until ctx ends.
func (t *tlsReloader) wrapListener(ctx context.Context, ln net.Listener, logger *slog.Logger) net.Listener {
	t.logger = logger
	if t.store == nil {
		return ln
	}
	t.logCertificate("speaking TLS")
	go t.store.WatchFiles(ctx, certCheckInterval, t.logReload) // ends with ctx, like the next
	go t.expiryLoop(ctx)
	return hub.NewTLSListener(ln, t.store.Config())
}

// logReload logs what has become of new files.
func (t *tlsReloader) logReload(err error) {
	if err != nil {
		t.logger.Error("new certificate refused, the old one stays", "error", err)
		return
	}
	t.logCertificate("new certificate taken up")
	for _, ignored := range t.store.Ignored() {
		t.logger.Warn("part of a file of certificates is ignored", "what", ignored)
	}
}

// logCertificate says what clients are shown.
func (t *tlsReloader) logCertificate(message string) {
	names, notAfter := t.certInfo()
	t.logger.Info(message, "for", names, "good_until", notAfter.UTC().Format(time.RFC3339))
	t.warnExpiry()
}

// certInfo returns for which names the certificate is that clients are shown, and until when.
func (t *tlsReloader) certInfo() (names string, notAfter time.Time) {
	id := t.store.CertInfo()
	return strings.Join(id.Names, ", "), id.NotAfter
}

// notAfterFunc returns what tells until when that is good; nil: clients are shown none.
func (t *tlsReloader) notAfterFunc() func() time.Time {
	if t.store == nil {
		return nil
	}
	return func() time.Time { return t.store.CertInfo().NotAfter }
}

// expiryLoop warns of the end of the certificate again and again, until ctx ends.
func (t *tlsReloader) expiryLoop(ctx context.Context) {
	tick := time.NewTicker(certCheckInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.warnExpiry()
		case <-ctx.Done():
			return
		}
	}
}

// warnExpiry says that the certificate ends soon, or has ended, unless it has been said lately.
func (t *tlsReloader) warnExpiry() {
	names, notAfter := t.certInfo()
	remaining := time.Until(notAfter)
	t.mu.Lock()
	due := t.lastReminder.due(notAfter, time.Now())
	t.mu.Unlock()
	switch goodUntil := notAfter.UTC().Format(time.RFC3339); {
	case !due:
	case remaining > 0:
		t.logger.Warn("the certificate ends soon", "for", names, "good_until", goodUntil, "left", remaining.Round(time.Second))
	default:
		t.logger.Error("the certificate has ended, clients refuse it", "for", names, "good_until", goodUntil)
	}
}

// due reports whether it is time to warn of a certificate that is good until then, and takes
// it that this is done.
func (r *reminder) due(notAfter, now time.Time) bool {
	remaining := notAfter.Sub(now)
	expired := remaining <= 0
	if remaining >= certExpiryWarning || notAfter.Equal(r.notAfter) && expired == r.expired && now.Before(r.nextAt) {
		return false
	}
	interval := expiryReminderInterval
	if expired {
		interval = expiredReminderInterval
	}
	*r = reminder{notAfter: notAfter, expired: expired, nextAt: now.Add(interval).Round(0)}
	return true
}
