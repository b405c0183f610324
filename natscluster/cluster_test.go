package natscluster

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/cluster/lease"
)

func TestJoin_NodesAreNumbered(t *testing.T) {
	s := startNATS(t, nil)
	for want := cluster.Node(1); want <= 3; want++ {
		c := join(t, testConfig(s))
		if c.Node() != want || !c.Valid() || c.Err() != nil {
			t.Errorf("node %d, want %d; lease valid: %t; %v", c.Node(), want, c.Valid(), c.Err())
		}
	}
	other := testConfig(s)
	other.Name = "other"
	if c := join(t, other); c.Node() != 1 {
		t.Errorf("the first node of another cluster is %d", c.Node())
	}
}

func TestJoin_NATSStartsLater(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	config := testConfig(startNATS(t, nil))
	config.URLs = []string{"nats://user:secret@127.0.0.1:" + strconv.Itoa(port)}
	c := joinWithRetry(t, config, "connection refused", "check that NATS is running", func() {
		startNATS(t, func(o *server.Options) { o.Port, o.Username, o.Password = port, "user", "secret" })
	})
	if c.Node() != 1 {
		t.Errorf("node %d", c.Node())
	}
	if logs(config).count("secret") != 0 {
		t.Error("the log has the password")
	}
	if line := logs(config).waitFor(t, "not connected"); !strings.Contains(line, "NATS at nats://127.0.0.1:"+strconv.Itoa(port)+" cannot be reached: ") {
		t.Error(line)
	}
}

func TestJoin_EndsWithContext(t *testing.T) {
	config := testConfig(startNATS(t, func(o *server.Options) { o.JetStream = false }))
	ctx, cancel := context.WithCancel(t.Context())
	config.OnRetry = func(error) { cancel() }
	if _, err := Join(ctx, config); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "jetstream not enabled") {
		t.Error(err)
	}
}

// TestCluster_Reconnects checks that a hub keeps its number and its frames flow again after the
// server was away.
func TestCluster_Reconnects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startNATSIn(t, dir, nil)
	port := s.Addr().(*net.TCPAddr).Port
	config := testConfig(s)
	a, b := join(t, config), join(t, testConfig(s))
	frames := receiveFrames(a.Carrier())
	stopNATS(s)
	logs(config).waitFor(t, "connection to NATS lost")
	if err := a.Err(); !errors.Is(err, ErrNotConnected) {
		t.Errorf("Err: %v", err)
	}
	if status := a.Status(); status.Connected || status.Cause == nil || status.Server != "" {
		t.Errorf("%+v", status)
	}
	if err := a.Carrier().Send(b.Node(), []byte("x")); !errors.Is(err, ErrNotConnected) {
		t.Errorf("Send: %v", err)
	}
	if _, err := a.currentBuckets(t.Context()); !errors.Is(err, ErrNotConnected) {
		t.Errorf("currentBuckets: %v", err)
	}
	startNATSIn(t, dir, func(o *server.Options) { o.Port = port })
	logs(config).waitFor(t, "connected to NATS again")
	logs(b.config).waitFor(t, "connected to NATS again")
	if err := a.Err(); err != nil || a.Node() != 1 || !a.Status().Connected {
		t.Errorf("node %d, %v, %+v", a.Node(), err, a.Status())
	}
	if err := b.Carrier().Send(a.Node(), []byte("again")); err != nil {
		t.Error(err)
	}
	if got := next(t, frames); got != "again" {
		t.Errorf("%q", got)
	}
}

// TestCluster_LeaseRunsOutWithoutNATS checks the state of a hub that has lost NATS for
// lease.Duration.
func TestCluster_LeaseRunsOutWithoutNATS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startNATSIn(t, dir, nil)
	port := s.Addr().(*net.TCPAddr).Port
	config := testConfig(s)
	c := join(t, config)
	stopNATS(s)
	logs(config).waitFor(t, "the lease of the hub has run out")
	if c.Valid() || c.Err() == nil {
		t.Errorf("valid: %t, %v", c.Valid(), c.Err())
	}
	startNATSIn(t, dir, func(o *server.Options) { o.Port = port })
	logs(config).waitFor(t, "the hub has its lease again")
	if err := c.Err(); err != nil || c.Node() != 1 {
		t.Errorf("node %d, %v", c.Node(), err)
	}
}

// TestCluster_StoreLost checks that hubs go on when NATS comes back without its files, and that a
// number that a hub has is not given again.
func TestCluster_StoreLost(t *testing.T) {
	t.Parallel()
	s := startNATS(t, nil)
	port := s.Addr().(*net.TCPAddr).Port
	config := testConfig(s)
	a := join(t, config)
	key := a.Key()
	stopNATS(s)
	s = startNATS(t, func(o *server.Options) { o.Port = port })
	logs(config).waitFor(t, "connected to NATS again")
	b, err := a.currentBuckets(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	watcher, err := b.leases.Watch(testContext(t), "lease.1")
	if err != nil {
		t.Fatal(err)
	}
	for entry := next(t, watcher.Updates()); entry == nil; entry = next(t, watcher.Updates()) { // nil: all that was there
	}
	if err := watcher.Stop(); err != nil {
		t.Error(err)
	}
	second := join(t, testConfig(s))
	if second.Node() != 2 || !bytes.Equal(second.Key(), key) {
		t.Errorf("node %d; the same key: %t", second.Node(), bytes.Equal(second.Key(), key))
	}
}

func TestCluster_LeaseDescribesHub(t *testing.T) {
	config := testConfig(startNATS(t, nil))
	config.HubName, config.Address, config.Version = "hub-b", "b.example:9999", "v1.2.3"
	c := join(t, config)
	info, err := readLease(testContext(t), c, c.Node())
	if err != nil || info.Name != "hub-b" || info.Address != "b.example:9999" || info.Version != "v1.2.3" || time.Since(info.Started).Abs() > testTimeout {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestClose_ReleasesLease(t *testing.T) {
	s := startNATS(t, nil)
	a, b := join(t, testConfig(s)), join(t, testConfig(s))
	a.Close()
	if _, err := readLease(testContext(t), b, a.Node()); !errors.Is(err, lease.ErrNotFound) {
		t.Errorf("of the hub that has ended: %v", err)
	}
	if _, err := readLease(testContext(t), b, b.Node()); err != nil {
		t.Errorf("of the other hub: %v", err)
	}
	a.Close() // a second time
}

// TestSessionPauses_GrowWhileSessionsAreShort checks the pauses after sessions of these ages.
func TestSessionPauses_GrowWhileSessionsAreShort(t *testing.T) {
	var p sessionPauses
	for _, s := range []struct{ age, want time.Duration }{
		{0, 0}, {time.Second, minRetryPause}, {0, 2 * minRetryPause}, {0, 4 * minRetryPause}, {minSessionTime, 0}, {0, minRetryPause},
	} {
		if got := p.next(s.age); got != s.want {
			t.Errorf("a pause of %v after a session of %v, want %v", got, s.age, s.want)
		}
	}
	for range 100 {
		p.next(0)
	}
	if got := p.next(0); got != maxRetryPause {
		t.Errorf("the longest pause is %v", got)
	}
}
