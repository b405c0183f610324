package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sechlol/go-message-hub/client"
	hubpkg "github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/natscluster"
)

// knownClients are the clients of the other hub in the scenario cluster-memory, of which
// joiningClients join at once.
const knownClients, joiningClients = 100_000, 10_000

// clusterMemoryScenario measures what a hub needs to know the clients of another hub. Those are
// subscriptions of a hub within bench, which need no connections.
func clusterMemoryScenario(known, joining int) *scenario {
	s := &scenario{
		name:  "cluster-memory",
		title: fmt.Sprintf("a hub that knows %s clients of another hub", formatNumber(float64(known))),
		note: fmt.Sprintf("In use are the heap and the stacks after two garbage collections. The time of a join is from the first of %s subscriptions at "+
			"the other hub until a client of the measured hub is told the number of all. The time of a start is from the start of the process.",
			formatNumber(float64(joining))),
		columns: []column{
			{heading: "MiB in use before", value: func(m *measurement) float64 { return m.HeapFirst }},
			{heading: "MiB in use for the clients", value: func(m *measurement) float64 { return m.HeapLast - m.HeapFirst }},
			{heading: "bytes per client", value: func(m *measurement) float64 { return (m.HeapLast - m.HeapFirst) * (1 << 20) / float64(known) }},
			{heading: "ms until the joins are known", value: func(m *measurement) float64 { return m.MeasureSeconds * 1e3 }},
			{heading: "ms until a new hub knows all", value: func(m *measurement) float64 { return m.ListSeconds * 1e3 }},
		},
	}
	s.subjects = []subject{{"hub", []string{"hub", "nats"}, func(ctx context.Context, p *programs) (*measurement, error) {
		return measureKnown(ctx, p, known, joining)
	}}}
	return s
}

// measureKnown starts a hub and a nats-server, and a hub within bench that has the clients.
func measureKnown(ctx context.Context, p *programs, known, joining int) (m *measurement, err error) {
	pair, err := startBroker(ctx, p)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			pair.kill()
			return
		}
		m.Server, err = pair.stop()
	}()
	admin, err := freeAddr()
	if err != nil {
		return nil, err
	}
	if pair.first, err = pair.startHub(ctx, "-admin="+admin); err != nil {
		return nil, err
	}
	other, err := joinEmbedded(ctx, pair.brokerURL)
	if err != nil {
		return nil, err
	}
	m, err = pair.measureKnownBy(ctx, admin, other.hub, known, joining)
	return m, errors.Join(err, other.close(ctx))
}

// embeddedHub is a hub of a cluster within bench.
type embeddedHub struct {
	hub        *hubpkg.Hub
	membership *natscluster.Cluster
}

func joinEmbedded(ctx context.Context, url string) (*embeddedHub, error) {
	logger := slog.New(slog.DiscardHandler)
	h, err := hubpkg.New(hubpkg.Config{Logger: logger})
	if err != nil {
		return nil, err
	}
	membership, err := natscluster.Join(ctx, natscluster.Config{URLs: []string{url}, HubName: "bench", Logger: logger})
	if err != nil {
		return nil, err
	}
	return &embeddedHub{h, membership}, h.JoinCluster(membership)
}

func (e *embeddedHub) close(ctx context.Context) error {
	err := e.hub.Shutdown(ctx)
	e.membership.Close()
	return err
}

// measureKnownBy measures the first hub, and the second one, which it starts.
func (sp *serverPair) measureKnownBy(ctx context.Context, admin string, other *hubpkg.Hub, known, joining int) (*measurement, error) {
	c, err := client.Dial(ctx, sp.first.addr, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	m := &measurement{}
	if m.HeapFirst, err = memoryInUse(ctx, admin); err != nil {
		return nil, err
	}
	subscribe := func(n int) error {
		for range n {
			if _, err := other.Subscribe(0); err != nil {
				return err
			}
		}
		return nil
	}
	if err := errors.Join(subscribe(known-joining), awaitTotal(ctx, c, 1+known-joining)); err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := errors.Join(subscribe(joining), awaitTotal(ctx, c, 1+known)); err != nil {
		return nil, err
	}
	m.MeasureSeconds = time.Since(begin).Seconds()
	if m.HeapLast, err = memoryInUse(ctx, admin); err != nil {
		return nil, err
	}
	m.HeapFirst, m.HeapLast = m.HeapFirst/1024, m.HeapLast/1024
	begin = time.Now()
	if sp.second, err = sp.startHub(ctx); err != nil {
		return nil, err
	}
	newcomer, err := client.Dial(ctx, sp.second.addr, nil)
	if err != nil {
		return nil, err
	}
	defer newcomer.Close()
	err = awaitTotal(ctx, newcomer, 2+known)
	m.ListSeconds = time.Since(begin).Seconds()
	return m, err
}
