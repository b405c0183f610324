package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
)

// tlsFiles are the paths of the TLS files. Without them TLS is not used.
type tlsFiles struct {
	cert, key string
	ca        string
}

// serverConfig returns the TLS configuration of the writing process, nil without TLS.
func (f tlsFiles) serverConfig() (*tls.Config, error) {
	if f.cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, DynamicRecordSizingDisabled: true, Certificates: []tls.Certificate{pair}}, nil
}

// clientConfig returns the TLS configuration of the reading process, nil without TLS.
func (f tlsFiles) clientConfig() (*tls.Config, error) {
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

// handshake completes the TLS handshake, if c is a TLS connection.
func handshake(c net.Conn) error {
	if tlsConn, ok := c.(*tls.Conn); ok {
		return tlsConn.Handshake()
	}
	return nil
}
