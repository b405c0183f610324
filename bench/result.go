package main

import (
	"fmt"
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

// describeRounds returns a sentence that explains the figures of a table.
func (r *result) describeRounds() string {
	if len(r.Rounds) == 1 {
		return " One round."
	}
	return fmt.Sprintf(" Median of %d rounds (minimum–maximum).", len(r.Rounds))
}

// check returns an error if the best round misses a threshold.
func (r *result) check(th threshold) error {
	s, ok := r.Ratios[th.heading][th.row]
	if !ok {
		s, ok = r.Figures[th.heading][th.row]
	}
	switch {
	case !ok:
		return fmt.Errorf("no figure %q of %q", th.heading, th.row)
	case th.minValue > 0 && s.Max < th.minValue:
		return fmt.Errorf("%s %s is %.2f in the best of %d rounds, want at least %.2f", th.heading, th.row, s.Max, len(r.Rounds), th.minValue)
	case th.maxValue > 0 && s.Min > th.maxValue:
		return fmt.Errorf("%s %s is %.2f in the best of %d rounds, want at most %.2f", th.heading, th.row, s.Min, len(r.Rounds), th.maxValue)
	}
	return nil
}

func setSpread(figures map[string]map[string]spread, heading, subject string, s spread) {
	if figures[heading] == nil {
		figures[heading] = map[string]spread{}
	}
	figures[heading][subject] = s
}
