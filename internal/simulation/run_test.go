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
	"sync"
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

// TestRun_SendsOnSchedule checks that messages carry the time at which they were due, not the
// time at which they were sent. Latency counts from that time, therefore a hub that delays the
// senders cannot appear fast.
func TestRun_SendsOnSchedule(t *testing.T) {
	const interval = 3 * time.Millisecond
	var mu sync.Mutex
	due := make(map[uint64]uint64) // by message ID
	h := (&fakeHub{deliver: func(_ uint64, _ int, body []byte) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		due[parseHeader(body).messageID] = parseHeader(body).intended
		return [][]byte{body}
	}}).start(t)
	c := smallConfig(h.addr)
	c.Interval = interval
	report, _ := simulate(t, c)
	first := due[newHeader(0, 0, 0).messageID]
	for sender := range c.Clients {
		for number := range c.Messages {
			got := due[newHeader(sender, uint32(number), 0).messageID] - first
			if want := uint64(number) * uint64(interval); got != want {
				t.Errorf("message %d of client %d was due at %d, want %d", number, sender, got, want)
			}
		}
	}
	if minSeconds := 4 * interval.Seconds(); report.TransferSeconds < minSeconds {
		t.Errorf("took %v s, the schedule alone takes %v", report.TransferSeconds, minSeconds)
	}
	if report.Latency.Samples != 60 {
		t.Errorf("%d samples, want 60", report.Latency.Samples)
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
				c.Timeout = 300 * time.Millisecond
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

func TestRun_StallsWithoutDeliveries(t *testing.T) {
	h := (&fakeHub{deliver: func(uint64, int, []byte) [][]byte { return nil }}).start(t)
	c := smallConfig(h.addr)
	c.Timeout = 200 * time.Millisecond
	report, text := simulate(t, c)
	if report.OK() || report.Complete || report.Problems.Totals[ProblemLost] != 60 {
		t.Errorf("got %+v", report)
	}
	for _, part := range []string{
		"no progress for 200ms", "Problems: 60 lost", "15 lost, got 0 of 15 deliveries: 5 from client ", "(numbers 0-4)",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
}

// TestRun_StallsWhenHubStopsReading checks that blocked senders are reported.
func TestRun_StallsWhenHubStopsReading(t *testing.T) {
	block := make(chan struct{})
	h := (&fakeHub{onRelay: func(int) { <-block }}).start(t)
	t.Cleanup(func() { close(block) })
	c := smallConfig(h.addr)
	c.Size, c.Messages, c.Timeout = MaxSize, 30, 300*time.Millisecond
	report, text := simulate(t, c)
	if report.OK() || report.Problems.Totals[ProblemUnsent] == 0 {
		t.Errorf("found %+v", report.Problems)
	}
	if !strings.Contains(text, "of 30 messages") {
		t.Errorf("not named:\n%s", text)
	}
}

// TestRun_LongIntervalIsNoStall checks that a pause in the schedule longer than the timeout is
// no stall.
func TestRun_LongIntervalIsNoStall(t *testing.T) {
	c := smallConfig(startHub(t))
	c.Clients, c.Messages, c.Interval, c.Timeout = 2, 2, 600*time.Millisecond, 150*time.Millisecond
	checkRunSucceeds(t, c)
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

func TestRun_ConnectionRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	_, err = Run(t.Context(), smallConfig(addr))
	if err == nil || !strings.Contains(err.Error(), "cannot connect to "+addr) {
		t.Errorf("got %v", err)
	}
}

func TestRun_ConnectTimeout(t *testing.T) {
	h := (&fakeHub{silent: true}).start(t)
	c := smallConfig(h.addr)
	c.Timeout = 100 * time.Millisecond
	_, err := Run(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("got %v", err)
	}
}

func TestRun_RejectsDuplicateIDs(t *testing.T) {
	h := (&fakeHub{sameID: true}).start(t)
	_, err := Run(t.Context(), smallConfig(h.addr))
	if err == nil || !strings.Contains(err.Error(), "the id 1 to two clients") {
		t.Errorf("got %v", err)
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

func TestRun_DrawsBars(t *testing.T) {
	var out bytes.Buffer
	c := smallConfig(startHub(t))
	c.Out, c.IsTerminal = &out, true
	simulate(t, c)
	for _, part := range []string{"Sent", "Received", "20 of 20", "60 of 60"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is not in %q", part, out.String())
		}
	}
}

func TestRun_LogsEverySecond(t *testing.T) {
	var out bytes.Buffer
	c := smallConfig(startHub(t))
	c.Messages, c.Interval = 2, 1200*time.Millisecond
	c.Logger = slog.New(slog.NewTextHandler(&out, nil))
	simulate(t, c)
	if got := out.String(); !strings.Contains(got, "sends=8 received=") || !strings.Contains(got, "deliveries=24") {
		t.Errorf("logged %q", got)
	}
}

// TestRun_WithoutStatistics checks that ShowStats=false prints the plan and the problems only.
func TestRun_WithoutStatistics(t *testing.T) {
	h := (&fakeHub{deliver: func(receiver uint64, n int, body []byte) [][]byte {
		if n == 0 {
			return [][]byte{body, body}
		}
		return [][]byte{body}
	}}).start(t)
	var out bytes.Buffer
	c := smallConfig(h.addr)
	c.ShowStats, c.Out, c.IsTerminal = false, &out, true
	_, text := simulate(t, c)
	if out.String() != c.Plan().String()+"\n" {
		t.Errorf("printed %q", out.String())
	}
	if strings.Contains(text, "Time alive") || !strings.Contains(text, "4 duplicated") {
		t.Errorf("reported %q", text)
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
