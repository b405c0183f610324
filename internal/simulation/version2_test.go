package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

func TestRun_Version2AtEachLevel(t *testing.T) {
	addr := startHub(t)
	for _, level := range []Level{LevelNone, LevelWritten, LevelReceived, LevelProcessed} {
		t.Run(level.String(), func(t *testing.T) {
			c := smallConfig(addr)
			c.Protocol, c.ReportLevel = 2, level
			report, text := simulate(t, c)
			if !report.OK() || report.Deliveries != 60 {
				t.Fatalf("not in order:\n%s", text)
			}
			if level == LevelNone {
				if report.Reports != 0 || strings.Contains(text, "Report") {
					t.Errorf("%d reports, want none:\n%s", report.Reports, text)
				}
				return
			}
			if report.Reports != 20 || report.ReportLatency == nil || report.ReportLatency.Samples == 0 {
				t.Errorf("%d reports of 20, latency %+v", report.Reports, report.ReportLatency)
			}
			if n := report.Fates[level.String()]; n > 60 || level != LevelWritten && n != 60 {
				t.Errorf("%d deliveries are %v, want 60: %v", n, level, report.Fates)
			}
			for _, row := range []string{"Reports:", "20 of 20", "Reported as " + level.String(), "Report latency p99:"} {
				if !strings.Contains(text, row) {
					t.Errorf("%q is missing in\n%s", row, text)
				}
			}
		})
	}
}

// TestRun_BrokenConnectionsLoseNothing breaks the connection of each client five times.
func TestRun_BrokenConnectionsLoseNothing(t *testing.T) {
	c := smallConfig(startHub(t))
	c.Protocol, c.ReportLevel, c.Reconnects, c.Messages = 2, LevelReceived, 5, 200
	report, text := simulate(t, c)
	if !report.OK() || report.Breaks != 20 || report.Reports != 800 || report.Fates["received"] != 2400 {
		t.Errorf("%d breaks, %d reports:\n%s", report.Breaks, report.Reports, text)
	}
	if !strings.Contains(text, "Connections broken") {
		t.Errorf("the breaks are missing in\n%s", text)
	}
}

// writerFunc is a function that implements io.Writer.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestRun_LogsReconnectErrors returns an error instead of a token for clients whose connection
// is broken.
func TestRun_LogsReconnectErrors(t *testing.T) {
	c := smallConfig(startHub(t))
	c.Protocol, c.Reconnects, c.Messages = 2, 1, 20
	var tokenCalls atomic.Int32
	c.Token = func(context.Context) (string, error) {
		if int(tokenCalls.Add(1)) > c.Clients {
			return "", errors.New("the file is missing")
		}
		return "", nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	logged := make(chan string, 1000)
	c.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		if strings.Contains(string(p), "failed to reconnect") {
			logged <- string(p)
			cancel()
		}
		return len(p), nil
	}), nil))
	if _, err := Run(ctx, c); err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-logged:
		if !strings.Contains(line, "level=WARN") || !strings.Contains(line, "the file is missing") {
			t.Errorf("%q, want a warning that says why", line)
		}
	default:
		t.Error("no log entry about the failed reconnects")
	}
}

// TestConfig_ValidateRequiresVersion2 checks that options of version 2 are rejected with
// version 1.
func TestConfig_ValidateRequiresVersion2(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"-report=received": func(c *Config) { c.ReportLevel = LevelReceived },
		"-reconnect=1":     func(c *Config) { c.Reconnects = 1 },
		"-reconnect=10001": func(c *Config) { c.Protocol, c.Reconnects = 2, MaxReconnects+1 },
		"-protocol=3":      func(c *Config) { c.Protocol = 3 },
		"-report=9":        func(c *Config) { c.Protocol, c.ReportLevel = 2, 9 },
	} {
		c := validConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

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

func TestConfig_PlanOfVersion2(t *testing.T) {
	c := Config{Clients: 3, Messages: 10, Size: 100, Protocol: 2, ReportLevel: LevelWritten}
	want := uint64(30*wire.SendLen(2, 100) + 60*wire.DeliverLen(100) + 30*wire.ReportLen(2))
	if got := c.Plan().WireBytes; got != want {
		t.Errorf("%d bytes on the wire, want %d", got, want)
	}
}

func TestLevel_MarshalsAsName(t *testing.T) {
	text, err := json.Marshal(LevelProcessed)
	if err != nil || string(text) != `"processed"` {
		t.Errorf("got %s, %v", text, err)
	}
	var l Level
	if err := json.Unmarshal([]byte(`"written"`), &l); err != nil || l != LevelWritten {
		t.Errorf("got %v, %v", l, err)
	}
	if err := json.Unmarshal([]byte(`"read"`), &l); err == nil || !strings.Contains(err.Error(), "none, written, received and processed") {
		t.Errorf("got %v", err)
	}
}
