package server

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sechlol/go-message-hub/internal/certs"
	"github.com/sechlol/go-message-hub/internal/keyfile"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/natscluster"
)

// maxClusterKey is the maximum size of the file of -cluster-key-file, in bytes.
const maxClusterKey = 4 << 10

// clusterFlags are the settings of the cluster.
type clusterFlags struct {
	urls        []string // of NATS; nil: no cluster
	name        string
	keyFile     string
	credentials string
	nkey        string
	tlsCA       string
	tlsCert     string
	tlsKey      string
	replicas    int
	hub         string // empty: the name of the machine
	address     string

	settings *settings.Settings
}

func (f *clusterFlags) addFlags(s *settings.Settings) {
	f.settings = s
	settings.Add(s, &f.urls, "cluster", nil, natsURLs(),
		"URLs of the NATS servers that connect the hubs of a cluster,\nseparated by commas (nats://host:4222, tls://host:4222), with\nuser:password@ if they want it; empty: a hub without a cluster", settings.Secret)
	settings.Add(s, &f.name, "cluster-name", natscluster.DefaultName, clusterName(), "name of the cluster, the same for all its hubs")
	settings.Add(s, &f.hub, "hub-name", "", settings.AnyText(), "name of the hub in its cluster, for operators; empty: the name\nof the machine")
	settings.Add(s, &f.address, "hub-address", "", settings.AnyText(), "address at which clients reach this hub of a cluster, for\noperators")
	settings.Add(s, &f.keyFile, "cluster-key-file", "", settings.FilePath(),
		"file with the secret of the cluster, the same for all its\nhubs; empty: they share a random secret, stored in NATS")
	settings.Add(s, &f.credentials, "cluster-credentials", "", settings.FilePath(), "file with the credentials of a NATS user (JWT and NKey), read\nat each connection")
	settings.Add(s, &f.nkey, "cluster-nkey", "", settings.FilePath(), "file with the NKey seed of a NATS user, read at each\nconnection")
	settings.Add(s, &f.tlsCA, "cluster-tls-ca", "", settings.FilePath(), "file with the CA certificates that verify NATS; empty: those\nof the system")
	settings.Add(s, &f.tlsCert, "cluster-tls-cert", "", settings.FilePath(), "file with the client certificate for NATS, read at each\nconnection")
	settings.Add(s, &f.tlsKey, "cluster-tls-key", "", settings.FilePath(), "file with the private key of -cluster-tls-cert")
	settings.Add(s, &f.replicas, "cluster-replicas", 0, settings.IntRange(0, natscluster.MaxReplicas),
		"number of NATS servers that hold the data of the cluster when\na hub creates it; 0: 3 if NATS is a cluster, otherwise 1")
}

// enabled reports whether the hub belongs to a cluster.
func (f *clusterFlags) enabled() bool { return len(f.urls) > 0 }

// warnUnused warns of files that have no effect without -cluster. It is no error because -check
// hides -cluster, and what it prints must be valid.
func (f *clusterFlags) warnUnused() {
	if f.enabled() {
		return
	}
	for _, name := range []string{"cluster-key-file", "cluster-credentials", "cluster-nkey", "cluster-tls-ca", "cluster-tls-cert", "cluster-tls-key"} {
		if value := f.settings.Lookup(name).Value(); value != "" {
			f.settings.Warnings.Add("-%s=%s has no effect without -cluster, the URLs of NATS", name, value)
		}
	}
}

// validate returns an error if the settings contradict each other. It reads no files.
func (f *clusterFlags) validate() error {
	switch {
	case f.credentials != "" && f.nkey != "":
		return errors.New("-cluster-credentials and -cluster-nkey exclude each other: set one of them")
	case (f.tlsCert == "") != (f.tlsKey == ""):
		return errors.New("-cluster-tls-cert and -cluster-tls-key belong together: a certificate and its private key")
	}
	return nil
}

// config reads the files and returns the configuration of the cluster, without its logger and
// what describes the hub. It reads nothing without -cluster. Its errors are sentences for users.
func (f *clusterFlags) config() (c natscluster.Config, err error) {
	if f.warnUnused(); !f.enabled() {
		return c, nil
	}
	c = natscluster.Config{URLs: f.urls, Name: f.name, CredentialsFile: f.credentials, NKeySeedFile: f.nkey, Replicas: f.replicas}
	if f.keyFile != "" {
		if c.Key, err = readClusterKey(f.keyFile); err != nil {
			return c, fmt.Errorf("-cluster-key-file: %w", err)
		}
	}
	if c.TLS, err = f.tlsConfig(); err != nil {
		return c, err
	}
	return c, c.Validate()
}

// hubName returns -hub-name, or the name of the machine.
func (f *clusterFlags) hubName() string {
	if f.hub != "" {
		return f.hub
	}
	name, _ := os.Hostname() // empty on an error
	return name
}

// readClusterKey returns the content of a file without the white space around it.
func readClusterKey(file string) ([]byte, error) {
	text, err := keyfile.Read(file, maxClusterKey)
	if err != nil {
		return nil, err
	}
	key := bytes.TrimSpace(text)
	if len(key) < natscluster.MinKey {
		return nil, fmt.Errorf("%s has %d bytes, the minimum is %d: write random text to it, such as that of \"openssl rand -hex 32\"", file, len(key), natscluster.MinKey)
	}
	return key, nil
}

// tlsConfig returns the TLS configuration for NATS, or nil if no setting is about TLS.
func (f *clusterFlags) tlsConfig() (*tls.Config, error) {
	if f.tlsCA == "" && f.tlsCert == "" {
		return nil, nil
	}
	config := new(tls.Config)
	if f.tlsCA != "" {
		pool, ignored, err := certs.ReadPool(f.tlsCA)
		if err != nil {
			return nil, fmt.Errorf("-cluster-tls-ca: %w", err)
		}
		config.RootCAs = pool
		f.settings.Warnings.AddIgnored("-cluster-tls-ca", ignored)
	}
	if f.tlsCert != "" {
		if _, err := certs.ReadPair(f.tlsCert, f.tlsKey); err != nil {
			return nil, fmt.Errorf("-cluster-tls-cert and -cluster-tls-key: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := certs.ReadPair(f.tlsCert, f.tlsKey) // the files can have changed
			return &pair, err
		}
	}
	return config, nil
}

// natsURLs is a list of URLs of NATS servers. They can hold passwords.
func natsURLs() settings.Type[[]string] {
	return settings.Type[[]string]{
		Parse: func(text string) (list []string, err error) {
			if text == "" {
				return nil, nil
			}
			parts := strings.Split(text, ",")
			for i, part := range parts {
				part = strings.TrimSpace(part)
				err := (natscluster.Config{URLs: []string{part}}).Validate()
				switch {
				case err != nil && len(parts) > 1:
					return nil, settings.InvalidEntryError(i + 1)
				case err != nil:
					return nil, settings.ErrNotAllowed
				}
				list = append(list, part)
			}
			return list, nil
		},
		Format:  func(list []string) string { return strings.Join(list, ",") },
		Allowed: "URLs of NATS servers, separated by commas (nats://host:4222, tls://user:password@host:4222)",
	}
}

// clusterName is the name of a cluster.
func clusterName() settings.Type[string] {
	return settings.Type[string]{
		Parse: func(text string) (string, error) {
			if text == "" || (natscluster.Config{Name: text}).Validate() != nil {
				return "", settings.ErrNotAllowed
			}
			return text, nil
		},
		Format:  settings.AsIs,
		Allowed: "up to 64 letters, digits, - and _",
	}
}
