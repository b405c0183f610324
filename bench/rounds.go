package main

import (
	"context"
	"fmt"
	"strings"
)

// round is what one round found, by subject.
type round map[string]*measured

// result is what a scenario found: all runs, and what the table says of them, by
// heading and subject.
type result struct {
	scenario *scenario

	Title   string                       `json:"title"`
	Rounds  []round                      `json:"rounds"`
	Figures map[string]map[string]spread `json:"figures"`
	Ratios  map[string]map[string]spread `json:"ratios,omitempty"`
}

// measure runs every subject once in each round. On a shared machine an absolute
// time says little: what stands in one round had the same neighbours.
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
		this := round{}
		for _, one := range s.subjects {
			m, err := one.measure(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", one.name, i+1, err)
			}
			this[one.name] = m
			fmt.Printf("  round %d, %s: %s\n", i+1, one.name, s.line(m))
		}
		r.Rounds = append(r.Rounds, this)
	}
	r.sum()
	fmt.Print(r.table())
	return r, nil
}

// line tells one run in a line.
func (s *scenario) line(m *measured) string {
	var parts []string
	for _, c := range s.columns {
		if x := c.of(m); x != 0 || c.zero {
			parts = append(parts, c.heading+": "+number(x))
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

// sum makes the figures and the ratios from the rounds.
func (r *result) sum() {
	r.Figures, r.Ratios = map[string]map[string]spread{}, map[string]map[string]spread{}
	for _, c := range r.scenario.columns {
		for _, one := range r.scenario.subjects {
			if s := r.spread(one.name, c.of); s.Most != 0 || c.zero {
				put(r.Figures, c.heading, one.name, s)
			}
		}
	}
	for _, ratio := range r.scenario.ratios {
		for _, one := range r.scenario.subjects {
			if r.Rounds[0][ratio.base] != nil && ratio.applies(one.name) {
				put(r.Ratios, ratio.heading, one.name, spreadOf(r.each(func(this round) float64 {
					return ratio.of(this[ratio.base], this[one.name])
				})))
			}
		}
	}
}

// spread returns a figure of a subject over all rounds.
func (r *result) spread(subject string, of func(*measured) float64) spread {
	return spreadOf(r.each(func(this round) float64 { return of(this[subject]) }))
}

// each returns a figure of every round.
func (r *result) each(of func(round) float64) []float64 {
	values := make([]float64, len(r.Rounds))
	for i, this := range r.Rounds {
		values[i] = of(this)
	}
	return values
}

func put(all map[string]map[string]spread, heading, subject string, s spread) {
	if all[heading] == nil {
		all[heading] = map[string]spread{}
	}
	all[heading][subject] = s
}
