package simulation

import (
	"strings"
	"testing"
)

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
