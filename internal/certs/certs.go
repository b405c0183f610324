// Package certs reads the certificates of a TLS server from files, and reads them again while the
// server runs. New connections use the new certificates. Open connections are not affected.
//
// It does not listen and does not accept connections. A connection uses a Store once, in its TLS
// handshake, before the first message.
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

// Files are the names of the files of a TLS server, all in PEM.
type Files struct {
	Cert     string // certificate of the server, followed by intermediate certificates
	Key      string // private key of the certificate
	ClientCA string // authorities of client certificates; "": clients need no certificate
}

// CertInfo describes the certificate of a server.
type CertInfo struct {
	Names    []string  // DNS names and IP addresses of the certificate
	NotAfter time.Time // expiry of the certificate
}

// Set is the content of the files and the TLS configuration made from it. It is immutable.
type Set struct {
	files      Files
	minVersion uint16
	alpn       []string
	sum        [sha256.Size]byte // hash of the content of the files
	config     *tls.Config
	certInfo   CertInfo
	ignored    []string
}

// Ignored returns a text for each part of the files that is not used, with its name and the
// reason.
func (s *Set) Ignored() []string { return s.ignored }

// Read reads the files. minVersion is the minimum TLS version, such as tls.VersionTLS13.
// protocols are the protocols that the server offers by ALPN.
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

// parse sets the configuration from the content of the files.
func (s *Set) parse(cert, key, ca []byte) error {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s and %s are not a certificate and its key: %w", s.files.Cert, s.files.Key, err)
	}
	s.config = &tls.Config{
		MinVersion: s.minVersion, NextProtos: s.alpn, Certificates: []tls.Certificate{pair},
		// Small records at the beginning of a connection help only peers that can use a part of
		// a message.
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

// Store is the current Set of a running server. All methods are safe for concurrent use.
type Store struct {
	current atomic.Pointer[Set]
	mu      sync.Mutex // serializes changes
}

// NewStore returns a Store of set.
func NewStore(set *Set) *Store {
	s := new(Store)
	s.current.Store(set)
	return s
}

// Config returns a TLS configuration for the server. Each new connection uses the Set that is
// current at its handshake.
func (s *Store) Config() *tls.Config {
	return &tls.Config{
		// The keys of session tickets are those of the outer configuration. They therefore
		// stay valid when the Set changes.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.current.Load().config, nil
		},
	}
}

// ConfigFor is Config for a server that offers other protocols by ALPN.
func (s *Store) ConfigFor(protocols ...string) *tls.Config {
	return &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			config := s.current.Load().config.Clone()
			config.NextProtos = protocols
			return config, nil
		},
	}
}

// Ignored returns Set.Ignored of the current Set.
func (s *Store) Ignored() []string { return s.current.Load().ignored }

// CertInfo describes the certificate for new connections.
func (s *Store) CertInfo() CertInfo { return s.current.Load().certInfo }

// Replace makes next the current Set. It reports whether the content of the files differs from
// that of the Set before.
func (s *Store) Replace(next *Set) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current.Swap(next).sum != next.sum
}

// Reload reads the files again. It reports whether their content has changed. On error the
// current Set stays.
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

// ReadPool reads the certificates of authorities from a PEM file. It also returns a text for
// each part of the file that is not used, with its name and the reason.
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

// parseCertificate returns the certificate in a PEM block.
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

// ReadPair reads a certificate and its private key from PEM files.
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

// WatchFiles calls Reload once per interval until ctx ends. It calls report with nil after
// each change, and with each error whose text differs from that of the Reload before. Reload
// compares the content of the files, and therefore also notices symbolic links with a new
// target, as in container volumes.
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
