package server

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
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// certCheckInterval is the interval between checks of the certificate files. It can be long
	// because certificates are normally renewed days before they expire.
	certCheckInterval = 10 * time.Second

	// certExpiryWarning is how long before a certificate expires the warnings begin.
	certExpiryWarning = 14 * 24 * time.Hour

	// expiryReminderInterval and expiredReminderInterval are the intervals between warnings
	// before and after a certificate expires.
	expiryReminderInterval  = 24 * time.Hour
	expiredReminderInterval = time.Hour
)

// tlsFlags are the TLS settings of a hub.
type tlsFlags struct {
	cert       string
	key        string
	clientCA   string
	minVersion string
}

var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func (f *tlsFlags) addFlags(s *settings.Settings) {
	settings.Add(s, &f.cert, "tls-cert", "", settings.FilePath(), "file with the certificate of the hub, which enables TLS; a\nchanged file is reloaded within 10s", settings.Reloadable)
	settings.Add(s, &f.key, "tls-key", "", settings.FilePath(), "file with the private key of -tls-cert", settings.Reloadable)
	settings.Add(s, &f.clientCA, "tls-client-ca", "", settings.FilePath(), "file with CA certificates; clients then need a certificate\nsigned by one of these CAs; empty: no client certificates", settings.Reloadable)
	settings.Add(s, &f.minVersion, "tls-min", "1.3", settings.OneOf("1.2", "1.3"), "minimum TLS version", settings.Reloadable)
}

// load reads the files. It returns nil if the hub does not use TLS.
func (f *tlsFlags) load() (*certs.Set, error) {
	switch {
	case f.cert == "" && f.key == "" && f.clientCA == "":
		return nil, nil
	case f.cert == "" || f.key == "":
		return nil, errors.New("TLS requires -tls-cert and -tls-key, a certificate and its private key")
	}
	set, err := certs.Read(certs.Files{Cert: f.cert, Key: f.key, ClientCA: f.clientCA}, tlsVersions[f.minVersion], wire.ALPN)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.flagNames(err), err)
	}
	return set, nil
}

// flagNames returns the setting whose file err is about, or all settings.
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

// warnExpiry warns of a certificate that expires soon or has expired.
func (f *tlsFlags) warnExpiry(warnings *settings.Warnings) {
	set, err := f.load()
	if err != nil || set == nil {
		return
	}
	if notAfter := certs.NewStore(set).CertInfo().NotAfter; time.Until(notAfter) < certExpiryWarning {
		warnings.Add("-tls-cert=%s is valid only until %s", f.cert, notAfter.UTC().Format(time.RFC3339))
	}
}

// tlsReloader is the TLS state of a running hub.
type tlsReloader struct {
	logger *slog.Logger
	store  *certs.Store // nil: no TLS

	// Guarded by mu.
	mu           sync.Mutex
	lastReminder reminder
}

// reminder is the last warning about the expiry of a certificate.
type reminder struct {
	notAfter time.Time // expiry of the certificate; a change makes a warning due
	expired  bool      // whether the certificate had expired; a change makes a warning due
	nextAt   time.Time // time of the next warning, by the wall clock
}

// prepare is the reloadStep of TLS.
func (t *tlsReloader) prepare(next *tlsFlags, warnings *settings.Warnings) (apply func(), err error) {
	set, err := next.load()
	switch {
	case err != nil:
		return nil, err
	case t.logger == nil: // the server has not started
		if set != nil {
			warnings.AddIgnored("-tls-client-ca", set.Ignored())
		}
		return func() {
			if set != nil {
				t.store = certs.NewStore(set)
			}
		}, nil
	case (set == nil) != (t.store == nil):
		return nil, errors.New("-tls-cert: enabling or disabling TLS requires a restart")
	case set == nil:
		return nil, nil
	}
	return func() {
		if t.store.Replace(set) {
			t.logReload(nil)
		}
	}, nil
}

// wrapListener returns ln with TLS, or ln itself if the hub does not use TLS. Until ctx ends,
// it reloads changed certificates and warns of their expiry.
func (t *tlsReloader) wrapListener(ctx context.Context, ln net.Listener, logger *slog.Logger) net.Listener {
	t.logger = logger
	if t.store == nil {
		return ln
	}
	t.logCertificate("TLS enabled")
	go t.store.WatchFiles(ctx, certCheckInterval, t.logReload) // both goroutines end with ctx
	go t.expiryLoop(ctx)
	return hub.NewTLSListener(ln, t.store.Config())
}

// wrapWebListener is wrapListener for the web address, once wrapListener was called.
func (t *tlsReloader) wrapWebListener(ln net.Listener) net.Listener {
	if t.store == nil {
		return ln
	}
	return hub.NewTLSListener(ln, t.store.ConfigFor("http/1.1"))
}

// logReload logs the result of reading changed files.
func (t *tlsReloader) logReload(err error) {
	if err != nil {
		t.logger.Error("new certificate rejected, the old one remains in use", "error", err)
		return
	}
	t.logCertificate("certificate reloaded")
	for _, ignored := range t.store.Ignored() {
		t.logger.Warn("part of a certificate file is ignored", "what", ignored)
	}
}

// logCertificate logs the certificate that new clients get.
func (t *tlsReloader) logCertificate(message string) {
	names, notAfter := t.certInfo()
	t.logger.Info(message, "for", names, "good_until", notAfter.UTC().Format(time.RFC3339))
	t.warnExpiry()
}

// certInfo returns the names and the expiry of the current certificate.
func (t *tlsReloader) certInfo() (names string, notAfter time.Time) {
	id := t.store.CertInfo()
	return strings.Join(id.Names, ", "), id.NotAfter
}

// notAfterFunc returns a function that returns the expiry of the current certificate, or nil
// if the hub does not use TLS.
func (t *tlsReloader) notAfterFunc() func() time.Time {
	if t.store == nil {
		return nil
	}
	return func() time.Time { return t.store.CertInfo().NotAfter }
}

// expiryLoop warns of the expiry of the certificate until ctx ends.
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

// warnExpiry logs that the certificate expires soon or has expired, if a warning is due.
func (t *tlsReloader) warnExpiry() {
	names, notAfter := t.certInfo()
	remaining := time.Until(notAfter)
	t.mu.Lock()
	due := t.lastReminder.due(notAfter, time.Now())
	t.mu.Unlock()
	switch goodUntil := notAfter.UTC().Format(time.RFC3339); {
	case !due:
	case remaining > 0:
		t.logger.Warn("the certificate expires soon", "for", names, "good_until", goodUntil, "left", remaining.Round(time.Second))
	default:
		t.logger.Error("the certificate has expired, clients reject it", "for", names, "good_until", goodUntil)
	}
}

// due reports whether a warning about a certificate that expires at notAfter is due. If so, it
// records the warning and schedules the next.
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
