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

// remote is a hub that a program speaks to.
type remote struct {
	settings *settings
	addr     string
	port     int
	ca       string
	cert     string
	key      string
	pass     pass
}

const tlsScheme = client.SchemeTLS + "://"

// add adds the settings that name the hub and say how to trust it.
func (r *remote) add(s *settings) {
	r.settings = s
	add(s, &r.addr, "addr", "localhost", hubHost(), "host of the hub, or host:port; hubs:// before it is for\none that speaks TLS")
	add(s, &r.port, "port", wire.DefaultPort, whole(1, math.MaxUint16), "port of the hub")
	add(s, &r.ca, "ca", "", path(), "file with the certificates of the authorities that vouch\nfor a hub with TLS; by default those of the system")
	add(s, &r.cert, "cert", "", path(), "file with the certificate to show to a hub with TLS,\nread at each connection")
	add(s, &r.key, "key", "", path(), "file with the private key of -cert")
	r.pass.add(s)
}

// given returns those of them that were set, and by what.
func (r *remote) given() (names []string) {
	for _, name := range []string{"addr", "port", "ca", "cert", "key", "token", "token-file"} {
		if r.settings.given(name) {
			names = append(names, fmt.Sprintf("-%s (%s)", name, r.settings.lookup(name).origin))
		}
	}
	return names
}

// named is -addr.
func (r *remote) named() client.Address {
	a, err := client.ParseAddress(r.addr)
	if err != nil {
		panic(err) // hubHost has let it pass
	}
	return a
}

// address is -addr, with -port if it names none.
func (r *remote) address() client.Address {
	a := r.named()
	if a.Port == 0 {
		a.Port = r.port
	}
	return a
}

// secure reports whether the hub speaks TLS.
func (r *remote) secure() bool { return r.address().TLS() }

// hostPort returns the address of the hub, as net.Dial takes it.
func (r *remote) hostPort() string { return r.address().HostPort() }

// String returns the address as people know it.
func (r *remote) String() string {
	if r.secure() {
		return tlsScheme + r.hostPort()
	}
	return r.hostPort()
}

// credentials says what else could be shown to a hub that lets nobody in without something; ""
// if it was something like that which it has refused.
func (r *remote) credentials() string {
	switch {
	case r.cert != "" || r.pass.show() != nil:
		return ""
	case r.secure():
		return "; -token-file names a token to show, -cert and -key a certificate"
	}
	return "; -token-file names a token to show"
}

// tls returns how to speak TLS with the hub; nil: not at all. Its errors can be shown to
// people.
func (r *remote) tls() (*tls.Config, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	switch {
	case !r.secure() && (r.ca != "" || r.cert != "" || r.key != ""):
		return nil, fmt.Errorf("-ca, -cert and -key are for a hub with TLS: -addr=%s names one", r.withTLS())
	case !r.secure():
		return nil, nil
	case (r.cert == "") != (r.key == ""):
		return nil, errors.New("-cert and -key belong together: a certificate and its private key")
	}
	host, _, err := net.SplitHostPort(r.hostPort())
	if err != nil {
		return nil, err
	}
	config := &tls.Config{ServerName: host}
	if r.ca != "" {
		var ignored []string
		if config.RootCAs, ignored, err = certs.Pool(r.ca); err != nil {
			return nil, fmt.Errorf("-ca: %w", err)
		}
		r.settings.warnIgnored("-ca", ignored)
	}
	if r.cert != "" {
		if _, err := certs.Pair(r.cert, r.key); err != nil {
			return nil, fmt.Errorf("-cert and -key: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := certs.Pair(r.cert, r.key) // which may be newer ones
			return &pair, err
		}
	}
	return config, nil
}

// withTLS returns -addr for a hub at the same place that speaks TLS.
func (r *remote) withTLS() string {
	a := r.named()
	a.Scheme = client.SchemeTLS
	return a.String()
}

// check returns what is wrong with a port or a token that is named twice.
func (r *remote) check() error {
	if r.named().Port != 0 && r.settings.given("port") {
		return fmt.Errorf("-addr=%s names a port: leave -port away", r.addr)
	}
	return r.pass.check()
}

// distrust says in a sentence why there is no TLS with a hub, and what to do about it; "" for
// an error that is none of TLS.
func distrust(err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var remote *net.OpError
	switch {
	case errors.As(err, &unknown):
		return "nobody who is trusted here vouches for its certificate: -ca names the authority that does"
	case errors.As(err, &name):
		return fmt.Sprintf("its certificate is for %s, not for %s", namesOf(name.Certificate), name.Host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return expiry(invalid.Cert)
	case errors.As(err, &invalid):
		return "its certificate is not good: " + strings.TrimPrefix(invalid.Error(), "x509: ")
	case errors.As(err, &record):
		return "it does not speak TLS: leave hubs:// away, or see whether the port is right"
	case errors.As(err, &remote) && remote.Op == "remote error":
		switch text := remote.Err.Error(); {
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

// expiry says when a certificate is good.
func expiry(c *x509.Certificate) string {
	if now := time.Now(); now.Before(c.NotBefore) {
		return fmt.Sprintf("its certificate is good only from %s on; here it is %s", c.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return "its certificate was good until " + c.NotAfter.UTC().Format(time.RFC3339)
}

// namesOf returns for whom a certificate is.
func namesOf(c *x509.Certificate) string {
	names := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "nobody by name"
	}
	return strings.Join(names, ", ")
}
