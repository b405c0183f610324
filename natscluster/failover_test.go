package natscluster

import (
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startNATSCluster starts three servers that are one cluster, with JetStream.
func startNATSCluster(t *testing.T) []*server.Server {
	t.Helper()
	var routes []*url.URL
	var ports []int
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
		routes = append(routes, &url.URL{Scheme: "nats", Host: ln.Addr().String()})
		ln.Close()
	}
	started := make(chan *server.Server, len(ports))
	for i, port := range ports {
		go func() { // ends when the server has started
			started <- startNATS(t, func(o *server.Options) {
				o.ServerName = fmt.Sprintf("s%d", i+1)
				o.Cluster = server.ClusterOpts{Name: "servers", Host: "127.0.0.1", Port: port}
				o.Routes = routes
			})
		}()
	}
	var servers []*server.Server
	for range ports {
		servers = append(servers, <-started)
	}
	return servers
}

// TestCluster_ServerDies checks that hubs go on, by another server that they were not configured
// with, when one of three servers dies.
func TestCluster_ServerDies(t *testing.T) {
	t.Parallel()
	servers := startNATSCluster(t)
	config := testConfig(servers[0])
	a := join(t, config)
	info, err := testJetStream(t, a).Stream(testContext(t), "KV_hub_test_leases")
	if err != nil {
		t.Fatal(err)
	}
	if got := info.CachedInfo().Config.Replicas; got != 3 {
		t.Errorf("%d replicas", got)
	}
	b := join(t, testConfig(servers[0]))
	frames := receiveFrames(b.Carrier())
	stopNATS(servers[0])
	logs(config).waitFor(t, "connected to NATS again")
	logs(b.config).waitFor(t, "connected to NATS again")
	awaitFrame(t, a, b, frames)
	ctx := testContext(t)
	for { // JetStream needs some seconds for new leaders
		_, errA := readLease(ctx, a, 1)
		_, errB := readLease(ctx, a, b.Node())
		if errA == nil && errB == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(errA, errB)
		}
	}
}

// awaitFrame sends a frame until it arrives: a server learns of a new subscription at another
// server a moment later.
func awaitFrame(t *testing.T, from, to *Cluster, frames <-chan string) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for ctx := testContext(t); ctx.Err() == nil; <-ticker.C {
		if err := from.Carrier().Send(to.Node(), []byte("x")); err != nil {
			t.Error(err)
		}
		select {
		case <-frames:
			return
		default:
		}
	}
	t.Fatal("no frame has arrived")
}
