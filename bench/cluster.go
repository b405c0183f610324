package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// clusterSystems are the systems of the scenarios with two servers, as the load program names them.
var clusterSystems = []struct{ name, system string }{
	{"hubs, version 1", "hub"}, {"hubs, version 2", "hub2"}, {"nats-servers", "nats"},
}

// clusterHeading is the heading of the ratio of clusterScenario.
const clusterHeading = "this rate ÷ nats-servers' rate"

const clusterNote = "Two hubs with a nats-server between them, against two nats-servers with a route between them. Processor time and memory " +
	"of the servers are those of all three, or of both. Each sender is at one of the servers, and its receivers are at the other."

// clusterWorkload is what one client sends to clients of the other server.
type clusterWorkload struct {
	receivers, messages, size int
}

// clusterScenario measures the rate from one client to clients of another server.
func clusterScenario(name string, wl clusterWorkload) *scenario {
	columns := throughputColumns(wl.size)
	columns[2].heading = "servers, peak resident MiB"
	columns[3].heading = "servers, CPU µs per delivery"
	s := &scenario{
		name: name,
		title: fmt.Sprintf("1 client sends %s messages of %s bytes to %d at the other server",
			formatNumber(float64(wl.messages)), formatNumber(float64(wl.size)), wl.receivers),
		note: clusterNote, columns: columns,
		ratios: []ratio{
			{heading: clusterHeading, base: "nats-servers", value: func(nats, hubs *measurement) float64 { return hubs.rate() / nats.rate() }},
			{heading: "nats-servers' CPU ÷ this CPU, servers and clients", base: "nats-servers", value: func(nats, hubs *measurement) float64 {
				return nats.cpuPerDelivery() / hubs.cpuPerDelivery()
			}},
		},
	}
	for _, v := range clusterSystems {
		s.subjects = append(s.subjects, subject{v.name, []string{"hub", "nats"}, func(ctx context.Context, p *programs) (*measurement, error) {
			return withPair(ctx, p, v.system, func(pair *serverPair) (*measurement, error) {
				return pair.move(ctx, v.system, 1, fmt.Sprintf("-clients=%d", 1+wl.receivers), "-senders=1",
					fmt.Sprintf("-messages=%d", wl.messages), fmt.Sprintf("-size=%d", wl.size))
			})
		}})
	}
	return s
}

// clusterLatencyHeading is the heading of the ratio of clusterLatencyScenario.
const clusterLatencyHeading = "p50 ÷ (p50 within one hub + 1.3 × p50 of one nats-server)"

// clusterLatencyScenario measures the round trip between clients of two hubs. A message and its
// reply each pass both hubs, as within one hub they pass one, and cross NATS once, as in a round
// trip over one nats-server. Their sum is what the round trip would be if hub and NATS were only
// put together.
func clusterLatencyScenario(size, rounds int) *scenario {
	const hub1, hub2, local1, local2, bare = "hubs, version 1", "hubs, version 2", "one hub, version 1", "one hub, version 2", "one nats-server"
	var sums [3]float64 // in s, of this round; by version
	sumRatio := func(row string) ratio {
		return ratio{heading: clusterLatencyHeading, base: bare, rows: []string{row}, value: func(nats, hubs *measurement) float64 {
			return hubs.P50 / (hubs.P50Local + 1.3*nats.P50)
		}}
	}
	s := &scenario{
		name: "cluster-latency", title: fmt.Sprintf("a message of %d bytes to a client of the other server and back, without other load", size),
		note:    "A round trip between two hubs passes each hub twice and NATS twice: it is compared with a round trip within one hub and one over a nats-server.",
		columns: latencyColumns,
		ratios:  []ratio{sumRatio(hub1), sumRatio(hub2)},
	}
	flags := []string{fmt.Sprintf("-size=%d", size), fmt.Sprintf("-rounds=%d", rounds)}
	for _, v := range []struct{ name, server, system string }{{local1, "hub", "hub"}, {local2, "hub", "hub2"}, {bare, "nats", "nats"}} {
		s.subjects = append(s.subjects, subject{v.name, []string{v.server}, func(ctx context.Context, p *programs) (*measurement, error) {
			return withServer(ctx, p, v.server, limitsRaised, func(srv *server) (*measurement, error) {
				m, err := runLoad(ctx, p, "latency", v.system, srv.addr, flags...)
				if err == nil {
					sums[versionOf[v.name]] = m.P50
				}
				return m, err
			})
		}})
	}
	for _, v := range clusterSystems {
		s.subjects = append(s.subjects, subject{v.name, []string{"hub", "nats"}, func(ctx context.Context, p *programs) (*measurement, error) {
			return withPair(ctx, p, v.system, func(pair *serverPair) (*measurement, error) {
				m, err := runLoad(ctx, p, "latency", v.system, pair.first.addr, append(pair.loadFlags(1), flags...)...)
				if err == nil {
					m.P50Local = sums[versionOf[v.name]]
				}
				return m, err
			})
		}})
	}
	return s
}

// versionOf are the versions of the subjects of clusterLatencyScenario; 0 for those of NATS.
var versionOf = map[string]int{"hubs, version 1": 1, "one hub, version 1": 1, "hubs, version 2": 2, "one hub, version 2": 2}

// clusterCrossingScenario measures how many bytes cross NATS while the clients of two hubs send to
// everyone else.
func clusterCrossingScenario(clients, messages, size int) *scenario {
	crossings := func(m *measurement) float64 { return m.CrossedBytes / float64(clients*messages*size) }
	s := &scenario{
		name: "cluster-all", title: fmt.Sprintf("%d clients at each of two hubs send %d messages of %s bytes to everyone else", clients/2, messages, formatNumber(float64(size))),
		note: "What crosses NATS are the bytes that the nats-server has got, by its own count (`in_bytes` of `/varz`): everything that the hubs have sent to each " +
			"other during the run. One copy of a message is its body.",
		columns: append(throughputColumns(size)[:2], column{heading: "bytes that cross NATS ÷ one copy of each message", value: crossings}),
	}
	for _, v := range clusterSystems[:2] {
		s.subjects = append(s.subjects, subject{v.name, []string{"hub", "nats"}, func(ctx context.Context, p *programs) (*measurement, error) {
			return withPair(ctx, p, v.system, func(pair *serverPair) (*measurement, error) {
				before, err := pair.brokerBytes(ctx)
				if err != nil {
					return nil, err
				}
				m, err := pair.move(ctx, v.system, clients/2, fmt.Sprintf("-clients=%d", clients), fmt.Sprintf("-messages=%d", messages), fmt.Sprintf("-size=%d", size))
				if err != nil {
					return nil, err
				}
				after, err := pair.brokerBytes(ctx)
				m.CrossedBytes = after - before
				return m, err
			})
		}})
	}
	return s
}

// brokerBytes returns the bytes of messages that the nats-server has got.
func (sp *serverPair) brokerBytes(ctx context.Context) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, sp.brokerPage, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	var counts struct {
		InBytes float64 `json:"in_bytes"`
	}
	return counts.InBytes, json.Unmarshal(b, &counts)
}
