package main

import (
	"context"
	"fmt"
	"time"
)

// memorySampleInterval is the interval at which a long run samples the memory of the server.
const memorySampleInterval = time.Second

// fullWorkload is the largest example of the system's specification: 1.33 TB.
var fullWorkload = workload{clients: 255, messages: 20, size: 1_024_000, verify: "full"}

// fullScenario runs a workload once and samples the memory of the hub.
func fullScenario(wl workload) *scenario {
	s := &scenario{
		name: "full", title: wl.describe(), note: wl.describeDriving(), rounds: 1,
		columns: append(throughputColumns(wl.size),
			column{heading: "seconds", value: func(m *measurement) float64 { return m.Seconds }},
			column{heading: "resident MiB, median of the first half", value: func(m *measurement) float64 { return medianMiB(m.Memory[:len(m.Memory)/2]) }},
			column{heading: "resident MiB, median of the second half", value: func(m *measurement) float64 { return medianMiB(m.Memory[len(m.Memory)/2:]) }}),
		charts: []chart{{
			title: "Resident memory of the hub", unit: "MiB", xLabel: "seconds",
			samples: func(m *measurement) []memorySample { return m.Memory },
		}},
	}
	s.subjects = []subject{{"hub", []string{"hub"}, func(ctx context.Context, p *programs) (*measurement, error) {
		return withServer(ctx, p, "hub", limitsRaised, func(srv *server) (*measurement, error) { return simulateAndSampleMemory(ctx, p, srv, wl) })
	}}}
	return s
}

// simulateAndSampleMemory runs a simulation and samples the memory of the hub during it.
func simulateAndSampleMemory(ctx context.Context, p *programs, s *server, wl workload) (*measurement, error) {
	done := make(chan struct{})
	memory := make(chan []memorySample, 1)
	go func() { memory <- sampleMemory(s, done) }() // ends after done is closed
	m, err := simulate(ctx, p, wl, addrFlags(s.addr)...)
	close(done)
	samples := <-memory
	if err != nil {
		return nil, err
	}
	if len(samples) < 2 {
		return nil, fmt.Errorf("%d samples of the memory, want at least two", len(samples))
	}
	m.Memory = samples
	return m, nil
}

// sampleMemory reads the resident memory at once and then at memorySampleInterval, until done
// is closed or the server has ended.
func sampleMemory(s *server, done <-chan struct{}) (samples []memorySample) {
	start := time.Now()
	ticker := time.NewTicker(memorySampleInterval)
	defer ticker.Stop()
	for {
		mib, err := s.memoryMiB("VmRSS")
		if err != nil {
			return samples
		}
		samples = append(samples, memorySample{time.Since(start).Seconds(), mib})
		select {
		case <-ticker.C:
		case <-done:
			return samples
		}
	}
}

// medianMiB returns the median of the samples.
func medianMiB(samples []memorySample) float64 {
	values := make([]float64, len(samples))
	for i, smp := range samples {
		values[i] = smp.MiB
	}
	return newSpread(values).Median
}
