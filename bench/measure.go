package main

import (
	"context"
	"fmt"
	"strings"
)

// measureRounds measures every subject of a scenario once in each round. Ratios are computed
// within a round, because on a shared machine all runs of one round see similar other load.
func measureRounds(ctx context.Context, p *programs, s *scenario, rounds int) (*result, error) {
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
			m, err := sub.measure(ctx, p)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", sub.name, i+1, err)
			}
			rd[sub.name] = m
			fmt.Printf("  round %d, %s: %s\n", i+1, sub.name, summarizeRun(s.columns, m))
		}
		r.Rounds = append(r.Rounds, rd)
	}
	r.summarize()
	fmt.Print(r.table())
	return r, nil
}

// summarizeRun describes one run in a line.
func summarizeRun(columns []column, m *measurement) string {
	var parts []string
	for _, c := range columns {
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
