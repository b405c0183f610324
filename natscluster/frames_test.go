package natscluster

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/sechlol/go-message-hub/internal/natsconn"
)

// newKey returns a new NKey: its public name, and its seed.
func newKey(t *testing.T, create func() (nkeys.KeyPair, error)) (key nkeys.KeyPair, public string, seed []byte) {
	t.Helper()
	key, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err = key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if seed, err = key.Seed(); err != nil {
		t.Fatal(err)
	}
	return key, public, seed
}

func writeFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// withJWT returns a server whose users have JWTs, and the credentials of one of them.
func withJWT(t *testing.T) (modify func(*server.Options), credentials []byte) {
	t.Helper()
	operator, operatorName, _ := newKey(t, nkeys.CreateOperator)
	account, accountName, _ := newKey(t, nkeys.CreateAccount)
	_, system, _ := newKey(t, nkeys.CreateAccount)
	_, userName, seed := newKey(t, nkeys.CreateUser)
	resolver := new(server.MemAccResolver)
	for _, name := range []string{accountName, system} {
		claims := jwt.NewAccountClaims(name)
		if name == accountName {
			claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
		}
		token, err := claims.Encode(operator)
		if err != nil {
			t.Fatal(err)
		}
		if err := resolver.Store(name, token); err != nil {
			t.Fatal(err)
		}
	}
	token, err := jwt.NewUserClaims(userName).Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	if credentials, err = jwt.FormatUserConfig(token, seed); err != nil {
		t.Fatal(err)
	}
	return func(o *server.Options) {
		o.TrustedKeys, o.AccountResolver, o.SystemAccount = []string{operatorName}, resolver, system
	}, credentials
}

// TestOpenFrames_Authentication checks that both connections use each way to authenticate.
func TestOpenFrames_Authentication(t *testing.T) {
	_, public, seed := newKey(t, nkeys.CreateUser)
	trusted, credentials := withJWT(t)
	tests := map[string]struct {
		modify func(*server.Options)
		user   string // in the URL
		change func(*Config)
	}{
		"password": {func(o *server.Options) { o.Username, o.Password = "hub", "a:b" }, "hub:a%3Ab@", func(*Config) {}},
		"token":    {func(o *server.Options) { o.Authorization = "secret" }, "secret@", func(*Config) {}},
		"NKey":     {func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} }, "", func(c *Config) { c.NKeySeedFile = writeFile(t, seed) }},
		"JWT":      {trusted, "", func(c *Config) { c.CredentialsFile = writeFile(t, credentials) }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := startNATS(t, tt.modify)
			config := testConfig(s)
			config.URLs = []string{"nats://" + tt.user + s.Addr().String()}
			tt.change(&config)
			a, b := join(t, config), join(t, config)
			frames := receiveFrames(b.Carrier())
			if err := a.Carrier().Send(b.Node(), []byte("x")); err != nil {
				t.Fatal(err)
			}
			if got := next(t, frames); got != "x" {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestOpenFrames_Described checks what an operator of NATS sees of a hub.
func TestOpenFrames_Described(t *testing.T) {
	s := startNATS(t, nil)
	config := testConfig(s)
	config.Version = "v1.2.3"
	join(t, config)
	list, err := s.Connz(&server.ConnzOptions{Subscriptions: true})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range list.Conns {
		names = append(names, fmt.Sprint(c.Name, " ", c.Version, " ", c.NumSubs))
	}
	if got := strings.Join(names, "; "); list.NumConns != 2 || !strings.Contains(got, "go-message-hub hub-1 (frames) v1.2.3 2") {
		t.Error(got)
	}
}

// TestCluster_EitherConnectionEnds checks that a hub opens both connections again when one of them
// ends.
func TestCluster_EitherConnectionEnds(t *testing.T) {
	for _, frames := range []bool{true, false} {
		s := startNATS(t, nil)
		config := testConfig(s)
		c := join(t, config)
		list, err := s.Connz(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range list.Conns {
			if strings.Contains(info.Name, "(frames)") == frames {
				if err := s.DisconnectClientByID(info.Cid); err != nil {
					t.Error(err)
				}
			}
		}
		logs(config).waitFor(t, "connected to NATS again")
		for deadline := time.After(testTimeout); ; { // the server closes the other old one soon
			if list, err = s.Connz(nil); err == nil && list.NumConns == 2 {
				break
			}
			select {
			case <-time.After(time.Millisecond):
			case <-deadline:
				t.Fatalf("frames: %t: %d connections, %v", frames, list.NumConns, err)
			}
		}
		if err := c.Err(); err != nil {
			t.Errorf("frames: %t: %v", frames, err)
		}
	}
}

func TestFramesAuth(t *testing.T) {
	failed := errors.New("failed")
	o := &nats.Options{Nkey: "U", UserJWT: func() (string, error) { return "j", failed }}
	for user, want := range map[*url.Userinfo]natsconn.Auth{
		nil:                          {NKey: "U", JWT: "j"},
		url.User("t"):                {Token: "t", JWT: "j"},
		url.UserPassword("u", "p:/"): {User: "u", Password: "p:/", JWT: "j"},
	} {
		got, err := framesAuth(o, user)
		if fmt.Sprint(got) != fmt.Sprint(want) || !errors.Is(err, failed) {
			t.Errorf("%v, want %v; %v", got, want, err)
		}
	}
}

func TestKnownError(t *testing.T) {
	for text, want := range map[string]error{
		`Permissions Violation for Publish to "a"`:  nats.ErrPermissionViolation,
		"Authorization Violation":                   nats.ErrAuthorization,
		"User Authentication Expired":               nats.ErrAuthExpired,
		"User Authentication Revoked":               nats.ErrAuthRevoked,
		"Account Authentication Expired":            nats.ErrAccountAuthExpired,
		"Stale Connection":                          nats.ErrStaleConnection,
		"maximum connections exceeded":              nats.ErrMaxConnectionsExceeded,
		server.ErrTooManyAccountConnections.Error(): nats.ErrMaxAccountConnectionsExceeded,
		server.ErrTooManySubs.Error():               nats.ErrMaxSubscriptionsExceeded,
		"Secure Connection - TLS Required":          nats.ErrSecureConnRequired,
	} {
		told := fmt.Errorf("x: %w", &natsconn.ServerError{Text: text})
		if err := knownError(told); !errors.Is(err, want) || !errors.Is(err, told) || err.Error() != told.Error() {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, other := range []error{nil, os.ErrClosed, &natsconn.ServerError{Text: "Parser Error"}} {
		if err := knownError(other); err != other {
			t.Errorf("%v has become %v", other, err)
		}
	}
}
