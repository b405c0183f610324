// Package certs holds the certificates of a server that speaks TLS, and takes up new ones
// while it runs: those of connections that there are stay as they were.
package certs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Files names the files of a server, all in PEM.
type Files struct {
	Cert     string // its certificate, and those between it and the authority
	Key      string // the private key of that
	ClientCA string // authorities of which every client must show a certificate; "": clients need none
}

// Identity is what a server shows.
type Identity struct {
	Names    []string  // for which the certificate is
	NotAfter time.Time // when it ends to be good
}

// Store is the certificates of a server. All methods may be called concurrently.
type Store struct {
	// Static after Load.
	files Files
	least uint16   // version of TLS
	alpn  []string // protocols

	current atomic.Pointer[loaded]

	mu   sync.Mutex // one reload at a time
	seen [sha256.Size]byte
}

// loaded is one set of files, read.
type loaded struct {
	config   *tls.Config
	identity Identity
}

// Load reads the files. least is the oldest version of TLS that is spoken
// (tls.VersionTLS13), protocols are those that the server offers by ALPN.
func Load(files Files, least uint16, protocols ...string) (*Store, error) {
	s := &Store{files: files, least: least, alpn: protocols}
	if _, err := s.Reload(); err != nil {
		return nil, err
	}
	return s, nil
}

// Config returns the configuration of a server. Each new connection is served with the
// certificates of its moment.
func (s *Store) Config() *tls.Config {
	return &tls.Config{
		MinVersion: s.least,
		NextProtos: s.alpn,
		// The keys of session tickets are those of the configuration around it, so
		// they outlive a reload.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.current.Load().config, nil
		},
	}
}

// Identity returns what new connections are shown.
func (s *Store) Identity() Identity { return s.current.Load().identity }

// Reload reads the files again. It reports whether they have changed. With an error,
// everything stays as it was.
func (s *Store) Reload() (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	cert, err := os.ReadFile(s.files.Cert)
	if err != nil {
		return false, err
	}
	key, err := os.ReadFile(s.files.Key)
	if err != nil {
		return false, err
	}
	var ca []byte
	if s.files.ClientCA != "" {
		if ca, err = os.ReadFile(s.files.ClientCA); err != nil {
			return false, err
		}
	}
	sum := sha256.Sum256(bytes.Join([][]byte{cert, key, ca}, []byte{0}))
	if s.current.Load() != nil && sum == s.seen {
		return false, nil
	}
	l, err := s.parse(cert, key, ca)
	if err != nil {
		return false, err
	}
	s.current.Store(l)
	s.seen = sum
	return true, nil
}

// parse makes a configuration of what the files say.
func (s *Store) parse(cert, key, ca []byte) (*loaded, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s are not a certificate and its key: %w", s.files.Cert, s.files.Key, err)
	}
	config := &tls.Config{MinVersion: s.least, NextProtos: s.alpn, Certificates: []tls.Certificate{pair}}
	if s.files.ClientCA != "" {
		if config.ClientCAs, err = pool(s.files.ClientCA, ca); err != nil {
			return nil, err
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	leaf := pair.Leaf
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return &loaded{config, Identity{names, leaf.NotAfter}}, nil
}

// Pool reads the certificates of authorities, in PEM.
func Pool(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return pool(file, text)
}

func pool(file string, text []byte) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return p, nil
}

// Pair reads a certificate and its key, in PEM.
func Pair(cert, key string) (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	var missing *os.PathError
	if err != nil && !errors.As(err, &missing) {
		err = fmt.Errorf("%s and %s are not a certificate and its key: %w", cert, key, err)
	}
	return pair, err
}

// Watch looks at the files now and then and reloads them when they have changed, until ctx
// ends. report is told of each change, and of an error once until there is another one, or
// none. Files are compared by what is in them: names that lead elsewhere, as in volumes of
// containers, are noticed as well.
func (s *Store) Watch(ctx context.Context, every time.Duration, report func(error)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		changed, err := s.Reload()
		switch {
		case err != nil && err.Error() != last:
			last = err.Error()
			report(err)
		case err == nil:
			last = ""
			if changed {
				report(nil)
			}
		}
	}
}
