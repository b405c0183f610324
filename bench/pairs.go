package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/sechlol/go-message-hub/wire"
)

// pattern is what the simulation does: everyone to everyone.
type pattern struct {
	clients  int
	messages int
	size     int
	verify   string
}

// patterns are the scenarios that are measured beside the limit.
var patterns = map[string]pattern{
	"default": {clients: 100, messages: 100, size: 10240, verify: "header"},
	"small":   {clients: 100, messages: 1000, size: 128, verify: "header"},
	"heavy":   {clients: 255, messages: 1, size: 1024000, verify: "full"},
}

func (s pattern) flags() []string {
	return []string{
		"-ncli=" + strconv.Itoa(s.clients), "-nmex=" + strconv.Itoa(s.messages),
		"-size=" + strconv.Itoa(s.size), "-verify=" + s.verify,
	}
}

func (s pattern) deliveries() uint64 {
	return uint64(s.clients) * uint64(s.clients-1) * uint64(s.messages)
}

// wireBytes returns the bytes that each client receives.
func (s pattern) wireBytes() uint64 {
	return uint64(s.clients-1) * uint64(s.messages) * uint64(wire.DeliveryLen(s.size))
}

// pair is one run of the simulation and one of the limit, one after the other.
type pair struct {
	Hub     float64 `json:"hub_seconds"`
	Limit   float64 `json:"limit_seconds"`
	Ratio   float64 `json:"ratio"`
	Rate    float64 `json:"deliveries_per_second"`
	HubCost cost    `json:"hub"`
	SimCPU  float64 `json:"simulation_cpu_seconds"`
	BareCPU float64 `json:"limit_cpu_seconds"`
	P50     float64 `json:"latency_p50_seconds"`
	P99     float64 `json:"latency_p99_seconds"`
}

// spread is a median with the least and the most.
type spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

func spreadOf(values []float64) spread {
	slices.Sort(values)
	n := len(values)
	return spread{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}
}

func (s spread) String() string { return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Least, s.Most) }

// pairsResult is what a scenario measured.
type pairsResult struct {
	Pairs   []pair `json:"pairs"`
	Ratio   spread `json:"ratio"` // the hub's time to the limit's
	Rate    spread `json:"million_deliveries_per_second"`
	PeakMiB spread `json:"hub_peak_mib"`
	CPU     spread `json:"hub_cpu_seconds"`

	// CPURatio is the processor time of hub and simulation to that of the limit's
	// writer and reader. It suffers less than Ratio from who else uses the machine.
	CPURatio spread `json:"cpu_ratio"`
}

// measurePairs alternates hub and limit, with a fresh hub for each pair.
func measurePairs(ctx context.Context, p *programs, name string, s pattern, n int) (*pairsResult, error) {
	if n < 1 {
		return nil, fmt.Errorf("%d pairs, want at least one", n)
	}
	fmt.Printf("%s: %d clients × %d messages × %d bytes to all others, %d deliveries, -verify=%s\n",
		name, s.clients, s.messages, s.size, s.deliveries(), s.verify)
	result := &pairsResult{}
	for i := range n {
		one, err := measurePair(ctx, p, s)
		if err != nil {
			return nil, err
		}
		result.Pairs = append(result.Pairs, one)
		fmt.Printf("  pair %d: hub %.2f s, limit %.2f s, ratio %.2f; %.2f million deliveries/s; hub %.0f MiB, %.1f s of CPU; simulation %.1f s; limit %.1f s; p50 %.1f ms, p99 %.1f ms\n",
			i+1, one.Hub, one.Limit, one.Ratio, one.Rate/1e6, one.HubCost.PeakMiB, one.HubCost.CPU, one.SimCPU, one.BareCPU, one.P50*1e3, one.P99*1e3)
	}
	result.Ratio = result.spread(func(p pair) float64 { return p.Ratio })
	result.Rate = result.spread(func(p pair) float64 { return p.Rate / 1e6 })
	result.PeakMiB = result.spread(func(p pair) float64 { return p.HubCost.PeakMiB })
	result.CPU = result.spread(func(p pair) float64 { return p.HubCost.CPU })
	result.CPURatio = result.spread(func(p pair) float64 { return (p.HubCost.CPU + p.SimCPU) / p.BareCPU })
	fmt.Printf("  median of %d (least–most): ratio %v; ratio of CPU time %v; %v million deliveries/s; hub %v MiB, %v s of CPU\n",
		n, result.Ratio, result.CPURatio, result.Rate, result.PeakMiB, result.CPU)
	return result, nil
}

func (r *pairsResult) spread(of func(pair) float64) spread {
	values := make([]float64, len(r.Pairs))
	for i := range r.Pairs {
		values[i] = of(r.Pairs[i])
	}
	return spreadOf(values)
}

func measurePair(ctx context.Context, p *programs, s pattern) (pair, error) {
	h, err := startHub(ctx, p)
	if err != nil {
		return pair{}, err
	}
	sim, err := simulate(ctx, p, h.port, s)
	taken, stopErr := h.stop()
	if err != nil {
		return pair{}, err
	}
	if stopErr != nil {
		return pair{}, stopErr
	}
	least, err := limit(ctx, p, s)
	if err != nil {
		return pair{}, err
	}
	return pair{
		Hub: sim.Seconds, Limit: least.seconds, Ratio: sim.Seconds / least.seconds, BareCPU: least.cpu, Rate: float64(sim.Deliveries) / sim.Seconds,
		HubCost: taken, SimCPU: sim.CPU, P50: sim.Latency.P50, P99: sim.Latency.P99,
	}, nil
}
