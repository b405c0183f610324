package command

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/certs"
	"github.com/sechlol/go-message-hub/wire"
)

// hubFlags are the settings that name a hub and say how to connect to the hub.
type hubFlags struct {
	settings *settings
	addr     string
	port     int
	ca       string
	cert     string
	key      string
	token    tokenFlags
}

const tlsScheme = client.SchemeTLS + "://"

// addFlags adds the settings to s.
func (f *hubFlags) addFlags(s *settings) {
	f.settings = s
	addSetting(s, &f.addr, "addr", "localhost", hubAddress(), "host of the hub, or host:port; the prefix hubs:// selects TLS")
	addSetting(s, &f.port, "port", wire.DefaultPort, intRange(1, math.MaxUint16), "port of the hub")
	addSetting(s, &f.ca, "ca", "", filePath(), "file with the CA certificates that verify a hub with TLS;\nempty: those of the system")
	addSetting(s, &f.cert, "cert", "", filePath(), "file with the client certificate for a hub with TLS, read\nat each connection")
	addSetting(s, &f.key, "key", "", filePath(), "file with the private key of -cert")
	f.token.addFlags(s)
}

// explicitFlags returns the settings that have a value other than the default, with the source
// of each value.
func (f *hubFlags) explicitFlags() (names []string) {
	for _, name := range []string{"addr", "port", "ca", "cert", "key", "token", "token-file"} {
		if f.settings.isSet(name) {
			names = append(names, fmt.Sprintf("-%s (%s)", name, f.settings.lookup(name).origin))
		}
	}
	return names
}

// parsedAddr returns -addr.
func (f *hubFlags) parsedAddr() client.Address {
	a, err := client.ParseAddress(f.addr)
	if err != nil {
		panic(err) // cannot happen: hubAddress has checked the value
	}
	return a
}

// address returns -addr, with the port of -port if -addr has none.
func (f *hubFlags) address() client.Address {
	a := f.parsedAddr()
	if a.Port == 0 {
		a.Port = f.port
	}
	return a
}

// usesTLS reports whether the connection uses TLS.
func (f *hubFlags) usesTLS() bool { return f.address().TLS() }

// hostPort returns the address of the hub in the form that net.Dial expects.
func (f *hubFlags) hostPort() string { return f.address().HostPort() }

// String returns the address in the form that users write.
func (f *hubFlags) String() string {
	if f.usesTLS() {
		return tlsScheme + f.hostPort()
	}
	return f.hostPort()
}

// credentialsHint returns advice for a client that a hub has rejected without credentials. It
// returns "" if the client had a token or a certificate.
func (f *hubFlags) credentialsHint() string {
	switch {
	case f.cert != "" || f.token.tokenFunc() != nil:
		return ""
	case f.usesTLS():
		return "; set a token with -token-file, or a certificate with -cert and -key"
	}
	return "; set a token with -token-file"
}

// tlsConfig returns the TLS configuration of the connection, or nil for a connection without
// TLS. Its errors are sentences for users.
func (f *hubFlags) tlsConfig() (*tls.Config, error) {
	if err := f.validate(); err != nil {
		return nil, err
	}
	switch {
	case !f.usesTLS() && (f.ca != "" || f.cert != "" || f.key != ""):
		return nil, fmt.Errorf("-ca, -cert and -key require TLS: set -addr=%s", f.addrWithTLS())
	case !f.usesTLS():
		return nil, nil
	case (f.cert == "") != (f.key == ""):
		return nil, errors.New("-cert and -key belong together: a certificate and its private key")
	}
	host, _, err := net.SplitHostPort(f.hostPort())
	if err != nil {
		return nil, err
	}
	config := &tls.Config{ServerName: host}
	if f.ca != "" {
		var ignored []string
		if config.RootCAs, ignored, err = certs.ReadPool(f.ca); err != nil {
			return nil, fmt.Errorf("-ca: %w", err)
		}
		f.settings.warnIgnored("-ca", ignored)
	}
	if f.cert != "" {
		if _, err := certs.ReadPair(f.cert, f.key); err != nil {
			return nil, fmt.Errorf("-cert and -key: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := certs.ReadPair(f.cert, f.key) // the files can have changed
			return &pair, err
		}
	}
	return config, nil
}

// addrWithTLS returns -addr with the scheme of TLS.
func (f *hubFlags) addrWithTLS() string {
	a := f.parsedAddr()
	a.Scheme = client.SchemeTLS
	return a.String()
}

// validate returns an error if the port or the token is set twice.
func (f *hubFlags) validate() error {
	if f.parsedAddr().Port != 0 && f.settings.isSet("port") {
		return fmt.Errorf("-addr=%s includes a port: remove -port", f.addr)
	}
	return f.token.validate()
}

// explainTLSError returns a sentence that says why the TLS handshake with a hub failed and
// what to do about that. It returns "" if err is not an error of TLS.
func explainTLSError(err error) string {
	var unknownAuthority x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var invalidCert x509.CertificateInvalidError
	var notTLS tls.RecordHeaderError
	var remoteErr *net.OpError
	switch {
	case errors.As(err, &unknownAuthority):
		return "its certificate is signed by an unknown authority: set the authority with -ca"
	case errors.As(err, &wrongName):
		return fmt.Sprintf("its certificate is for %s, not for %s", certNames(wrongName.Certificate), wrongName.Host)
	case errors.As(err, &invalidCert) && invalidCert.Reason == x509.Expired:
		return describeValidity(invalidCert.Cert)
	case errors.As(err, &invalidCert):
		return "its certificate is invalid: " + strings.TrimPrefix(invalidCert.Error(), "x509: ")
	case errors.As(err, &notTLS):
		return "the server does not speak TLS: remove hubs://, or check the port"
	case errors.As(err, &remoteErr) && remoteErr.Op == "remote error":
		switch text := remoteErr.Err.Error(); {
		case strings.Contains(text, "certificate required"):
			return "the hub requires a client certificate: set -cert and -key"
		case strings.Contains(text, "protocol version"):
			return "the server supports only other versions of TLS"
		case strings.Contains(text, "no application protocol"):
			return "the server speaks TLS, but is not a hub"
		case strings.Contains(text, "certificate"), strings.Contains(text, "unknown certificate authority"):
			return "the hub rejected the certificate of -cert: " + strings.TrimPrefix(text, "tls: ")
		default:
			return text
		}
	case errors.Is(err, client.ErrTLS) && !errors.Is(err, context.DeadlineExceeded):
		return "the server ended the handshake: it does not speak TLS (then remove hubs://), is full, or is shutting down"
	}
	return ""
}

// describeValidity returns a sentence with the start or the end of the validity of c.
func describeValidity(c *x509.Certificate) string {
	if now := time.Now(); now.Before(c.NotBefore) {
		return fmt.Sprintf("its certificate is valid only from %s on; the local time is %s",
			c.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return "its certificate expired at " + c.NotAfter.UTC().Format(time.RFC3339)
}

// certNames returns the DNS names and IP addresses of c.
func certNames(c *x509.Certificate) string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no name"
	}
	return strings.Join(names, ", ")
}
