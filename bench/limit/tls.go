package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
)

// files are those of TLS, which is spoken if they are given.
type files struct {
	cert, key string
	ca        string
}

// server returns the configuration of the writing process, nil without TLS.
func (f files) server() (*tls.Config, error) {
	if f.cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, DynamicRecordSizingDisabled: true, Certificates: []tls.Certificate{pair}}, nil
}

// client returns the configuration of the reading process, nil without TLS.
func (f files) client() (*tls.Config, error) {
	if f.ca == "" {
		return nil, nil
	}
	text, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, DynamicRecordSizingDisabled: true, ServerName: "127.0.0.1", RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, errors.New("no certificate in " + f.ca)
	}
	return config, nil
}

// shake waits for the end of the handshake, where there is one.
func shake(c net.Conn) error {
	if secure, ok := c.(*tls.Conn); ok {
		return secure.Handshake()
	}
	return nil
}
