package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// clusterKillResult is what clusterkill prints, as far as it is shown.
type clusterKillResult struct {
	Seed            uint64         `json:"seed"`
	Seconds         float64        `json:"seconds"`
	Faults          map[string]int `json:"faults"`
	Messages        uint64         `json:"messages"`
	Deliveries      uint64         `json:"deliveries"`
	Fates           map[string]int `json:"fates"`
	Undisturbed     uint64         `json:"undisturbed"`
	Untrue          uint64         `json:"untrue"`
	MaxGhostSeconds float64        `json:"max_ghost_seconds"`
	MaxEqualSeconds float64        `json:"max_equal_seconds"`
	LeaseGaps       []struct {
		Seconds float64 `json:"seconds"`
	} `json:"lease_gaps"`
	Hubs []struct {
		Goroutines int     `json:"goroutines"`
		HeapMiB    float64 `json:"heap_mib"`
	} `json:"hubs"`
	Failed   uint64   `json:"failed"`
	Problems []string `json:"problems"`
}

// clusterKillName is the name of the scenario that needs network namespaces.
const clusterKillName = "cluster-kill"

// clusterKillScenario breaks a cluster of three hubs and three NATS servers at random, and checks
// that nothing is lost, doubled or reported wrongly.
func clusterKillScenario(kills int, seed uint64) *scenario {
	s := &scenario{
		name:  clusterKillName,
		title: fmt.Sprintf("a cluster of 3 hubs and 3 NATS servers with 21 clients, which is broken %d times", kills),
		note: "Each fault takes 1 to 8 s: SIGKILL and SIGSTOP of a hub or a NATS server, of the leader of JetStream too, and cuts of hubs, NATS servers and clients. " +
			"Each message arrived at most once and in order, and each fate is compared with what the receiver got.",
		columns: []column{
			{heading: "faults", value: func(m *measurement) float64 { return float64(m.MadeConns) }},
			{heading: "messages", value: func(m *measurement) float64 { return float64(m.Expected) }},
			{heading: "deliveries", value: func(m *measurement) float64 { return float64(m.Deliveries) }},
			{heading: "deliveries untouched by faults", value: func(m *measurement) float64 { return float64(m.Visits) }},
			{heading: "untrue fates", value: func(m *measurement) float64 { return float64(m.Faults) }, showZero: true},
			{heading: "seconds until a dead hub's clients are not listed", value: func(m *measurement) float64 { return m.P99 }, showZero: true},
			{heading: "seconds until all hubs list the same", value: func(m *measurement) float64 { return m.ListSeconds }, showZero: true},
			{heading: "longest seconds without lease", value: func(m *measurement) float64 { return m.Max }, showZero: true},
			{heading: "goroutines of a hub after", value: func(m *measurement) float64 { return float64(m.GoroutinesAfter) }},
			{heading: "live heap MiB of a hub after", value: func(m *measurement) float64 { return m.HeapLast }},
		},
		rounds: 1,
	}
	s.subjects = []subject{{"hub", []string{"hub", "nats"}, func(ctx context.Context, p *programs) (*measurement, error) {
		return measureClusterKill(ctx, p, kills, seed)
	}}}
	return s
}

// measureClusterKill runs clusterkill.
func measureClusterKill(ctx context.Context, p *programs, kills int, seed uint64) (*measurement, error) {
	if err := checkNamespaces(ctx); err != nil {
		return nil, err
	}
	r, err := runClusterKill(ctx, p, kills, seed)
	if err != nil {
		return nil, err
	}
	fmt.Printf("  seed %d; faults: %v; fates: %v; gaps of leases: %v\n", r.Seed, r.Faults, r.Fates, r.LeaseGaps)
	m := &measurement{
		Seconds: r.Seconds, Expected: r.Messages, Deliveries: r.Deliveries, Visits: r.Undisturbed, Faults: r.Untrue,
		P99: r.MaxGhostSeconds, ListSeconds: r.MaxEqualSeconds,
	}
	for _, n := range r.Faults {
		m.MadeConns += uint64(n)
	}
	for _, g := range r.LeaseGaps {
		m.Max = max(m.Max, g.Seconds)
	}
	for _, h := range r.Hubs {
		m.GoroutinesAfter, m.HeapLast = max(m.GoroutinesAfter, h.Goroutines), max(m.HeapLast, h.HeapMiB)
	}
	return m, nil
}

// runClusterKill runs clusterkill in a new network namespace, and returns its result.
func runClusterKill(ctx context.Context, p *programs, kills int, seed uint64) (*clusterKillResult, error) {
	cmd := exec.CommandContext(ctx, p.path("clusterkill"), "-programs="+p.dir, fmt.Sprint("-kills=", kills), fmt.Sprint("-seed=", seed))
	cmd.SysProcAttr = newNetwork()
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	stdin, err := cmd.StdinPipe() // closed when this program ends, by which it ends
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("clusterkill: %w", err)
	}
	r := new(clusterKillResult)
	if err := json.Unmarshal(out.Bytes(), r); err != nil {
		return nil, fmt.Errorf("clusterkill: %w", err)
	}
	return r, nil
}

// errNoNamespaces is the reason why clusterkill cannot run on a machine.
var errNoNamespaces = errors.New("network namespaces cannot be made here")

// checkNamespaces returns an error that wraps errNoNamespaces if this machine does not permit to
// make network namespaces with a bridge and iptables.
func checkNamespaces(ctx context.Context) error {
	const probe = "ip link add probe0 type bridge && ip link add probe1 type veth peer name probe2 && iptables -w -A INPUT -s 10.77.0.1 -j DROP && nsenter --version"
	cmd := exec.CommandContext(ctx, "sh", "-c", probe)
	cmd.SysProcAttr = newNetwork()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: run as root, with iproute2, iptables and util-linux: %w %s", errNoNamespaces, err, out)
	}
	return nil
}
