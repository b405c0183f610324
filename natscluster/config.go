package natscluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// MinKey is the minimum length of Config.Key, in bytes.
	MinKey = 16

	// maxName is the maximum length of Config.Name, in bytes.
	maxName = 64

	// MaxReplicas is the maximum of Config.Replicas, that of JetStream.
	MaxReplicas = 5
)

// Config is the configuration of the connection of a hub to its cluster.
type Config struct {
	// URLs are NATS servers: nats://host:4222 or tls://host, with user and password or a token if
	// the servers want them (nats://user:password@host, nats://token@host).
	// Servers that these tell of are used too. Empty: DefaultURL.
	URLs []string

	// Name is the name of the cluster: up to 64 letters, digits, - and _. Clusters with different
	// names can use the same NATS. Empty: DefaultName.
	Name string

	// HubName, Address and Version describe the hub to operators. Address is where its clients
	// connect. They need not be unique, and can be empty.
	HubName, Address, Version string

	// Key is the secret by which hubs know frames of each other, at least MinKey bytes, the same
	// for all hubs. Empty: the hubs share a random key, which is stored in NATS.
	Key []byte

	// CredentialsFile is a file with the JWT and the NKey seed of a NATS user, and NKeySeedFile one
	// with only a seed. They are read at each connection. At most one of them can be set.
	CredentialsFile, NKeySeedFile string

	// TLS is the configuration of TLS, which the servers must then offer. nil: TLS is used if the
	// URL begins with tls, or the server requires it, with the authorities of the system.
	TLS *tls.Config

	// Replicas is the number of NATS servers that hold the buckets of the cluster, from 1 to 5.
	// Buckets that exist already are not changed. 0: 3 if the NATS server belongs to a cluster,
	// otherwise 1.
	Replicas int

	// Logger gets what happens with NATS. nil: nothing is logged.
	Logger *slog.Logger

	// OnRetry is called with the reason each time that Join, or a later connection, has failed and
	// will be tried again. It must not block. nil: nothing is called.
	OnRetry func(error)

	now func() time.Time // for tests of the clock; nil: time.Now
}

// withDefaults returns a copy of the configuration without empty fields that have a default.
func (c Config) withDefaults() Config {
	if len(c.URLs) == 0 {
		c.URLs = []string{DefaultURL}
	}
	if c.Name == "" {
		c.Name = DefaultName
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.OnRetry == nil {
		c.OnRetry = func(error) {}
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c
}

// Validate returns an error if the configuration is invalid. It reads the files that it names.
func (c Config) Validate() error {
	c = c.withDefaults()
	for _, u := range c.URLs {
		if err := validateURL(u); err != nil {
			return err
		}
	}
	switch {
	case !validName(c.Name):
		return fmt.Errorf("the cluster name %.80q is not valid: allowed are up to %d letters, digits, - and _", c.Name, maxName)
	case len(c.Key) > 0 && len(c.Key) < MinKey:
		return fmt.Errorf("the key of the cluster has %d bytes, the minimum is %d", len(c.Key), MinKey)
	case c.Replicas < 0 || c.Replicas > MaxReplicas:
		return fmt.Errorf("%d replicas: allowed are 1 to %d, and 0 for the default", c.Replicas, MaxReplicas)
	case c.CredentialsFile != "" && c.NKeySeedFile != "":
		return errors.New("a credentials file and an NKey file exclude each other: set one of them")
	}
	_, err := c.authOptions()
	return err
}

func validateURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		// err can hold a password.
		return errors.New("a URL of NATS cannot be parsed: allowed are nats://host:4222 and tls://host:4222")
	}
	switch u.Scheme {
	case "nats", "tls":
		if u.Hostname() != "" {
			return nil
		}
	}
	return fmt.Errorf("%q is not a URL of NATS: allowed are nats://host:4222 and tls://host:4222", displayURL(text))
}

// displayURL returns a URL without user, password and token.
func displayURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(invalid)"
	}
	u.User = nil
	return u.String()
}

// displayURLs returns the URLs of the servers without users, passwords and tokens.
func (c *Config) displayURLs() string {
	list := make([]string, len(c.URLs))
	for i, u := range c.URLs {
		list[i] = displayURL(u)
	}
	return strings.Join(list, ", ")
}

func validName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for _, r := range name {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (r < '0' || r > '9') && r != '-' && r != '_' {
			return false
		}
	}
	return true
}

// authOptions returns the options for the files of the configuration, or an error if a file
// cannot be used.
func (c *Config) authOptions() ([]nats.Option, error) {
	switch {
	case c.NKeySeedFile != "":
		option, err := nats.NkeyOptionFromSeed(c.NKeySeedFile)
		if err != nil {
			return nil, fmt.Errorf("NKey file %s: %w", c.NKeySeedFile, err)
		}
		return []nats.Option{option}, nil
	case c.CredentialsFile != "":
		option := nats.UserCredentials(c.CredentialsFile)
		if err := tryCredentials(option); err != nil {
			return nil, fmt.Errorf("credentials file %s: %w", c.CredentialsFile, err)
		}
		return []nats.Option{option}, nil
	}
	return nil, nil
}

// tryCredentials reads the file of an option of nats.UserCredentials, as each connection does.
func tryCredentials(option nats.Option) error {
	var o nats.Options
	if err := option(&o); err != nil {
		return err
	}
	if _, err := o.UserJWT(); err != nil {
		return err
	}
	_, err := o.SignatureCB([]byte("nonce"))
	return err
}
