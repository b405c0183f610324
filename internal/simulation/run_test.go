package simulation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

// smallConfig returns the configuration of a run that takes almost no time. Only tests of the
// timeout wait for the timeout.
func smallConfig(addr string) Config {
	return Config{Addr: addr, Size: 200, Clients: 4, Messages: 5, Timeout: 20 * time.Second, ShowStats: true}
}

// startHub starts a real hub for the duration of the test and returns its address.
func startHub(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(context.Background(), listener) }() // ends with Shutdown
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, hub.ErrClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return listener.Addr().String()
}

// simulate runs c and returns its report and the printed text.
func simulate(t *testing.T, c Config) (*Report, string) {
	t.Helper()
	report, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return report, printReport(t, report)
}

// printReport returns the printed text of r and checks that neither the text nor the JSON has
// invalid numbers.
func printReport(t *testing.T, r *Report) string {
	t.Helper()
	var text bytes.Buffer
	if _, err := r.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	marshalled, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"NaN", "Inf", "%!"} {
		if strings.Contains(text.String(), bad) || strings.Contains(string(marshalled), bad) {
			t.Errorf("there is a %s in\n%s\n%s", bad, text.String(), marshalled)
		}
	}
	return text.String()
}

func TestRun_Succeeds(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
	}{
		{"full", func(*Config) {}},
		{"header", func(c *Config) { c.Verify = VerifyHeader }},
		{"off", func(c *Config) { c.Verify = VerifyOff }},
		{"with an interval", func(c *Config) { c.Interval = time.Millisecond }},
		{"large bodies", func(c *Config) { c.Size, c.Messages = MaxSize, 2 }},
		{"only a header", func(c *Config) { c.Size = headerSize }},
		{"less than a header", func(c *Config) { c.Size = headerSize - 1 }},
		{"empty bodies", func(c *Config) { c.Size = 0 }},
		{"two clients", func(c *Config) { c.Clients = 2 }},
		{"one client", func(c *Config) { c.Clients = 1 }},
		{"no clients", func(c *Config) { c.Clients = 0 }},
		{"no messages", func(c *Config) { c.Messages = 0 }},
		{"all clients", func(c *Config) { c.Clients, c.Messages = MaxClients, 1 }},
	}
	addr := startHub(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := smallConfig(addr)
			test.change(&c)
			checkRunSucceeds(t, c)
		})
	}
}

// checkRunSucceeds runs c against a correct hub.
func checkRunSucceeds(t *testing.T, c Config) {
	t.Helper()
	report, text := simulate(t, c)
	plan := c.Plan()
	if !report.OK() || !report.Complete || report.Interrupted || report.Cause != "" {
		t.Errorf("not OK: %s", text)
	}
	if report.Deliveries != plan.Deliveries {
		t.Errorf("%d deliveries, want %d", report.Deliveries, plan.Deliveries)
	}
	if report.ClientsConnected != c.Clients || report.ClientsDisconnected != c.Clients {
		t.Errorf("%d connected, %d disconnected", report.ClientsConnected, report.ClientsDisconnected)
	}
	traffic := report.Traffic
	if traffic.MessagesIn < plan.Deliveries || traffic.MessagesOut < plan.Sends ||
		traffic.BytesIn+traffic.BytesOut < plan.WireBytes {
		t.Errorf("%+v cannot be what was moved", traffic)
	}
	if known := c.Verify != VerifyOff && c.Size >= headerSize && plan.Deliveries > 0; known != (report.Latency != nil) {
		t.Errorf("latency is %+v", report.Latency)
	}
	if moved := plan.Deliveries > 0; moved != (report.TransferSeconds > 0) || moved != (report.DeliveriesPerSecond > 0) {
		t.Errorf("%v s of transfer, %v/s", report.TransferSeconds, report.DeliveriesPerSecond)
	}
	if report.TransferSeconds > report.TimeAlive {
		t.Errorf("transferred for %v s in a life of %v s", report.TransferSeconds, report.TimeAlive)
	}
}

func TestRun_SamplesLatency(t *testing.T) {
	c := smallConfig(startHub(t))
	c.Clients, c.Messages, c.Size, c.Verify = 2, sampleThreshold+1, 32, VerifyHeader
	report, text := simulate(t, c)
	want := int64(c.Plan().Deliveries / sampleOneIn)
	if n := report.Latency.Samples; report.Latency.OneIn != sampleOneIn || n < want*9/10 || n > want*11/10 {
		t.Errorf("%d samples, want about %d", n, want)
	}
	if !strings.Contains(text, "one delivery in 8") {
		t.Errorf("the sampling is not mentioned:\n%s", text)
	}
}

func TestRun_ReportsHubFaults(t *testing.T) {
	// Every fault is in the third delivery to the client with the id 2. Clients connect in any
	// order.
	isFaulty := func(receiver uint64, n int) bool { return receiver == 2 && n == 2 }
	tests := []struct {
		name    string
		deliver func(body []byte) [][]byte
		kind    ProblemKind
		stalls  bool
	}{
		{"loses", func([]byte) [][]byte { return nil }, ProblemLost, true},
		{"doubles", func(b []byte) [][]byte { return [][]byte{b, b} }, ProblemDuplicated, false},
		{"corrupts", func(b []byte) [][]byte { return [][]byte{flipBit(bytes.Clone(b), 100)} }, ProblemCorrupted, false},
		{"cuts", func(b []byte) [][]byte { return [][]byte{b[:50]} }, ProblemResized, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := (&fakeHub{deliver: func(receiver uint64, n int, body []byte) [][]byte {
				if isFaulty(receiver, n) {
					return test.deliver(body)
				}
				return [][]byte{body}
			}}).start(t)
			c := smallConfig(h.addr)
			c.Interval = time.Millisecond // a later message skips the lost message
			if test.stalls {
				c.Timeout = stallTimeout
			}
			report, text := simulate(t, c)
			if report.OK() || report.Problems.Totals[test.kind] != 1 || report.Problems.Count() != 1 {
				t.Fatalf("found %+v", report.Problems)
			}
			if p := report.Problems.Details[0]; p.ID != 2 || len(p.Senders) != 1 || p.Senders[0].Sender < 0 {
				t.Errorf("named %+v", p)
			}
			if !strings.Contains(text, "(id 2): 1 "+string(test.kind)) {
				t.Errorf("not named:\n%s", text)
			}
		})
	}
}

// TestRun_DetectsDuplicateOfLastMessage checks a duplicate that arrives after the run is
// complete.
func TestRun_DetectsDuplicateOfLastMessage(t *testing.T) {
	h := (&fakeHub{deliver: func(receiver uint64, n int, body []byte) [][]byte {
		if n == 3*5-1 {
			return [][]byte{body, body}
		}
		return [][]byte{body}
	}}).start(t)
	for _, verify := range []VerifyMode{VerifyFull, VerifyOff} {
		c := smallConfig(h.addr)
		c.Verify = verify
		report, _ := simulate(t, c)
		kind := map[VerifyMode]ProblemKind{VerifyFull: ProblemDuplicated, VerifyOff: ProblemSurplus}[verify]
		if report.Problems.Totals[kind] != 4 || report.Problems.Count() != 4 {
			t.Errorf("%v: found %+v", verify, report.Problems)
		}
	}
}

func TestRun_EndsWhenHubDisconnects(t *testing.T) {
	h := &fakeHub{}
	h.onRelay = func(n int) {
		if n == 7 {
			h.closeAll()
		}
	}
	h.start(t)
	report, text := simulate(t, smallConfig(h.addr))
	if report.OK() || report.Complete || report.Interrupted {
		t.Errorf("got %+v", report)
	}
	if !strings.Contains(text, "did not complete: client ") {
		t.Errorf("the reason is missing in:\n%s", text)
	}
}

func TestRun_Interrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// By then 30 MB were sent to every client. That is more than all buffers on the path hold,
	// therefore some of it was received.
	h := (&fakeHub{onRelay: func(n int) {
		if n == 40 {
			cancel()
		}
	}}).start(t)
	c := smallConfig(h.addr)
	c.Size, c.Messages = MaxSize, 1000
	report, err := Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Interrupted || report.Complete || report.OK() || report.Problems.Count() != 0 {
		t.Errorf("got %+v", report)
	}
	if report.ClientsDisconnected != 4 || report.Deliveries == 0 || report.DeliveriesPerSecond == 0 {
		t.Errorf("%d disconnected, %d deliveries", report.ClientsDisconnected, report.Deliveries)
	}
	if text := printReport(t, report); !strings.Contains(text, "interrupted") {
		t.Errorf("the interruption is missing in:\n%s", text)
	}
}

func TestRun_InterruptedBeforeConnect(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	report, err := Run(ctx, smallConfig(startHub(t)))
	if err != nil {
		t.Fatal(err)
	}
	if printReport(t, report); !report.Interrupted || report.ClientsConnected != 0 {
		t.Errorf("got %+v", report)
	}
}

func TestRun_PrintsPlan(t *testing.T) {
	var out bytes.Buffer
	c := smallConfig(startHub(t))
	c.Out = &out
	simulate(t, c)
	if got := out.String(); got != c.Plan().String()+"\n" {
		t.Errorf("printed %q", got)
	}
}

// failingWriter is an output that fails, such as a closed terminal.
type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestRun_ReturnsWriteError(t *testing.T) {
	c := smallConfig(startHub(t))
	c.Out = failingWriter{}
	if _, err := Run(t.Context(), c); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

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
