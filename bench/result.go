package main

import (
	"context"
	"fmt"
	"strings"
)

// round is the measurements of one round, by subject.
type round map[string]*measurement

// result is the result of a scenario: all rounds, and the figures of the table by heading and
// subject.
type result struct {
	scenario *scenario

	Title   string                       `json:"title"`
	Rounds  []round                      `json:"rounds"`
	Figures map[string]map[string]spread `json:"figures"`
	Ratios  map[string]map[string]spread `json:"ratios,omitempty"`
}

// measure measures every subject once in each round. Ratios are computed within a round,
// because on a shared machine all runs of one round see similar other load.
func (s *scenario) measure(ctx context.Context, rounds int) (*result, error) {
	if s.rounds > 0 {
		rounds = s.rounds
	}
	if rounds < 1 {
		return nil, fmt.Errorf("%d rounds, want at least one", rounds)
	}
	fmt.Printf("%s: %s\n", s.name, s.title)
	r := &result{scenario: s, Title: s.title}
	for i := range rounds {
		rd := round{}
		for _, sub := range s.subjects {
			m, err := sub.measure(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", sub.name, i+1, err)
			}
			rd[sub.name] = m
			fmt.Printf("  round %d, %s: %s\n", i+1, sub.name, s.summary(m))
		}
		r.Rounds = append(r.Rounds, rd)
	}
	r.summarize()
	fmt.Print(r.table())
	return r, nil
}

// summary describes one run in a line.
func (s *scenario) summary(m *measurement) string {
	var parts []string
	for _, c := range s.columns {
		if x := c.value(m); x != 0 || c.showZero {
			parts = append(parts, c.heading+": "+formatNumber(x))
		}
	}
	if m.Lost > 0 || m.Faults > 0 {
		parts = append(parts, fmt.Sprintf("lost %d of %d, %d faults", m.Lost, m.Expected, m.Faults))
	}
	if m.Problem != "" {
		parts = append(parts, m.Problem)
	}
	return strings.Join(parts, "; ")
}

// summarize computes the figures and the ratios from the rounds.
func (r *result) summarize() {
	r.Figures, r.Ratios = map[string]map[string]spread{}, map[string]map[string]spread{}
	for _, c := range r.scenario.columns {
		for _, sub := range r.scenario.subjects {
			if s := r.figure(sub.name, c.value); s.Max != 0 || c.showZero {
				setSpread(r.Figures, c.heading, sub.name, s)
			}
		}
	}
	for _, rt := range r.scenario.ratios {
		for _, sub := range r.scenario.subjects {
			if r.Rounds[0][rt.base] != nil && rt.appliesTo(sub.name) {
				setSpread(r.Ratios, rt.heading, sub.name, newSpread(r.perRound(func(rd round) float64 {
					return rt.value(rd[rt.base], rd[sub.name])
				})))
			}
		}
	}
}

// figure returns the spread of a figure of a subject over all rounds.
func (r *result) figure(subject string, value func(*measurement) float64) spread {
	return newSpread(r.perRound(func(rd round) float64 { return value(rd[subject]) }))
}

// perRound returns the value of a figure in every round.
func (r *result) perRound(value func(round) float64) []float64 {
	values := make([]float64, len(r.Rounds))
	for i, rd := range r.Rounds {
		values[i] = value(rd)
	}
	return values
}

func setSpread(table map[string]map[string]spread, heading, subject string, s spread) {
	if table[heading] == nil {
		table[heading] = map[string]spread{}
	}
	table[heading][subject] = s
}
