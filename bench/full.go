package main

import (
	"context"
	"fmt"
	"time"
)

// sampleEvery is how often the memory of a server is looked at in a long run.
const sampleEvery = time.Second

// sampled is the resident memory of a server at one moment of a run.
type sampled struct {
	Seconds float64 `json:"seconds"` // since its beginning
	MiB     float64 `json:"mib"`
}

// heavyInFull is the largest example of the system's description: 1.33 TB.
var heavyInFull = pattern{clients: 255, messages: 20, size: 1_024_000, verify: "full"}

// fullScenario runs a pattern once, and follows the hub's memory.
func (b *bench) fullScenario(p pattern) *scenario {
	if b.verify != "" {
		p.verify = b.verify
	}
	s := &scenario{
		name: "full", title: p.title(), note: p.note(), rounds: 1,
		columns: append(p.columns(),
			column{heading: "seconds", of: func(m *measured) float64 { return m.Seconds }},
			column{heading: "MiB resident, median of the first half", of: func(m *measured) float64 { return middle(m.Memory[:len(m.Memory)/2]) }},
			column{heading: "and of the second", of: func(m *measured) float64 { return middle(m.Memory[len(m.Memory)/2:]) }}),
		charts: []chart{{
			title: "Resident memory of the hub", unit: "MiB", across: "seconds",
			trace: func(m *measured) []sampled { return m.Memory },
		}},
	}
	s.subjects = []subject{{"hub", []string{"hub"}, func(ctx context.Context) (*measured, error) {
		return b.with(ctx, "hub", raised, func(one *server) (*measured, error) { return b.follow(ctx, one, p) })
	}}}
	return s
}

// follow simulates, and samples the hub's memory meanwhile.
func (b *bench) follow(ctx context.Context, s *server, p pattern) (*measured, error) {
	done := make(chan struct{})
	memory := make(chan []sampled, 1)
	go func() { memory <- s.sample(done) }()
	m, err := simulate(ctx, b.programs, p, at(s.addr)...)
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

// sample reads the resident memory at once and then again and again until done is
// closed, or the server has ended.
func (s *server) sample(done <-chan struct{}) (samples []sampled) {
	began := time.Now()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		mib, err := s.memory("VmRSS")
		if err != nil {
			return samples
		}
		samples = append(samples, sampled{time.Since(began).Seconds(), mib})
		select {
		case <-tick.C:
		case <-done:
			return samples
		}
	}
}

// middle returns the median of some samples.
func middle(samples []sampled) float64 {
	values := make([]float64, len(samples))
	for i, one := range samples {
		values[i] = one.MiB
	}
	return spreadOf(values).Median
}
