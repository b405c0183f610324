package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/internal/tokens"
)

// secrets are what a hub with TLS and tokens needs, and its clients.
type secrets struct {
	cert, key, keys string // files
	trust           *tls.Config
	token           string
	signer          *tokens.Signer
}

// makeSecrets makes them anew.
func (p *programs) makeSecrets() (*secrets, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	s := &secrets{trust: &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.trust.RootCAs.AppendCertsFromPEM(cert)
	private, public, err := tokens.GenerateKey()
	if err != nil {
		return nil, err
	}
	if s.signer, err = tokens.ParseSigner(private); err != nil {
		return nil, err
	}
	if s.token, err = s.tokenFor(0); err != nil {
		return nil, err
	}
	for name, file := range map[string]struct {
		path *string
		text []byte
	}{
		"cert.pem": {&s.cert, cert}, "key.pem": {&s.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})}, "keys.pub": {&s.keys, public},
	} {
		if *file.path, err = p.write(name, string(file.text)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// flags are those of start_server for them.
func (s *secrets) flags() []string {
	return []string{"-tls-cert=" + s.cert, "-tls-key=" + s.key, "-auth-keys=" + s.keys}
}

// tokenFor returns a token for a client with an id, or without one.
func (s *secrets) tokenFor(id uint64) (string, error) {
	claims := &tokens.Claims{Subject: fmt.Sprint("bench-", id), ID: id, Until: time.Now().Add(24 * time.Hour)}
	return s.signer.Sign(claims, tokens.Issuer{}, time.Now())
}
