package main

import (
	"testing"
)

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

func TestResult_Check(t *testing.T) {
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
		if err := sampleResult().check(test.bar); (err == nil) != test.fine {
			t.Errorf("%+v: %v", test.bar, err)
		}
	}
}
