package simulation

import (
	"encoding/json"
	"testing"
)

func TestReport_MarshalsJSON(t *testing.T) {
	c := smallConfig(startHub(t))
	report, _ := simulate(t, c)
	marshalled, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Config     struct{ Size, Clients, Messages int }
		Complete   bool
		Deliveries uint64
		Transfer   float64            `json:"transfer_seconds"`
		PerSecond  float64            `json:"deliveries_per_second"`
		Latency    map[string]float64 `json:"latency_seconds"`
		Problems   struct {
			Totals  map[string]uint64
			Details []Problem
		}
	}
	if err := json.Unmarshal(marshalled, &got); err != nil {
		t.Fatal(err)
	}
	if got.Config.Size != c.Size || got.Config.Clients != c.Clients || got.Config.Messages != c.Messages {
		t.Errorf("config is %+v", got.Config)
	}
	if !got.Complete || got.Deliveries != 60 || got.Transfer <= 0 || got.PerSecond <= 0 {
		t.Errorf("got %+v", got)
	}
	if got.Latency["samples"] != 60 || got.Latency["p99_9"] > got.Latency["max"] || got.Latency["max"] > got.Transfer {
		t.Errorf("latency is %v in a transfer of %v", got.Latency, got.Transfer)
	}
	if got.Problems.Totals == nil || got.Problems.Details == nil {
		t.Errorf("no problems are %+v", got.Problems)
	}
}

// TestReport_EmptyHasNoNaN checks that no division by zero is printed or marshalled.
func TestReport_EmptyHasNoNaN(t *testing.T) {
	for _, r := range []*Report{{}, {showStats: true}, {showStats: true, Latency: &Latency{}}} {
		printReport(t, r)
	}
}

func TestReport_OK(t *testing.T) {
	tests := []struct {
		report Report
		want   bool
	}{
		{Report{}, false},
		{Report{Complete: true}, true},
		{Report{Complete: true, Problems: Problems{Totals: map[ProblemKind]uint64{ProblemCorrupted: 1}}}, false},
	}
	for _, test := range tests {
		if got := test.report.OK(); got != test.want {
			t.Errorf("%+v: got %v", test.report, got)
		}
	}
}
