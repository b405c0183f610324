package simulation

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// newTestReportChecker returns a reportChecker with the reports of a sender with two
// receivers. fates[n] are the fates in the report of message n; nil means no report.
func newTestReportChecker(t *testing.T, level Level, fates ...[]wire.Fate) *reportChecker {
	t.Helper()
	c := validConfig()
	c.ReportLevel, c.Clients, c.Messages = level, 3, len(fates)
	r := newReportChecker(c, c.Plan(), time.Now(), 1, func() {}, func(err error) { t.Error(err) })
	for n, f := range fates {
		if f != nil {
			r.onReport(uint32(n), 0)(&client.Report{Fates: f}, nil)
		}
	}
	return r
}

// TestReportChecker_UntrueFates compares reported fates with what arrived.
func TestReportChecker_UntrueFates(t *testing.T) {
	const (
		received, processed, rejected = wire.FateReceived, wire.FateProcessed, wire.FateRejected
		written, gone, uncertain      = wire.FateWritten, wire.FateGone, wire.FateUncertain
	)
	r := newTestReportChecker(t, LevelReceived,
		[]wire.Fate{received, received},  // 0
		[]wire.Fate{received, gone},      // 1
		[]wire.Fate{uncertain, rejected}, // 2
		[]wire.Fate{written, received},   // 3
		nil,                              // 4
		[]wire.Fate{processed, processed})
	for _, test := range []struct {
		place   int
		missing gaps
		want    []uint32
	}{
		{0, nil, nil},
		{0, gaps{{0, 1}}, []uint32{0}},
		{0, gaps{{2, 5}}, nil},
		{0, gaps{{0, 6}}, []uint32{0, 1, 5}},
		{1, gaps{{1, 2}}, nil},
		{1, nil, []uint32{1}},
		{1, gaps{{1, 4}}, []uint32{2, 3}},
	} {
		var got []uint32
		for _, nr := range r.untrueFates(test.place, test.missing) {
			got = append(got, nr.first)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("receiver %d without %v: untrue are %v, want %v", test.place, test.missing, got, test.want)
		}
	}
	if p := r.problem(0, 1, true); p.Count != 3+1 || p.Got != 2 {
		t.Errorf("the problem of the sender is %+v", p)
	}
}

// TestReportChecker_ReportError checks that a failed report aborts the run with its cause, and
// that it is ignored after the run, when closing clients fail their pending reports.
func TestReportChecker_ReportError(t *testing.T) {
	var errs []error
	r := newTestReportChecker(t, LevelReceived, nil, nil)
	r.onError = func(err error) { errs = append(errs, err) }
	cause := errors.New("closed")
	r.onReport(1, 0)(nil, cause)
	if len(errs) != 1 || !errors.Is(errs[0], cause) || !strings.Contains(errs[0].Error(), "message 1") {
		t.Errorf("failed with %v", errs)
	}
	if p := r.problem(0, 1, true); p.Count != 2 || !strings.Contains(p.String(), "reports at the requested level for 0 of 2") {
		t.Errorf("reports that did not come: %+v, %v", p, p)
	}
	r.close()
	r.onReport(0, 0)(nil, cause)
	r.onReport(0, 0)(&client.Report{Fates: []wire.Fate{wire.FateGone, wire.FateGone}}, nil)
	if p := r.problem(0, 1, false); p.Count != 0 || r.count() != 0 || len(errs) != 1 {
		t.Errorf("after the end: %+v, %d reports, failed with %v", p, r.count(), errs)
	}
}
