package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/certs"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/hubctl"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/command/simulation"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// startTLSServer starts a hub with TLS and returns its port and the file of its CA certificate.
func startTLSServer(t *testing.T, args ...string) (s *programtest.Running, port, ca string) {
	t.Helper()
	return programtest.StartTLSServer(t, Run, args...)
}

// TestTLS_EndToEnd connects all client programs to a hub over TLS.
func TestTLS_EndToEnd(t *testing.T) {
	s, port, ca := startTLSServer(t, "-admin=127.0.0.1:0")
	s.WaitForLine(&s.Stderr, "TLS enabled")
	var event struct{ Addr string }
	if err := json.Unmarshal([]byte(s.WaitForLine(&s.Stderr, "admin address open")), &event); err != nil {
		t.Fatal(err)
	}
	if _, text := httpGet(t, event.Addr, "/metrics", ""); !strings.Contains(text, "\nmessagehub_certificate_not_after_timestamp_seconds ") {
		t.Errorf("the metric of the certificate expiry is missing: %s", text)
	}
	got := programtest.RunWithStdin(hubctl.Run, "hello", "send", "-addr=hubs://localhost:"+port, "-ca="+ca, "-to=12345")
	programtest.CheckResult(t, got, hubctl.ExitUndelivered, "12345  unknown\n", "0 of 1 receiver")
	got = programtest.Run(hubctl.Run, "ping", "-addr=hubs://127.0.0.1", "-port="+port, "-ca="+ca, "-n=1")
	if got.Code != command.ExitOK {
		t.Errorf("ping: %+v", got)
	}
	for _, more := range [][]string{nil, {"-protocol=2", "-report=received", "-reconnect=2"}} {
		args := append([]string{"-addr=hubs://localhost:" + port, "-ca=" + ca, "-ncli=5", "-nmex=50", "-i=0", "-stat=false"}, more...)
		if got := programtest.Run(simulation.Run, args...); got.Code != command.ExitOK {
			t.Errorf("the simulation with %v: %+v", more, got)
		}
	}
}

func TestTLSFlags_Invalid(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	cert, key := authority.IssueLocal().WriteFiles(t)
	for want, args := range map[string][]string{
		"requires -tls-cert and -tls-key":   {"-tls-cert=" + cert},
		"are not a certificate and its key": {"-tls-cert=" + key, "-tls-key=" + cert},
		"no such file":                      {"-tls-cert=" + cert, "-tls-key=" + key + "x"},
		"holds no certificate":              {"-tls-cert=" + cert, "-tls-key=" + key, "-tls-client-ca=" + key},
		"1.2 and 1.3":                       {"-tls-min=1.1"},
	} {
		got := programtest.Run(Run, append(args, "-addr=127.0.0.1", "-port=0")...)
		if got.Code != command.ExitUsage || !strings.Contains(got.Stderr, want) {
			t.Errorf("%v: exit code %d, %s\nwant %q", args, got.Code, got.Stderr, want)
		}
	}
}

// TestCheck_WarnsOfExpiringCertificate checks that -check warns of a valid certificate that
// expires soon.
func TestCheck_WarnsOfExpiringCertificate(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	for until, want := range map[time.Duration]string{-time.Hour: "is valid only until 2", time.Hour: "is valid only until 2", 100 * 24 * time.Hour: ""} {
		cert, key := authority.Issue(time.Now().Add(until), "localhost").WriteFiles(t)
		got := programtest.Run(Run, "-check", "-tls-cert="+cert, "-tls-key="+key)
		if got.Code != command.ExitOK || want == "" && got.Stderr != "" || !strings.Contains(got.Stderr, want) {
			t.Errorf("%v before the expiry: %+v", until, got)
		}
	}
}

// TestTLS_WarnsOfIgnoredAuthorities checks the warnings at the start, by -check, at a reload,
// and by hubctl.
func TestTLS_WarnsOfIgnoredAuthorities(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	cert, key := authority.IssueLocal().WriteFiles(t)
	ca := authority.WriteFile()
	good, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	foreign := func(kind string) []byte {
		return []byte("\ufeff-----BEGIN " + kind + "-----\nMA==\n-----END " + kind + "-----\n" + string(good))
	}
	programtest.WriteFile(t, ca, foreign("FIRST"))
	args := []string{"-tls-cert=" + cert, "-tls-key=" + key, "-tls-client-ca=" + ca}
	const first = "block 1: it is a FIRST, not a plain CERTIFICATE"
	if got := programtest.Run(Run, append(args, "-check")...); got.Code != command.ExitOK || !strings.Contains(got.Stderr, first) {
		t.Errorf("-check: %+v", got)
	}
	s, port := startServer(t, args...)
	if text := s.Stderr.String(); !strings.Contains(text, first) {
		t.Errorf("at the start: %s", text)
	}
	clientCert, clientKey := authority.Issue(time.Now().Add(time.Hour), "alice").WriteFiles(t)
	got := programtest.Run(hubctl.Run, "list", "-addr=hubs://localhost:"+port, "-ca="+ca, "-cert="+clientCert, "-key="+clientKey)
	if got.Code != command.ExitOK || !strings.Contains(got.Stderr, "-ca: ignored: "+ca+": "+first) {
		t.Errorf("hubctl: %+v", got)
	}
	programtest.WriteFile(t, ca, foreign("SECOND"))
	s.Reload("part of a certificate file is ignored")
}

// TestTLS_ReloadsCertificate checks that the hub reloads a new certificate while it serves,
// and rejects an invalid one.
func TestTLS_ReloadsCertificate(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	cert, key := authority.IssueLocal().WriteFiles(t)
	s, port := startServer(t, "-tls-cert="+cert, "-tls-key="+key)
	ping := func() programtest.Result {
		return programtest.Run(hubctl.Run, "ping", "-addr=hubs://localhost:"+port, "-ca="+authority.WriteFile(), "-n=1")
	}
	expiring := authority.Issue(time.Now().Add(2*time.Hour), "soon.example")
	programtest.WriteFile(t, cert, expiring.Cert)
	s.Reload("the old settings remain in effect")
	if got := ping(); got.Code != command.ExitOK {
		t.Errorf("with the old one: %+v", got)
	}
	programtest.WriteFile(t, key, expiring.Key)
	s.Reload("certificate reloaded")
	s.WaitForLine(&s.Stderr, `"the certificate expires soon","for":"soon.example"`)
	if got := ping(); got.Code == command.ExitOK || !strings.Contains(got.Stderr, "its certificate is for soon.example") {
		t.Errorf("with the new one: %+v", got)
	}
	s.WaitForLine(&s.Stderr, "client disconnected") // can be logged after the client has exited
	if n := strings.Count(s.Stderr.String(), "client disconnected"); n != 1 {
		t.Errorf("%d clients are disconnected, want 1", n)
	}
}

// TestTLSReloader_ExpiryReminders counts the warnings of a certificate that expires: few
// before the expiry, and more after it.
func TestTLSReloader_ExpiryReminders(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	synctest.Test(t, func(t *testing.T) {
		var log programtest.Output
		begin := time.Now()
		read := func(until time.Time) *certs.Set {
			cert, key := authority.Issue(until, "hub.example").WriteFiles(t)
			set, err := certs.Read(certs.Files{Cert: cert, Key: key}, tls.VersionTLS13)
			if err != nil {
				t.Fatal(err)
			}
			return set
		}
		reloader := &tlsReloader{
			store:  certs.NewStore(read(begin.Add(17 * 24 * time.Hour))),
			logger: settings.NewLogger(&log, settings.LogText, slog.LevelInfo),
		}
		ctx, cancel := context.WithCancel(t.Context())
		go reloader.expiryLoop(ctx) // ends with ctx
		expiring, expired := 0, 0
		after := func(days float64, moreExpiring, moreExpired int) {
			t.Helper()
			time.Sleep(time.Until(begin.Add(time.Duration(days * 24 * float64(time.Hour)))))
			synctest.Wait()
			expiring, expired = expiring+moreExpiring, expired+moreExpired
			text := log.String()
			if a, b := strings.Count(text, "WARN msg=\"the certificate expires soon"), strings.Count(text, "ERROR msg=\"the certificate has expired"); a != expiring || b != expired {
				t.Errorf("after %v days: %d and %d lines, want %d and %d\n%s", days, a, b, expiring, expired, text)
			}
		}
		after(2.9, 0, 0)
		after(3.1, 1, 0)
		after(16.9, 13, 0)
		after(17.03, 0, 1)
		after(18.03, 0, 24)
		reloader.store.Replace(read(begin.Add(20 * 24 * time.Hour)))
		after(18.04, 1, 0)
		reloader.store.Replace(read(begin.Add(100 * 24 * time.Hour)))
		after(30, 0, 0)
		if got := reloader.notAfterFunc()(); !got.Equal(begin.Add(100 * 24 * time.Hour)) {
			t.Errorf("notAfterFunc returns %v", got)
		}
		cancel()
		synctest.Wait()
	})
}

// TestTLS_NeedsRestart checks that enabling TLS requires a restart.
func TestTLS_NeedsRestart(t *testing.T) {
	t.Setenv("HUB_TLS_MIN", "1.2")
	s, _ := startServer(t)
	cert, key := testcerts.NewAuthority(t).IssueLocal().WriteFiles(t)
	t.Setenv("HUB_TLS_CERT", cert)
	t.Setenv("HUB_TLS_KEY", key)
	s.Reload("enabling or disabling TLS requires a restart")
}

// TestReminder_UsesWallClock checks that the next warning is scheduled by the wall clock,
// which includes the time that the machine sleeps.
func TestReminder_UsesWallClock(t *testing.T) {
	r, now := new(reminder), time.Now()
	if !r.due(now.Add(time.Hour), now) {
		t.Fatal("no warning of a certificate that expires soon")
	}
	if r.nextAt != r.nextAt.Round(0) {
		t.Errorf("the next warning is due at %v, which has a monotonic clock reading", r.nextAt)
	}
}
