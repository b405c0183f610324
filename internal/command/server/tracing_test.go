package server

import (
	"bytes"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/internal/tracing/testcollector"
	"github.com/sechlol/go-message-hub/wire"
)

// TestTracing_EndToEnd sends a message from a client of each version to the other client and
// to an unknown id, and checks the spans that the collector receives.
func TestTracing_EndToEnd(t *testing.T) {
	const secret = "secret-of-the-collector"
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization="+secret)
	collector := testcollector.Start(t)
	s, port := startServer(t, "-trace-endpoint="+collector.URL, "-trace-sample=1")
	body := []byte("a confidential body")
	var pair [2]*client.Client
	for i, version := range []int{1, 2} {
		pair[i] = programtest.DialVersion(t, port, version)
	}
	for i, c := range pair {
		other := pair[1-i]
		if err := c.Send(t.Context(), []uint64{other.ID(), 999}, body); err != nil {
			t.Fatal(err)
		}
		if m, err := other.Receive(t.Context()); err != nil || !bytes.Equal(m.Body, body) {
			t.Fatalf("received %v, %v", m, err)
		}
	}
	if got := s.Interrupt(); got.Code != command.ExitOK || strings.Contains(got.Stdout+got.Stderr, secret) || !strings.Contains(got.Stderr, collector.URL) {
		t.Errorf("exit code %d, stderr %s", got.Code, got.Stderr)
	}
	spans := collector.Await(t, 2) // the server has sent all spans at shutdown
	if len(spans) != 2 {
		t.Fatalf("%d spans, want 2", len(spans))
	}
	if spans[0].Name == "send" { // the spans are in the order in which their messages were finished
		spans[0], spans[1] = spans[1], spans[0]
	}
	for i, name := range []string{"relay", "send"} {
		checkSpan(t, spans[i], name, i+1, len(body), pair[i].ID(), pair[1-i].ID())
	}
	if about := collector.Resource(); about["service.name"] != "go-message-hub" || about["service.version"] == "" {
		t.Errorf("resource %v", about)
	}
	raw, headers := collector.Sent()
	if bytes.Contains(raw, body) || bytes.Contains(raw, []byte(secret)) || headers[0].Get("Authorization") != secret {
		t.Error("a body or a secret is in a span, or the secret was not sent to the collector")
	}
}

// checkSpan compares a span with the message that it describes.
func checkSpan(t *testing.T, s *testcollector.Span, name string, version, size int, from, to uint64) {
	t.Helper()
	attributes := testcollector.Attributes(s.Attributes)
	if s.Name != name || attributes["messaging.system"] != "messagehub" || attributes["network.protocol.version"] != strconv.Itoa(version) ||
		attributes["messaging.client.id"] != strconv.FormatUint(from, 10) {
		t.Errorf("span %q: %v", s.Name, attributes)
	}
	for _, a := range s.Attributes {
		if a.Key == "messaging.message.body.size" && a.Value.GetIntValue() != int64(size) {
			t.Errorf("a body of %d bytes has size %d in the span", size, a.Value.GetIntValue())
		}
	}
	if took := time.Duration(s.EndTimeUnixNano - s.StartTimeUnixNano); took <= 0 || took > time.Minute || time.Since(time.Unix(0, int64(s.StartTimeUnixNano))) > time.Hour {
		t.Errorf("duration %v from %d on", took, s.StartTimeUnixNano)
	}
	if len(s.Events) != 2 || s.Status.GetCode().String() != "STATUS_CODE_ERROR" {
		t.Fatalf("span %v", s)
	}
	for i, want := range []struct{ fate, id string }{{wire.FateWritten.String(), strconv.FormatUint(to, 10)}, {wire.FateUnknown.String(), "999"}} {
		if e := s.Events[i]; e.Name != want.fate || testcollector.Attributes(e.Attributes)["messagehub.receiver.id"] != want.id {
			t.Errorf("event %v, want %v", e, want)
		}
	}
}

// TestTracing_CollectorStalled checks that a collector that does not answer delays neither
// messages nor, by more than traceFlushTimeout, the shutdown.
func TestTracing_CollectorStalled(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s, port := startServer(t, "-trace-endpoint=http://"+ln.Addr().String(), "-trace-sample=1")
	c := programtest.Dial(t, port)
	for range 1000 { // more than the queue of the tracer holds
		if err := c.Send(t.Context(), []uint64{c.ID()}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	got := s.Interrupt()
	// 30 s are a margin for a busy machine. A shutdown that waits for the collector takes longer.
	if took := time.Since(began); got.Code != command.ExitOK || took > traceFlushTimeout+30*time.Second {
		t.Errorf("exit code %d after %v, stderr %s", got.Code, took, got.Stderr)
	}
	if !strings.Contains(got.Stdout, "Traces Dropped") || strings.Count(got.Stderr, "traces could not be sent") > 2 {
		t.Errorf("lost traces are not reported, or too often: %s%s", got.Stdout, got.Stderr)
	}
}

func TestTracing_OffByDefault(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1") // does not enable tracing
	c := parseServerFlags(t)
	s := &program{config: c}
	if err := s.traces.start(&c.traces, settings.NewLogger(new(programtest.Output), settings.LogText, nil)); err != nil || s.traces.tracer != nil {
		t.Errorf("%v, %v", s.traces.tracer, err)
	}
	hubConfig := c.hubConfig()
	s.addHooks(&hubConfig)
	if hubConfig.OnTrace != nil {
		t.Error("tracing is enabled")
	}
	s.traces.flush(t.Context())
	s.traces.stop()
}

func TestTracing_Flags(t *testing.T) {
	for _, right := range []string{"http://localhost:4318", "https://collector.example/v1/traces", "http://[::1]:4318", ""} {
		if c := parseServerFlags(t, "-trace-endpoint="+right); c.traces.endpoint != right {
			t.Errorf("%q is parsed as %q", right, c.traces.endpoint)
		}
	}
	for _, wrong := range []string{"localhost:4318", "grpc://localhost:4317", "http://", "http://:4318", "http://me:secret@localhost:4318", "http://localhost/?key=secret", "http://localhost/#1"} {
		programtest.CheckUsageError(t, programtest.Run(Run, "-trace-endpoint="+wrong), "start_server: -trace-endpoint="+wrong+": allowed are URLs with http or https")
	}
	programtest.CheckUsageError(t, programtest.Run(Run, "-trace-sample=0"), "start_server: -trace-sample=0: allowed are whole numbers from 1")
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", testcerts.NewAuthority(t).WriteFile())
	got := programtest.Run(Run, "-addr=127.0.0.1", "-port=0", "-admin=off", "-trace-endpoint=http://localhost:4318")
	if got.Code != command.ExitUsage || programtest.FirstLine(got.Stderr) != "start_server: cannot trace: insecure HTTP endpoint cannot use TLS client configuration" {
		t.Errorf("a certificate without TLS: exit code %d, stderr %s", got.Code, got.Stderr)
	}
}
