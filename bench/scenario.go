package main

import (
	"context"
	"slices"
)

// scenario is one measurement: its subjects and the table and charts of its results.
type scenario struct {
	name  string
	title string // what is measured
	note  string // Markdown below the table

	// rounds is the number of rounds; 0 for that of the -pairs flag.
	rounds int

	subjects []subject
	columns  []column
	ratios   []ratio
	charts   []chart

	// thresholds are checked against the result; they can be nil.
	thresholds []threshold
}

// subject is measured once in each round. It is mostly a system, and then has the name of the
// system.
type subject struct {
	name    string
	systems []string // systems that it needs
	measure func(context.Context, *programs) (*measurement, error)
}

// systemSubjects returns a subject for each of the systems.
func systemSubjects(systems []string, measure func(ctx context.Context, p *programs, system string) (*measurement, error)) (subjects []subject) {
	for _, system := range systems {
		subjects = append(subjects, subject{system, []string{system}, func(ctx context.Context, p *programs) (*measurement, error) {
			return measure(ctx, p, system)
		}})
	}
	return subjects
}

// column is a figure in the table.
type column struct {
	heading  string
	value    func(*measurement) float64
	showZero bool // 0 is a value; otherwise 0 means that there is none
}

// ratio is a figure that relates two measurements of the same round.
type ratio struct {
	heading string
	base    string   // the subject that others are compared with
	rows    []string // the other subjects; nil for all
	value   func(base, other *measurement) float64
}

// appliesTo reports whether a subject has that ratio.
func (r *ratio) appliesTo(subject string) bool {
	return subject != r.base && (r.rows == nil || slices.Contains(r.rows, subject))
}

// chart is a chart of a result: bars for each subject, curves over a number, or the samples of
// one run over time.
type chart struct {
	title string
	unit  string // label of the vertical axis

	bars []series // for each subject, side by side

	curves  []curve
	samples func(*measurement) []memorySample
	xLabel  string // label of the horizontal axis of curves or samples
}

// series is one figure of every subject.
type series struct {
	name  string // "" if there is only one
	value func(*measurement) float64
}

// curve is one figure as a function of a number.
type curve struct {
	name   string
	value  func(*measurement) float64
	points []point
}

// point is the subject that was measured at x.
type point struct {
	x       float64
	subject string
}

// threshold is a limit that the best round of a scenario must reach. The threshold of a speed
// is half of what is promised and only the best round counts: other load on the machine must
// not fail it, and an error that halves the speed must. Memory does not depend on other load,
// and processor time in relation to that of the same round depends on it little, therefore their
// threshold is 1.1 times what is promised.
type threshold struct {
	heading  string // of a ratio or a column
	row      string
	minValue float64 // 0: no minimum
	maxValue float64
}

// filterSubjects removes the subjects that need other systems.
func (s *scenario) filterSubjects(systems []string) {
	s.subjects = slices.DeleteFunc(s.subjects, func(sub subject) bool {
		return slices.ContainsFunc(sub.systems, func(needed string) bool { return !slices.Contains(systems, needed) })
	})
}

// ratioHeadings returns the distinct headings of the ratios.
func (s *scenario) ratioHeadings() (headings []string) {
	seen := map[string]bool{}
	for _, r := range s.ratios {
		if !seen[r.heading] {
			headings = append(headings, r.heading)
		}
		seen[r.heading] = true
	}
	return headings
}
