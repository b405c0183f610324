package main

import (
	"fmt"
	"strings"
)

// noValue is the text of an empty cell.
const noValue = "–"

// table returns the result as a Markdown table: a row for each subject, with the median of the
// rounds and, in parentheses, the minimum and the maximum.
func (r *result) table() string {
	var b strings.Builder
	headings := []string{""}
	for _, c := range r.scenario.columns {
		headings = append(headings, c.heading)
	}
	ratios := r.scenario.ratioHeadings()
	writeRow(&b, append(headings, ratios...))
	b.WriteString("|" + strings.Repeat("---|", len(headings)+len(ratios)) + "\n")
	for _, sub := range r.scenario.subjects {
		cells := []string{r.rowName(sub.name)}
		for _, c := range r.scenario.columns {
			cells = append(cells, formatCell(r.Figures[c.heading], sub.name))
		}
		for _, heading := range ratios {
			cells = append(cells, formatCell(r.Ratios[heading], sub.name))
		}
		writeRow(&b, cells)
	}
	return b.String()
}

// rowName returns the name of a subject, with its largest loss in any round.
func (r *result) rowName(subject string) string {
	var lost, expected, faults uint64
	for _, rd := range r.Rounds {
		m := rd[subject]
		if m.Lost > lost {
			lost, expected = m.Lost, m.Expected
		}
		faults = max(faults, m.Faults)
	}
	name := subject
	if lost > 0 {
		name += fmt.Sprintf(", lost %s of %s", formatNumber(float64(lost)), formatNumber(float64(expected)))
	}
	if faults > 0 {
		name += fmt.Sprintf(", %s duplicated, out of order or corrupted", formatNumber(float64(faults)))
	}
	return name
}

func formatCell(column map[string]spread, subject string) string {
	if s, ok := column[subject]; ok {
		return s.String()
	}
	return noValue
}

func writeRow(b *strings.Builder, cells []string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}
