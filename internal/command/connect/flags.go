// Package connect has the settings that name a hub and say how to connect to it, for the programs
// that are clients of a hub. It explains errors of connecting over TLS to users.
package connect

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/certs"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/wire"
)

// Flags are the settings that name a hub and say how to connect to the hub.
type Flags struct {
	settings *settings.Settings
	addr     string
	port     int
	ca       string
	cert     string
	key      string
	token    tokenFlags
}

// TLSScheme is the prefix of an address that selects TLS.
const TLSScheme = client.SchemeTLS + "://"

// AddTo adds the settings to s.
func (f *Flags) AddTo(s *settings.Settings) {
	f.settings = s
	settings.Add(s, &f.addr, "addr", "localhost", addressType(), "host of the hub, or host:port; the prefix hubs:// selects TLS;\nseveral hubs of a cluster: separated by commas")
	settings.Add(s, &f.port, "port", wire.DefaultPort, settings.IntRange(1, math.MaxUint16), "port of the hub")
	settings.Add(s, &f.ca, "ca", "", settings.FilePath(), "file with the CA certificates that verify a hub with TLS;\nempty: those of the system")
	settings.Add(s, &f.cert, "cert", "", settings.FilePath(), "file with the client certificate for a hub with TLS, read\nat each connection")
	settings.Add(s, &f.key, "key", "", settings.FilePath(), "file with the private key of -cert")
	f.token.addTo(s)
}

// Explicit returns the settings that have a value other than the default, with the source
// of each value.
func (f *Flags) Explicit() (names []string) {
	for _, name := range []string{"addr", "port", "ca", "cert", "key", "token", "token-file"} {
		if f.settings.IsSet(name) {
			names = append(names, fmt.Sprintf("-%s (%s)", name, f.settings.Lookup(name).Origin))
		}
	}
	return names
}

// parsedAddrs returns the addresses of -addr.
func (f *Flags) parsedAddrs() []client.Address {
	addresses, err := client.ParseAddresses(f.addr)
	if err != nil {
		panic(err) // cannot happen: addressType has checked the value
	}
	return addresses
}

// addresses returns the addresses of -addr, with the port of -port for those that have none.
func (f *Flags) addresses() []client.Address {
	addresses := f.parsedAddrs()
	for i := range addresses {
		addresses[i].Port = cmp.Or(addresses[i].Port, f.port)
	}
	return addresses
}

// UsesTLS reports whether the connection uses TLS.
func (f *Flags) UsesTLS() bool { return f.parsedAddrs()[0].TLS() } // all of them, or none

// HasSeveral reports whether there are several addresses.
func (f *Flags) HasSeveral() bool { return len(f.parsedAddrs()) > 1 }

// HostPorts returns the addresses of the hubs in the form that net.Dial expects, separated by
// commas.
func (f *Flags) HostPorts() string { return f.join("") }

// String returns the addresses in the form that users write and client.Dial expects.
func (f *Flags) String() string {
	if f.UsesTLS() {
		return f.join(TLSScheme)
	}
	return f.join("")
}

// join returns the addresses in the form that net.Dial expects, each after prefix.
func (f *Flags) join(prefix string) string {
	var list []string
	for _, a := range f.addresses() {
		list = append(list, prefix+a.HostPort())
	}
	return strings.Join(list, ",")
}

// GetToken returns client.Options.GetToken, or nil if no token is set.
func (f *Flags) GetToken() func(context.Context) (string, error) { return f.token.tokenFunc() }

// CredentialsHint returns advice for a client that a hub has rejected without credentials. It
// returns "" if the client had a token or a certificate.
func (f *Flags) CredentialsHint() string {
	switch {
	case f.cert != "" || f.token.tokenFunc() != nil:
		return ""
	case f.UsesTLS():
		return "; set a token with -token-file, or a certificate with -cert and -key"
	}
	return "; set a token with -token-file"
}

// TLSConfig returns the TLS configuration of the connection, or nil for a connection without
// TLS. Its errors are sentences for users.
func (f *Flags) TLSConfig() (*tls.Config, error) {
	if err := f.validate(); err != nil {
		return nil, err
	}
	switch {
	case !f.UsesTLS() && (f.ca != "" || f.cert != "" || f.key != ""):
		return nil, fmt.Errorf("-ca, -cert and -key require TLS: set -addr=%s", f.addrWithTLS())
	case !f.UsesTLS():
		return nil, nil
	case (f.cert == "") != (f.key == ""):
		return nil, errors.New("-cert and -key belong together: a certificate and its private key")
	}
	config := new(tls.Config) // client.Dial sets the ServerName
	var err error
	if f.ca != "" {
		var ignored []string
		if config.RootCAs, ignored, err = certs.ReadPool(f.ca); err != nil {
			return nil, fmt.Errorf("-ca: %w", err)
		}
		f.settings.Warnings.AddIgnored("-ca", ignored)
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
func (f *Flags) addrWithTLS() string {
	var list []string
	for _, a := range f.parsedAddrs() {
		a.Scheme = client.SchemeTLS
		list = append(list, a.String())
	}
	return strings.Join(list, ",")
}

// validate returns an error if the port or the token is set twice.
func (f *Flags) validate() error {
	hasPort := slices.ContainsFunc(f.parsedAddrs(), func(a client.Address) bool { return a.Port != 0 })
	if hasPort && f.settings.IsSet("port") {
		return fmt.Errorf("-addr=%s includes a port: remove -port", f.addr)
	}
	return f.token.validate()
}

// addressType is the address of a hub, or a list of them: a host, with or without a port and a
// scheme.
func addressType() settings.Type[string] {
	return settings.Type[string]{
		Parse: func(text string) (string, error) {
			if _, err := client.ParseAddresses(text); err != nil {
				return "", settings.InvalidPartError(errors.Unwrap(err).Error())
			}
			return text, nil
		},
		Format:  settings.AsIs,
		Allowed: "names and addresses, with or without a port, such as hub.example, [::1]:9999 and hubs://hub.example, or several with commas between them",
	}
}
