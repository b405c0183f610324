// Package certs holds the certificates of a server that speaks TLS, and takes up new ones
// while it runs: those of connections that there are stay as they were.
package certs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/keyfile"
)

// Files names the files of a server, all in PEM.
type Files struct {
	Cert     string // its certificate, and those between it and the authority
	Key      string // the private key of that
	ClientCA string // authorities of which every client must show a certificate; "": clients need none
}

// CertInfo is what a server shows.
type CertInfo struct {
	Names    []string  // for which the certificate is
	NotAfter time.Time // when it ends to be good
}

// Set is what the files hold, and how TLS is spoken with it. It does not change.
type Set struct {
	files      Files
	minVersion uint16
	alpn       []string
	sum        [sha256.Size]byte // of the files
	config     *tls.Config
	certInfo   CertInfo
	ignored    []string
}

// Ignored returns a sentence for each part of the files that is not used, which names it and says
// why.
func (s *Set) Ignored() []string { return s.ignored }

// Read reads the files. least is the oldest version of TLS that is spoken
// (tls.VersionTLS13), protocols are those that the server offers by ALPN.
func Read(files Files, minVersion uint16, protocols ...string) (*Set, error) {
	cert, err := keyfile.Read(files.Cert, keyfile.MaxBytes)
	if err != nil {
		return nil, err
	}
	key, err := keyfile.Read(files.Key, keyfile.MaxBytes)
	if err != nil {
		return nil, err
	}
	var ca []byte
	if files.ClientCA != "" {
		if ca, err = keyfile.Read(files.ClientCA, keyfile.MaxBytes); err != nil {
			return nil, err
		}
	}
	s := &Set{files: files, minVersion: minVersion, alpn: protocols, sum: sha256.Sum256(bytes.Join([][]byte{cert, key, ca}, []byte{0}))}
	if err := s.parse(cert, key, ca); err != nil {
		return nil, err
	}
	return s, nil
}

// parse makes a configuration of what the files say.
func (s *Set) parse(cert, key, ca []byte) error {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s and %s are not a certificate and its key: %w", s.files.Cert, s.files.Key, err)
	}
	s.config = &tls.Config{
		MinVersion: s.minVersion, NextProtos: s.alpn, Certificates: []tls.Certificate{pair},
		// Small records at the beginning help who can use a part of a message.
		DynamicRecordSizingDisabled: true,
	}
	if s.files.ClientCA != "" {
		if s.config.ClientCAs, s.ignored, err = parsePool(s.files.ClientCA, ca); err != nil {
			return err
		}
		s.config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	s.certInfo = CertInfo{append([]string(nil), pair.Leaf.DNSNames...), pair.Leaf.NotAfter}
	for _, ip := range pair.Leaf.IPAddresses {
		s.certInfo.Names = append(s.certInfo.Names, ip.String())
	}
	return nil
}

// Store is the certificates of a server that runs. All methods may be called concurrently.
type Store struct {
	current atomic.Pointer[Set]
	mu      sync.Mutex // one change at a time
}

// NewStore returns a store of one set.
func NewStore(set *Set) *Store {
	s := new(Store)
	s.current.Store(set)
	return s
}

// Config returns the configuration of a server. Each new connection is served with the
// certificates of its moment.
func (s *Store) Config() *tls.Config {
	return &tls.Config{
		// The keys of session tickets are those of the configuration around it, so
		// they outlive a change.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.current.Load().config, nil
		},
	}
}

// Ignored returns what is not used of the files: see Set.Ignored.
func (s *Store) Ignored() []string { return s.current.Load().ignored }

// CertInfo returns what new connections are shown.
func (s *Store) CertInfo() CertInfo { return s.current.Load().certInfo }

// Replace takes another set from now on. It reports whether new connections are shown another
// certificate for it.
func (s *Store) Replace(next *Set) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current.Swap(next).sum != next.sum
}

// Reload reads the files again. It reports whether they have changed. With an error,
// everything stays as it was.
func (s *Store) Reload() (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	current := s.current.Load()
	next, err := Read(current.files, current.minVersion, current.alpn...)
	if err != nil || next.sum == current.sum {
		return false, err
	}
	s.current.Store(next)
	return true, nil
}

// ReadPool reads the certificates of authorities, in PEM. It also returns a sentence for each part of
// the file that is not used, which names it and says why.
func ReadPool(file string) (authorities *x509.CertPool, ignored []string, err error) {
	text, err := keyfile.Read(file, keyfile.MaxBytes)
	if err != nil {
		return nil, nil, err
	}
	return parsePool(file, text)
}

func parsePool(file string, text []byte) (authorities *x509.CertPool, ignored []string, err error) {
	authorities = x509.NewCertPool()
	used := 0
	blocks, broken := keyfile.Blocks(text)
	for i, block := range blocks {
		cert, err := parseCertificate(block)
		if err != nil {
			ignored = append(ignored, fmt.Sprintf("%s: block %d: %v", file, i+1, err))
			continue
		}
		authorities.AddCert(cert)
		used++
	}
	if broken > 0 {
		ignored = append(ignored, file+": "+keyfile.Undecoded(broken))
	}
	switch {
	case len(ignored) == 0 && len(blocks) == 0:
		return nil, nil, fmt.Errorf("%s holds no certificate in PEM", file)
	case used == 0:
		return nil, nil, fmt.Errorf("%s holds no certificate that can be used: %s", file, strings.Join(ignored[:min(3, len(ignored))], "; "))
	}
	return authorities, ignored, nil
}

// parseCertificate returns the certificate in a block of PEM.
func parseCertificate(block *pem.Block) (*x509.Certificate, error) {
	if block.Type != "CERTIFICATE" || len(block.Headers) > 0 {
		return nil, fmt.Errorf("it is a %.60s, not a plain CERTIFICATE", block.Type)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("it cannot be read as a certificate: %w", err)
	}
	return cert, nil
}

// ReadPair reads a certificate and its key, in PEM.
func ReadPair(cert, key string) (tls.Certificate, error) {
	certPEM, err := keyfile.Read(cert, keyfile.MaxBytes)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := keyfile.Read(key, keyfile.MaxBytes)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		err = fmt.Errorf("%s and %s are not a certificate and its key: %w", cert, key, err)
	}
	return pair, err
}

// WatchFiles looks at the files now and then and reloads them when they have changed, until ctx
// ends. report is told of each change, and of an error once until there is another one, or
// none. Files are compared by what is in them: names that lead elsewhere, as in volumes of
// containers, are noticed as well.
func (s *Store) WatchFiles(ctx context.Context, interval time.Duration, report func(error)) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	lastError := ""
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		changed, err := s.Reload()
		switch {
		case err != nil && err.Error() != lastError:
			lastError = err.Error()
			report(err)
		case err == nil:
			lastError = ""
			if changed {
				report(nil)
			}
		}
	}
}
