package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/certs"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
)

// handshake connects to a server with s, and returns the certificate of the server.
func handshake(t *testing.T, s *certs.Store, client *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served := make(chan error, 1)
	go func() { // ends with the connection, or the listener
		nc, err := ln.Accept()
		if err == nil {
			defer nc.Close()
			err = tls.Server(nc, s.Config()).Handshake()
		}
		served <- err
	}()
	c, err := tls.Dial("tcp", ln.Addr().String(), client)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	// In TLS 1.3 the client finishes its handshake before the server verifies its certificate.
	if err := <-served; err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

func loadStore(files certs.Files, minVersion uint16) (*certs.Store, error) {
	set, err := certs.Read(files, minVersion)
	return certs.NewStore(set), err
}

func TestStore_Reload(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	first, second := authority.Issue(time.Now().Add(time.Hour), "first.example", "127.0.0.1"), authority.Issue(time.Now().Add(2*time.Hour), "second.example")
	cert, key := first.WriteFiles(t)
	s, err := loadStore(certs.Files{Cert: cert, Key: key}, tls.VersionTLS13)
	if err != nil {
		t.Fatal(err)
	}
	wantCert := func(name string) {
		t.Helper()
		got, err := handshake(t, s, &tls.Config{RootCAs: authority.Pool(), ServerName: name})
		if err != nil || got.DNSNames[0] != name || s.CertInfo().Names[0] != name || !s.CertInfo().NotAfter.Equal(got.NotAfter) {
			t.Errorf("%s: %v, CertInfo %v", name, err, s.CertInfo())
		}
	}
	wantCert("first.example")
	if changed, err := s.Reload(); changed || err != nil {
		t.Errorf("without a change: %v, %v", changed, err)
	}
	writeFile(t, cert, second.Cert)
	if changed, err := s.Reload(); changed || err == nil || !strings.Contains(err.Error(), cert) {
		t.Errorf("with the key of another certificate: %v, %v", changed, err)
	}
	wantCert("first.example")
	writeFile(t, key, second.Key)
	if changed, err := s.Reload(); !changed || err != nil {
		t.Errorf("with a new certificate and its key: %v, %v", changed, err)
	}
	wantCert("second.example")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reload(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a key: %v", err)
	}
	wantCert("second.example")
}

func writeFile(t *testing.T, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestStore_RequiresClientCertificate(t *testing.T) {
	authority, other := testcerts.NewAuthority(t), testcerts.NewAuthority(t)
	cert, key := authority.IssueLocal().WriteFiles(t)
	s, err := loadStore(certs.Files{Cert: cert, Key: key, ClientCA: other.WriteFile()}, tls.VersionTLS13)
	if err != nil {
		t.Fatal(err)
	}
	config := func(pairs ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost", Certificates: pairs}
	}
	if _, err := handshake(t, s, config(other.Issue(time.Now().Add(time.Hour), "client").TLS(t))); err != nil {
		t.Errorf("certificate of the authority: %v", err)
	}
	for name, c := range map[string]*tls.Config{
		"missing":                   config(),
		"of another authority":      config(authority.IssueLocal().TLS(t)),
		"that has expired":          config(other.Issue(time.Now().Add(-time.Hour), "client").TLS(t)),
		"and a TLS version too old": {RootCAs: authority.Pool(), ServerName: "localhost", MaxVersion: tls.VersionTLS12},
	} {
		if _, err := handshake(t, s, c); err == nil {
			t.Errorf("a client with a certificate %s is accepted", name)
		}
	}
}

func TestRead_Invalid(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	cert, key := authority.IssueLocal().WriteFiles(t)
	for name, files := range map[string]certs.Files{
		"the key of the cert": {Cert: cert, Key: cert},
		"no such file":        {Cert: cert + "x", Key: key},
		"no such authority":   {Cert: cert, Key: key, ClientCA: "nothing"},
		"an authority of key": {Cert: cert, Key: key, ClientCA: key},
	} {
		if _, err := certs.Read(files, tls.VersionTLS13); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := certs.ReadPair(cert, cert); err == nil || !strings.Contains(err.Error(), cert) {
		t.Errorf("a pair without a key: %v", err)
	}
	if _, _, err := certs.ReadPool(key); err == nil || !strings.Contains(err.Error(), "it is a PRIVATE KEY") {
		t.Errorf("a key is accepted as an authority: %v", err)
	}
}

// TestWatch checks that WatchFiles reports a change, and the same error once.
func TestWatch(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	pair := authority.IssueLocal()
	cert, key := pair.WriteFiles(t)
	s, err := loadStore(certs.Files{Cert: cert, Key: key}, tls.VersionTLS13)
	if err != nil {
		t.Fatal(err)
	}
	newer := authority.Issue(time.Now().Add(3*time.Hour), "newer.example")
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var reports []error
		go s.WatchFiles(ctx, time.Second, func(err error) { reports = append(reports, err) })
		wantReports := func(want int) {
			t.Helper()
			time.Sleep(10 * time.Second)
			synctest.Wait()
			if len(reports) != want {
				t.Errorf("reports %v, want %d", reports, want)
			}
		}
		wantReports(0)
		writeFile(t, cert, newer.Cert)
		wantReports(1)
		writeFile(t, key, newer.Key)
		wantReports(2)
		if reports[0] == nil || reports[1] != nil || s.CertInfo().Names[0] != "newer.example" {
			t.Errorf("reports %v, CertInfo %v", reports, s.CertInfo())
		}
		stop()
		synctest.Wait()
	})
}

// TestRead_TextAroundPEM reads files with the additions of editors and openssl.
func TestRead_TextAroundPEM(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	pair := authority.IssueLocal()
	ca, err := os.ReadFile(authority.WriteFile())
	if err != nil {
		t.Fatal(err)
	}
	for name, around := range map[string]func([]byte) []byte{
		"a byte order mark":           func(b []byte) []byte { return append([]byte("\ufeff"), b...) },
		"text":                        func(b []byte) []byte { return append([]byte("Bag Attributes\n    localKeyID: 01\n"), b...) },
		"both, with lines of Windows": func(b []byte) []byte { return []byte("\ufeffx\r\n" + strings.ReplaceAll(string(b), "\n", "\r\n")) },
	} {
		cert, key := testcerts.Pair{Cert: around(pair.Cert), Key: around(pair.Key)}.WriteFiles(t)
		file := authority.WriteFile()
		writeFile(t, file, around(ca))
		set, err := certs.Read(certs.Files{Cert: cert, Key: key, ClientCA: file}, tls.VersionTLS13)
		if err != nil || len(set.Ignored()) != 0 {
			t.Errorf("%s before each: %v", name, err)
		}
		if _, err := certs.ReadPair(cert, key); err != nil {
			t.Errorf("%s before a pair: %v", name, err)
		}
	}
}

// TestReadPool_IgnoresUnusable checks that ReadPool ignores blocks that it cannot use, and
// returns a text for each.
func TestReadPool_IgnoresUnusable(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	ca, err := os.ReadFile(authority.WriteFile())
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(ca), "MI", "!!", 1)
	for want, others := range map[string]string{
		"block 1: it is a TRUSTED CERTIFICATE": "-----BEGIN TRUSTED CERTIFICATE-----\nMA==\n-----END TRUSTED CERTIFICATE-----\n",
		"block 1: it cannot be read":           "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
		"1 PEM block cannot be decoded":        broken,
		"2 PEM blocks cannot be decoded":       broken + broken,
	} {
		file := authority.WriteFile()
		writeFile(t, file, append([]byte(others), ca...))
		pool, ignored, err := certs.ReadPool(file)
		if err != nil || !pool.Equal(authority.Pool()) || len(ignored) != 1 || !strings.Contains(ignored[0], want) || !strings.HasPrefix(ignored[0], file) {
			t.Errorf("%v, ignored %q, want one text with %q", err, ignored, want)
		}
		writeFile(t, file, []byte(others))
		if _, _, err := certs.ReadPool(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("alone: %v, want %q", err, want)
		}
	}
}
