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

// hubFlags is a hub that a program speaks to.
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

// addFlags adds the settings that name the hub and say how to trust it.
func (f *hubFlags) addFlags(s *settings) {
	f.settings = s
	addSetting(s, &f.addr, "addr", "localhost", hubAddress(), "host of the hub, or host:port; hubs:// before it is for\none that speaks TLS")
	addSetting(s, &f.port, "port", wire.DefaultPort, intRange(1, math.MaxUint16), "port of the hub")
	addSetting(s, &f.ca, "ca", "", filePath(), "file with the certificates of the authorities that vouch\nfor a hub with TLS; by default those of the system")
	addSetting(s, &f.cert, "cert", "", filePath(), "file with the certificate to show to a hub with TLS,\nread at each connection")
	addSetting(s, &f.key, "key", "", filePath(), "file with the private key of -cert")
	f.token.addFlags(s)
}

// explicitFlags returns those of them that were set, and by what.
func (f *hubFlags) explicitFlags() (names []string) {
	for _, name := range []string{"addr", "port", "ca", "cert", "key", "token", "token-file"} {
		if f.settings.isSet(name) {
			names = append(names, fmt.Sprintf("-%s (%s)", name, f.settings.lookup(name).origin))
		}
	}
	return names
}

// parsedAddr is -addr.
func (f *hubFlags) parsedAddr() client.Address {
	a, err := client.ParseAddress(f.addr)
	if err != nil {
		panic(err) // hubAddress has let it pass
	}
	return a
}

// address is -addr, with -port if it names none.
func (f *hubFlags) address() client.Address {
	a := f.parsedAddr()
	if a.Port == 0 {
		a.Port = f.port
	}
	return a
}

// usesTLS reports whether the hub speaks TLS.
func (f *hubFlags) usesTLS() bool { return f.address().TLS() }

// hostPort returns the address of the hub, as net.Dial takes it.
func (f *hubFlags) hostPort() string { return f.address().HostPort() }

// String returns the address as people know it.
func (f *hubFlags) String() string {
	if f.usesTLS() {
		return tlsScheme + f.hostPort()
	}
	return f.hostPort()
}

// credentialsHint says what else could be shown to a hub that lets nobody in without something; ""
// if it was something like that which it has refused.
func (f *hubFlags) credentialsHint() string {
	switch {
	case f.cert != "" || f.token.tokenFunc() != nil:
		return ""
	case f.usesTLS():
		return "; -token-file names a token to show, -cert and -key a certificate"
	}
	return "; -token-file names a token to show"
}

// tlsConfig returns how to speak TLS with the hub; nil: not at all. Its errors can be shown to
// people.
func (f *hubFlags) tlsConfig() (*tls.Config, error) {
	if err := f.validate(); err != nil {
		return nil, err
	}
	switch {
	case !f.usesTLS() && (f.ca != "" || f.cert != "" || f.key != ""):
		return nil, fmt.Errorf("-ca, -cert and -key are for a hub with TLS: -addr=%s names one", f.addrWithTLS())
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
			pair, err := certs.ReadPair(f.cert, f.key) // which may be newer ones
			return &pair, err
		}
	}
	return config, nil
}

// addrWithTLS returns -addr for a hub at the same place that speaks TLS.
func (f *hubFlags) addrWithTLS() string {
	a := f.parsedAddr()
	a.Scheme = client.SchemeTLS
	return a.String()
}

// validate returns what is wrong with a port or a token that is named twice.
func (f *hubFlags) validate() error {
	if f.parsedAddr().Port != 0 && f.settings.isSet("port") {
		return fmt.Errorf("-addr=%s names a port: leave -port away", f.addr)
	}
	return f.token.validate()
}

// explainTLSError says in a sentence why there is no TLS with a hub, and what to do about it; "" for
// an error that is none of TLS.
func explainTLSError(err error) string {
	var unknownAuthority x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var invalidCert x509.CertificateInvalidError
	var notTLS tls.RecordHeaderError
	var remoteErr *net.OpError
	switch {
	case errors.As(err, &unknownAuthority):
		return "nobody who is trusted here vouches for its certificate: -ca names the authority that does"
	case errors.As(err, &wrongName):
		return fmt.Sprintf("its certificate is for %s, not for %s", certNames(wrongName.Certificate), wrongName.Host)
	case errors.As(err, &invalidCert) && invalidCert.Reason == x509.Expired:
		return describeValidity(invalidCert.Cert)
	case errors.As(err, &invalidCert):
		return "its certificate is not good: " + strings.TrimPrefix(invalidCert.Error(), "x509: ")
	case errors.As(err, &notTLS):
		return "it does not speak TLS: leave hubs:// away, or see whether the port is right"
	case errors.As(err, &remoteErr) && remoteErr.Op == "remote error":
		switch text := remoteErr.Err.Error(); {
		case strings.Contains(text, "certificate required"):
			return "it asks for a certificate: -cert and -key name one"
		case strings.Contains(text, "protocol version"):
			return "it speaks another version of TLS"
		case strings.Contains(text, "no application protocol"):
			return "something speaks TLS there, but it is no hub"
		case strings.Contains(text, "certificate"), strings.Contains(text, "unknown certificate authority"):
			return "it does not take the certificate of -cert: " + strings.TrimPrefix(text, "tls: ")
		default:
			return text
		}
	case errors.Is(err, client.ErrTLS) && !errors.Is(err, context.DeadlineExceeded):
		return "it ended the handshake: it does not speak TLS (then leave hubs:// away), is full, or ends"
	}
	return ""
}

// describeValidity says when a certificate is good.
func describeValidity(c *x509.Certificate) string {
	if now := time.Now(); now.Before(c.NotBefore) {
		return fmt.Sprintf("its certificate is good only from %s on; here it is %s", c.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return "its certificate was good until " + c.NotAfter.UTC().Format(time.RFC3339)
}

// certNames returns for whom a certificate is.
func certNames(c *x509.Certificate) string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "nobody by name"
	}
	return strings.Join(names, ", ")
}
