package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSpread_String(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   spread
		text   string
	}{
		{[]float64{3}, spread{3, 3, 3}, "3"},
		{[]float64{4, 1}, spread{2.5, 1, 4}, "2.50 (1.00–4.00)"},
		{[]float64{9, 1, 2}, spread{2, 1, 9}, "2 (1–9)"},
		{[]float64{9, 1.5, 2}, spread{2, 1.5, 9}, "2.00 (1.50–9.00)"},
		{[]float64{100.25, 100}, spread{100.125, 100, 100.25}, "100"},
		{[]float64{1234.5, 99}, spread{666.75, 99, 1234.5}, "667 (99–1,234)"},
		{[]float64{0, 0}, spread{}, "0"},
	} {
		got := newSpread(test.values)
		if got != test.want {
			t.Errorf("%v, want %v", got, test.want)
		}
		if text := got.String(); text != test.text {
			t.Errorf("%q, want %q", text, test.text)
		}
	}
}

func TestFormatNumber(t *testing.T) {
	for _, test := range []struct {
		x    float64
		want string
	}{
		{0, "0"}, {7, "7"}, {999, "999"}, {1000, "1,000"}, {1234567.8, "1,234,568"}, {-1000, "-1,000"}, {-100.5, "-100"},
		{12.345, "12.3"}, {1.2345, "1.23"}, {0.012345, "0.0123"},
	} {
		if got := formatNumber(test.x); got != test.want {
			t.Errorf("%v is %q, want %q", test.x, got, test.want)
		}
	}
}

// sampleResult returns a result of two rounds in which a peer is slower and loses messages.
func sampleResult() *result {
	s := &scenario{
		name: "sample", title: "two systems", note: "A note.",
		columns: []column{
			{heading: "rate", value: (*measurement).rate},
			{heading: "KiB", value: func(m *measurement) float64 { return m.KiBPerConn }},
		},
		ratios: []ratio{{heading: "hub ÷ peer", base: "hub", value: func(hub, other *measurement) float64 { return hub.rate() / other.rate() }}},
		charts: []chart{{title: "Rates", unit: "deliveries/s", bars: []series{{value: (*measurement).rate}}}, {
			title: "Growth", unit: "deliveries/s", xLabel: "clients",
			curves: []curve{{name: "it", value: (*measurement).rate, points: []point{{10, "hub"}, {100, "peer"}}}},
		}},
		subjects: []subject{{name: "hub"}, {name: "peer"}},
	}
	r := &result{scenario: s, Title: s.title, Rounds: []round{
		{"hub": {Deliveries: 1000, Seconds: 1}, "peer": {Deliveries: 1000, Seconds: 2}},
		{"hub": {Deliveries: 1000, Seconds: 2}, "peer": {Deliveries: 900, Seconds: 9, Expected: 1000, Lost: 100}},
	}}
	r.summarize()
	return r
}

func TestResult_Table(t *testing.T) {
	const want = "" +
		"|  | rate | KiB | hub ÷ peer |\n" +
		"|---|---|---|---|\n" +
		"| hub | 750 (500–1,000) | – | – |\n" +
		"| peer, lost 100 of 1,000 | 300 (100–500) | – | 3.50 (2.00–5.00) |\n"
	if got := sampleResult().table(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestResult_RatioWithoutBase removes the base of the ratios from the measured subjects.
func TestResult_RatioWithoutBase(t *testing.T) {
	r := sampleResult()
	r.scenario.subjects = []subject{{name: "peer"}}
	for _, rd := range r.Rounds {
		delete(rd, "hub")
	}
	r.summarize()
	if len(r.Ratios) != 0 {
		t.Errorf("ratios to a subject that was not measured: %v", r.Ratios)
	}
}

func TestThreshold_Check(t *testing.T) {
	for _, test := range []struct {
		bar  threshold
		fine bool
	}{
		{threshold{heading: "hub ÷ peer", row: "peer", minValue: 4.9}, true}, // the best round counts
		{threshold{heading: "hub ÷ peer", row: "peer", minValue: 5.1}, false},
		{threshold{heading: "hub ÷ peer", row: "peer", maxValue: 2.1}, true},
		{threshold{heading: "hub ÷ peer", row: "peer", maxValue: 1.9}, false},
		{threshold{heading: "hub ÷ peer", row: "hub", minValue: 1}, false}, // no such figure
		{threshold{heading: "rate", row: "hub", maxValue: 510}, true},      // a column
		{threshold{heading: "rate", row: "hub", maxValue: 490}, false},
	} {
		if err := test.bar.check(sampleResult()); (err == nil) != test.fine {
			t.Errorf("%+v: %v", test.bar, err)
		}
	}
}

func TestPage_WriteResult(t *testing.T) {
	p := page{filepath.Join(t.TempDir(), "page.md")}
	const before = "# Title\n\n<!-- bench:sample -->\nold\n<!-- /bench:sample -->\n\nThe end.\n"
	if err := os.WriteFile(p.file, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.check([]string{"sample"}); err != nil {
		t.Error(err)
	}
	if err := p.check([]string{"sample", "other"}); err == nil {
		t.Error("no error for a section without markers")
	}
	r := sampleResult()
	if err := p.writeResult(r, "Measured on a day."); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	want := "# Title\n\n<!-- bench:sample -->\nTwo systems. Median of 2 rounds (minimum–maximum). Measured on a day.\n\n" + r.table() +
		"\nA note.\n\n![Rates](charts/sample.svg)\n\n![Growth](charts/sample-2.svg)\n<!-- /bench:sample -->\n\nThe end.\n"
	if string(b) != want {
		t.Errorf("got\n%swant\n%s", b, want)
	}
	for _, name := range []string{"sample.svg", "sample-2.svg"} {
		svg, err := os.ReadFile(filepath.Join(filepath.Dir(p.file), chartsDir, name))
		if err != nil || !strings.Contains(string(svg), "deliveries/s") {
			t.Errorf("%s: %v, %d bytes, without its axis", name, err, len(svg))
		}
	}
}
