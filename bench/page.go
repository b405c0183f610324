package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// page is a Markdown file with results between markers:
//
//	<!-- bench:small -->
//	…
//	<!-- /bench:small -->
//
// The text outside of the markers is not changed.
type page struct {
	file string
}

// chartsDir is the folder of the charts, relative to the folder of the page.
const chartsDir = "charts"

// check returns an error unless the page has the markers of all sections. Bench calls it
// first, because a run takes an hour.
func (p page) check(sections []string) error {
	b, err := os.ReadFile(p.file)
	if err != nil {
		return err
	}
	for _, name := range sections {
		if _, err := replaceSection(string(b), name, ""); err != nil {
			return fmt.Errorf("%s: %w", p.file, err)
		}
	}
	return nil
}

// writeSection replaces the text of a section.
func (p page) writeSection(name, text string) error {
	b, err := os.ReadFile(p.file)
	if err != nil {
		return err
	}
	updated, err := replaceSection(string(b), name, text)
	if err != nil {
		return err
	}
	return os.WriteFile(p.file, []byte(updated), 0o644)
}

// writeResult draws the charts of a result and writes its section, including the provenance.
func (p page) writeResult(r *result, provenance string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.%s %s\n\n%s", capitalize(r.Title), r.describeRounds(), provenance, r.table())
	if r.scenario.note != "" {
		fmt.Fprintf(&b, "\n%s\n", r.scenario.note)
	}
	folder := filepath.Join(filepath.Dir(p.file), chartsDir)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for i, c := range r.scenario.charts {
		name := r.scenario.name + ".svg"
		if i > 0 {
			name = fmt.Sprintf("%s-%d.svg", r.scenario.name, i+1)
		}
		if err := drawChart(&c, r, filepath.Join(folder, name)); err != nil {
			return fmt.Errorf("draw %s: %w", name, err)
		}
		fmt.Fprintf(&b, "\n![%s](%s/%s)\n", c.title, chartsDir, name)
	}
	return p.writeSection(r.scenario.name, b.String())
}

// replaceSection returns the page with text between the markers of the section name.
func replaceSection(page, name, text string) (string, error) {
	startMarker, endMarker := "<!-- bench:"+name+" -->\n", "<!-- /bench:"+name+" -->\n"
	before, tail, found := strings.Cut(page, startMarker)
	if !found {
		return "", fmt.Errorf("no line %q", strings.TrimSpace(startMarker))
	}
	_, after, found := strings.Cut(tail, endMarker)
	if !found {
		return "", fmt.Errorf("no line %q after its start marker", strings.TrimSpace(endMarker))
	}
	return before + startMarker + text + endMarker + after, nil
}
