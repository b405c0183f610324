package simulation

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestReport_PrintsSpecifiedNames checks for the names of the system's specification, in its
// order.
func TestReport_PrintsSpecifiedNames(t *testing.T) {
	_, text := simulate(t, smallConfig(startHub(t)))
	offset := 0
	for _, name := range []string{
		"Time alive:", "Clients Connected:", "Clients Disconnected:",
		"Incoming Messages:", "Outgoing Messages:", "Bytes Read:", "Bytes Written:",
		"Incoming Messages per second:", "Outgoing Messages per second:",
		"Bytes Read per second:", "Bytes Written per second:",
		"Transfer time:", "Latency p50:", "Latency p90:", "Latency p99:", "Latency p99.9:", "Latency max:",
	} {
		i := strings.Index(text[offset:], "\n"+name)
		if offset == 0 {
			i = strings.Index(text, name)
		}
		if i < 0 {
			t.Fatalf("%q is not in, or not in its place:\n%s", name, text)
		}
		offset += i + 1
	}
}

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

func TestProblems_AddIsBounded(t *testing.T) {
	ps := Problems{Totals: make(map[ProblemKind]uint64)}
	for range 100 {
		ps.add(Problem{Kind: ProblemLost, Count: 3})
	}
	ps.add(Problem{Kind: ProblemLost})
	ps.add(Problem{Kind: ProblemCorrupted, Count: 1}) // not hidden by the other kind
	if ps.Totals[ProblemLost] != 300 || len(ps.Details) != maxProblemsPerKind+1 || ps.Omitted != 100-maxProblemsPerKind {
		t.Errorf("got %d of %d, %d omitted", len(ps.Details), ps.Totals[ProblemLost], ps.Omitted)
	}
	text := printReport(t, &Report{Problems: ps})
	if !strings.Contains(text, "Problems: 1 corrupted, 300 lost.") || !strings.Contains(text, "and 84 more, not listed") {
		t.Errorf("printed %s", text)
	}
}

func TestTimeLeft(t *testing.T) {
	tests := []struct {
		done, total uint64
		want        string
	}{
		{0, 10, "unknown"},
		{0, 0, "unknown"},
		{5, 10, "2s"},
		{10, 10, "0s"},
		{12, 10, "0s"},
		{1, 1 << 62, "more than a month"},
	}
	for _, test := range tests {
		if got := timeLeft(test.done, test.total, 2e9); got != test.want {
			t.Errorf("%d of %d: got %s, want %s", test.done, test.total, got, test.want)
		}
	}
}
