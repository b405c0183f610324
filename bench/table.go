package main

import (
	"fmt"
	"strings"
)

// none stands in a table where there is nothing to say.
const none = "–"

// table returns the result in Markdown: a row for each subject, the median of the
// rounds, and in parentheses the least and the most.
func (r *result) table() string {
	var b strings.Builder
	headings := []string{""}
	for _, c := range r.scenario.columns {
		headings = append(headings, c.heading)
	}
	ratios := r.scenario.ratioHeadings()
	row(&b, append(headings, ratios...))
	b.WriteString("|" + strings.Repeat("---|", len(headings)+len(ratios)) + "\n")
	for _, one := range r.scenario.subjects {
		cells := []string{r.rowName(one.name)}
		for _, c := range r.scenario.columns {
			cells = append(cells, cell(r.Figures[c.heading], one.name))
		}
		for _, heading := range ratios {
			cells = append(cells, cell(r.Ratios[heading], one.name))
		}
		row(&b, cells)
	}
	return b.String()
}

// ratioHeadings returns the headings of the ratios; some share one.
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

// rowName returns the subject, with what it lost in the round in which it lost
// most.
func (r *result) rowName(subject string) string {
	var lost, expected, faults uint64
	for _, this := range r.Rounds {
		m := this[subject]
		if m.Lost > lost {
			lost, expected = m.Lost, m.Expected
		}
		faults = max(faults, m.Faults)
	}
	name := subject
	if lost > 0 {
		name += fmt.Sprintf(", lost %s of %s", number(float64(lost)), number(float64(expected)))
	}
	if faults > 0 {
		name += fmt.Sprintf(", %s out of order or twice", number(float64(faults)))
	}
	return name
}

func cell(column map[string]spread, subject string) string {
	if s, ok := column[subject]; ok {
		return s.String()
	}
	return none
}

func row(b *strings.Builder, cells []string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}
