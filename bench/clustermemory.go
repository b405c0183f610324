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

// knownClients are the clients of the other hubs in the scenario cluster-memory, of which
// joiningClients join at once.
const knownClients, joiningClients = 100_000, 10_000

// otherHubs is the number of hubs that have the clients, beside the measured hub.
const otherHubs = 2

// clusterMemoryScenario measures what a hub needs to know the clients of the other hubs of a
// cluster. Those are subscriptions of hubs within bench, which need no connections.
func clusterMemoryScenario(known, joining int) *scenario {
	s := &scenario{
		name:  "cluster-memory",
		title: fmt.Sprintf("a hub that knows %s clients of %d other hubs", formatNumber(float64(known)), otherHubs),
		note: fmt.Sprintf("In use are the heap and the stacks after two garbage collections. The time of a join is from the first of %s subscriptions, half of them at "+
			"each of the other hubs, until a client of the measured hub is told the number of all, and the other hubs know it. The time of a start is "+
			"from the start of the process of a fourth hub.", formatNumber(float64(joining))),
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

// measureKnown starts a hub and a nats-server, and hubs within bench that have the clients.
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
	var others embeddedHubs
	for i := range otherHubs {
		other, err := joinEmbedded(ctx, pair.brokerURL, fmt.Sprintf("bench-%d", i+1))
		if err != nil {
			return nil, errors.Join(err, others.close(ctx))
		}
		others = append(others, other)
	}
	m, err = pair.measureKnownBy(ctx, admin, others, known, joining)
	return m, errors.Join(err, others.close(ctx))
}

// embeddedHub is a hub of a cluster within bench.
type embeddedHub struct {
	hub        *hubpkg.Hub
	membership *natscluster.Cluster
}

func joinEmbedded(ctx context.Context, url, name string) (*embeddedHub, error) {
	logger := slog.New(slog.DiscardHandler)
	h, err := hubpkg.New(hubpkg.Config{Logger: logger})
	if err != nil {
		return nil, err
	}
	membership, err := natscluster.Join(ctx, natscluster.Config{URLs: []string{url}, HubName: name, Logger: logger})
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

// embeddedHubs are hubs of one cluster within bench.
type embeddedHubs []*embeddedHub

// subscribe subscribes n times, in turn at each hub.
func (es embeddedHubs) subscribe(n int) error {
	for i := range n {
		if _, err := es[i%len(es)].hub.Subscribe(0); err != nil {
			return err
		}
	}
	return nil
}

// awaitTotal waits until each hub knows so many clients.
func (es embeddedHubs) awaitTotal(ctx context.Context, total int) error {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	for _, e := range es {
		for e.hub.Stats().ClusterClients < total {
			if err := ctx.Err(); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

func (es embeddedHubs) close(ctx context.Context) (err error) {
	for _, e := range es {
		err = errors.Join(err, e.close(ctx))
	}
	return err
}

// measureKnownBy measures the first hub, and the second one, which it starts.
func (sp *serverPair) measureKnownBy(ctx context.Context, admin string, others embeddedHubs, known, joining int) (*measurement, error) {
	c, err := client.Dial(ctx, sp.first.addr, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	m := &measurement{}
	if m.HeapFirst, err = memoryInUse(ctx, admin); err != nil {
		return nil, err
	}
	addClients := func(n, total int) error {
		return errors.Join(others.subscribe(n), awaitTotal(ctx, c, total), others.awaitTotal(ctx, total))
	}
	if err := addClients(known-joining, 1+known-joining); err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := addClients(joining, 1+known); err != nil {
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
