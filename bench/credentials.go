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
	"strconv"
	"time"

	"github.com/sechlol/go-message-hub/internal/tokens"
)

// credentials are the keys and tokens of a hub with TLS and authentication, and of its
// clients.
type credentials struct {
	certFile, keyFile, authKeysFile string // paths
	clientTLS                       *tls.Config
	token                           string
	signer                          *tokens.Signer
}

// newCredentials makes new credentials, with files in the folder of p.
func newCredentials(p *programs) (*credentials, error) {
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
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	creds := &credentials{clientTLS: &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	creds.clientTLS.RootCAs.AppendCertsFromPEM(cert)
	private, public, err := tokens.GenerateKey()
	if err != nil {
		return nil, err
	}
	if creds.signer, err = tokens.ParseSigner(private); err != nil {
		return nil, err
	}
	if creds.token, err = creds.tokenFor(0); err != nil {
		return nil, err
	}
	for name, file := range map[string]struct {
		path *string
		text []byte
	}{
		"cert.pem": {&creds.certFile, cert}, "key.pem": {&creds.keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})}, "keys.pub": {&creds.authKeysFile, public},
	} {
		if *file.path, err = p.writeFile(name, string(file.text)); err != nil {
			return nil, err
		}
	}
	return creds, nil
}

// serverFlags returns the flags that make start_server use the credentials.
func (creds *credentials) serverFlags() []string {
	return []string{"-tls-cert=" + creds.certFile, "-tls-key=" + creds.keyFile, "-auth-keys=" + creds.authKeysFile}
}

// tokenFor returns a token for a client with an id, or without one if id is 0.
func (creds *credentials) tokenFor(id uint64) (string, error) {
	claims := &tokens.Claims{Subject: fmt.Sprint("bench-", id), ID: id, Expires: time.Now().Add(24 * time.Hour)}
	return creds.signer.Sign(claims, tokens.Issuer{}, time.Now())
}

// makeAuthKeys makes a key pair. It returns the file with the public key, and tokens for n
// subjects signed with the private key.
func makeAuthKeys(p *programs, name string, n int) (file string, signed []string, err error) {
	private, public, err := tokens.GenerateKey()
	if err != nil {
		return "", nil, err
	}
	signer, err := tokens.ParseSigner(private)
	if err != nil {
		return "", nil, err
	}
	now := time.Now()
	for i := range n {
		token, err := signer.Sign(&tokens.Claims{Subject: name + "-" + strconv.Itoa(i), Expires: now.Add(time.Hour)}, tokens.Issuer{}, now)
		if err != nil {
			return "", nil, err
		}
		signed = append(signed, token)
	}
	file, err = p.writeFile(name+".pub", string(public))
	return file, signed, err
}
