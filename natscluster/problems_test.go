package natscluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/cluster/lease"
)

// withPermissions gives a server a user "hub" with these permissions.
func withPermissions(publish, subscribe []string) func(*server.Options) {
	return func(o *server.Options) {
		o.Users = []*server.User{{Username: "hub", Password: "secret", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
		}}}
	}
}

func without(list []string, part string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return strings.Contains(s, part) })
}

// TestJoin_Problems checks the line about each problem of NATS, and that the hub joins when an
// operator has corrected it.
func TestJoin_Problems(t *testing.T) {
	t.Parallel()
	publish, subscribe := Permissions("test")
	correct := withPermissions(publish, subscribe)
	tests := map[string]struct {
		modify       func(*server.Options)
		text, advice string
	}{
		"JetStream off": {func(o *server.Options) { o.JetStream = false }, "jetstream not enabled", "enable JetStream in nats-server"},
		"max_payload": {func(o *server.Options) { o.MaxPayload = 16 << 10 },
			"permits messages of 16384 bytes, and hubs need 65408", "set max_payload of nats-server to at least 64KB"},
		"one connection":          {func(o *server.Options) { correct(o); o.MaxConn = 1 }, "maximum connections exceeded", "raise the maximum number of connections"},
		"wrong user":              {func(o *server.Options) { o.Username, o.Password = "hub", "other" }, "Authorization Violation", "give the hub credentials"},
		"no publish":              {withPermissions(without(publish, "hub."), subscribe), `Permissions Violation for Publish to "hub.test.all"`, "permit the NATS user"},
		"no subscribe":            {withPermissions(publish, []string{"hub.test.inbox.>"}), `Permissions Violation for Subscription to "hub.test.all"`, "permit the NATS user"},
		"no inbox":                {withPermissions(publish, []string{"hub.test.to.*", "hub.test.all"}), `Permissions Violation for Subscription to "hub.test.inbox.`, "permit the NATS user"},
		"no JetStream API":        {withPermissions(without(publish, "$JS.API.INFO"), subscribe), `Permissions Violation for Publish to "$JS.API.INFO"`, "permit the NATS user"},
		"no creation of buckets":  {withPermissions(without(publish, "STREAM.CREATE"), subscribe), `Permissions Violation for Publish to "$JS.API.STREAM.CREATE.KV_hub_test_nodes"`, "permit the NATS user"},
		"no look at buckets":      {withPermissions(without(publish, "STREAM.INFO"), subscribe), `Permissions Violation for Publish to "$JS.API.STREAM.INFO.KV_hub_test_nodes"`, "permit the NATS user"},
		"no reading of buckets":   {withPermissions(without(publish, "DIRECT.GET"), subscribe), `Permissions Violation for Publish to "$JS.API.DIRECT.GET.KV_hub_test_nodes.`, "permit the NATS user"},
		"no writing of the nodes": {withPermissions(without(publish, "$KV.hub_test_nodes"), subscribe), `Permissions Violation for Publish to "$KV.hub_test_nodes.`, "permit the NATS user"},
		"no writing of leases":    {withPermissions(without(publish, "$KV.hub_test_leases"), subscribe), `Permissions Violation for Publish to "$KV.hub_test_leases.lease.1"`, "permit the NATS user"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := startNATSIn(t, dir, tt.modify)
			port := s.Addr().(*net.TCPAddr).Port
			config := testConfig(s)
			config.URLs = []string{"nats://hub:secret@" + s.Addr().String()}
			c := joinWithRetry(t, config, tt.text, tt.advice, func() {
				stopNATS(s)
				startNATSIn(t, dir, func(o *server.Options) { correct(o); o.Port = port })
			})
			if c.Node() != 1 {
				t.Errorf("node %d: the attempts have used numbers up", c.Node())
			}
			if _, err := readLease(testContext(t), c, 1); err != nil {
				t.Errorf("with the minimum of permissions: %v", err)
			}
			if err := c.Carrier().Send(7, nil); err != nil {
				t.Error(err)
			}
			if n := logs(config).count("problem with NATS"); n != 0 {
				t.Errorf("%d problems with the minimum of permissions", n)
			}
		})
	}
}

// TestCluster_PermissionRemoved checks that a permission that is missing later is logged once per
// subject.
func TestCluster_PermissionRemoved(t *testing.T) {
	publish, subscribe := Permissions("test")
	s := startNATS(t, withPermissions(append(without(publish, "hub."), "hub.test.all", "hub.test.to.1"), subscribe))
	config := testConfig(s)
	config.URLs = []string{"nats://hub:secret@" + s.Addr().String()}
	c := join(t, config)
	for range 3 {
		for _, to := range []cluster.Node{2, 3} {
			if err := c.Carrier().Send(to, nil); err != nil {
				t.Error(err)
			}
		}
	}
	for _, subject := range []string{`"hub.test.to.2"`, `"hub.test.to.3"`} {
		logs(config).waitFor(t, subject)
		if n := logs(config).count(subject); n != 1 {
			t.Errorf("%d lines about %s", n, subject)
		}
	}
}

func TestJoin_UsedUp(t *testing.T) {
	s := startNATS(t, nil)
	c := join(t, testConfig(s))
	if _, err := c.session.Load().buckets.Load().nodes.PutString(testContext(t), "counter", "4194303"); err != nil {
		t.Fatal(err)
	}
	_, err := Join(testContext(t), testConfig(s))
	if !errors.Is(err, ErrUsedUp) || !strings.Contains(Advice(err), "-cluster-name") {
		t.Error(err)
	}
}

func TestJoin_TLS(t *testing.T) {
	authority := testcerts.NewAuthority(t)
	pair := authority.IssueLocal()
	s := startNATS(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair.TLS(t)}, ClientCAs: authority.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}
	})
	tests := map[string]struct {
		config *tls.Config
		text   string // of the error; empty: the hub joins
		advice string
	}{
		"no configuration":  {nil, "certificate signed by unknown authority", "give the hub the authority of the certificate of NATS"},
		"no certificate":    {&tls.Config{RootCAs: authority.Pool()}, "tls", "check the TLS settings"},
		"with certificates": {&tls.Config{RootCAs: authority.Pool(), Certificates: []tls.Certificate{pair.TLS(t)}}, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			config := testConfig(s)
			config.TLS = tt.config
			if tt.text == "" {
				join(t, config)
				return
			}
			checkRetry(t, config, tt.text, tt.advice)
		})
	}
}

func TestJoin_TLSIsNotOptional(t *testing.T) {
	config := testConfig(startNATS(t, nil))
	config.TLS = new(tls.Config)
	checkRetry(t, config, "secure connection not available", "check the TLS settings")
}

// checkRetry checks the error and the advice of an attempt to join.
func checkRetry(t *testing.T, config Config, text, advice string) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	var got error
	config.OnRetry = func(err error) { got = err; cancel() }
	if _, err := Join(ctx, config); got == nil || !strings.Contains(got.Error(), text) || !strings.HasPrefix(Advice(got), advice) {
		t.Errorf("%v; advice: %s; %v", got, Advice(got), err)
	}
}

func TestJoin_InvalidFilesArePermanent(t *testing.T) {
	config := testConfig(startNATS(t, nil))
	config.CredentialsFile = filepath.Join(t.TempDir(), "none")
	if _, err := Join(testContext(t), config); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestAdvice_PermanentErrors(t *testing.T) {
	for err, want := range map[error]string{
		ErrOtherKey:      "give all hubs of the cluster the same -cluster-key-file",
		ErrUsedUp:        "give the cluster a new name",
		lease.ErrCounter: "give the cluster a new name",
		lease.ErrTaken:   "start the hub again",
	} {
		if got := Advice(fmt.Errorf("x: %w", err)); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %q", err, got)
		}
	}
}

func TestAdvice_CodesOfJetStream(t *testing.T) {
	for code, want := range map[jetstream.ErrorCode]string{
		codeStorageResources:   "raise the limits of JetStream",
		codeNoSuitablePeers:    "start three NATS servers",
		codeNoReplicas:         "start three NATS servers",
		codeClusterUnavailable: "start the other NATS servers",
	} {
		if got := Advice(&jetstream.APIError{ErrorCode: code}); !strings.HasPrefix(got, want) {
			t.Errorf("%d: %q", code, got)
		}
	}
}
