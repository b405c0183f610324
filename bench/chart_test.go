package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDrawChart_EachKind draws bars, curves and samples, and looks for their texts.
func TestDrawChart_EachKind(t *testing.T) {
	r := sampleResult()
	r.Rounds[0]["hub"].Memory = []memorySample{{0, 10}, {1, 12}}
	for name, test := range map[string]struct {
		chart chart
		texts []string
	}{
		"bars":    {r.scenario.charts[0], []string{"Rates", "hub", "peer", "750"}},
		"curves":  {r.scenario.charts[1], []string{"Growth", "clients", "100", "750"}},
		"samples": {chart{title: "Memory", xLabel: "seconds", samples: func(m *measurement) []memorySample { return m.Memory }}, []string{"Memory", "seconds"}},
	} {
		file := filepath.Join(t.TempDir(), "chart.svg")
		if err := drawChart(&test.chart, r, file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		svg, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range test.texts {
			if !strings.Contains(string(svg), ">"+text+"<") {
				t.Errorf("%s: no text %q", name, text)
			}
		}
		if strings.Contains(string(svg), fontFamily) {
			t.Errorf("%s: names a typeface that readers may not have", name)
		}
	}
}

func TestVisibleSubjects_WithoutZero(t *testing.T) {
	r := sampleResult()
	r.Rounds[0]["hub"].KiBPerConn = 4.5
	c := &chart{bars: []series{{value: func(m *measurement) float64 { return m.KiBPerConn }}}}
	if got := visibleSubjects(c, r); len(got) != 1 || got[0] != "hub" {
		t.Errorf("%q, want only the subject with a figure", got)
	}
}
