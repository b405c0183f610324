package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/tracing/testcollector"
	"github.com/sechlol/go-message-hub/wire"
)

var startTime = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

// testTrace returns a trace of a message that was written to so many receivers.
func testTrace(receivers int) hub.Trace {
	tr := hub.Trace{Version: 2, Sender: 1<<64 - 1, Seq: 7, BodyLen: 100, ReadAt: startTime}
	for i := range receivers {
		tr.Receivers = append(tr.Receivers, hub.ReceiverTrace{
			ID: uint64(10 + i), Fate: wire.FateWritten, Queued: time.Millisecond, Decided: time.Duration(i+2) * time.Millisecond,
		})
	}
	return tr
}

// exportSpans returns the exported spans of traces.
func exportSpans(t *testing.T, traces ...hub.Trace) tracetest.SpanStubs {
	t.Helper()
	exporter := &keepingExporter{InMemoryExporter: tracetest.NewInMemoryExporter()}
	s := newTracer(Config{Version: "v1.2.3", Logger: slog.New(slog.DiscardHandler)}, exporter)
	for _, tr := range traces {
		if !s.Observe(tr) {
			t.Error("Observe dropped a trace")
		}
	}
	s.Close(t.Context())
	return exporter.GetSpans()
}

// keepingExporter keeps its spans after Shutdown.
type keepingExporter struct{ *tracetest.InMemoryExporter }

func (k *keepingExporter) Shutdown(context.Context) error { return nil }

// attributeMap returns the values of attributes as text, by key.
func attributeMap(list []attribute.KeyValue) map[string]string {
	m := make(map[string]string)
	for _, a := range list {
		m[string(a.Key)] = a.Value.String()
	}
	return m
}

func checkAttributes(t *testing.T, got []attribute.KeyValue, want map[string]string) {
	t.Helper()
	if got := attributeMap(got); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("attributes\n%v, want\n%v", got, want)
	}
}

func TestTracer_SpanPerMessage(t *testing.T) {
	classic := testTrace(1)
	classic.Version, classic.Seq, classic.Sender = 1, 0, 5
	classic.Receivers = append(classic.Receivers, hub.ReceiverTrace{ID: 9, Fate: wire.FateUnknown, Decided: time.Microsecond})
	spans := exportSpans(t, testTrace(2), classic)
	if len(spans) != 2 {
		t.Fatalf("%d spans, want 2", len(spans))
	}
	s := spans[0]
	if s.Name != "send" || s.SpanKind != trace.SpanKindServer || !s.StartTime.Equal(startTime) || !s.EndTime.Equal(startTime.Add(3*time.Millisecond)) || s.Status.Code != codes.Unset {
		t.Errorf("span %+v", s)
	}
	checkAttributes(t, s.Attributes, map[string]string{
		"messaging.system": "messagehub", "messaging.operation.type": "send", "messaging.operation.name": "send",
		"messaging.client.id": "18446744073709551615", "messaging.message.id": "18446744073709551615/7", "messaging.message.body.size": "100",
		"network.protocol.name": "messagehub", "network.protocol.version": "2", "messagehub.receivers": "2", "messagehub.receivers.written": "2",
	})
	for i, e := range s.Events {
		if e.Name != "written" || !e.Time.Equal(startTime.Add(time.Duration(i+2)*time.Millisecond)) {
			t.Errorf("event %+v", e)
		}
		checkAttributes(t, e.Attributes, map[string]string{"messagehub.receiver.id": fmt.Sprint(10 + i), "messagehub.receiver.queued_after": "0.001"})
	}
	res := attributeMap(s.Resource.Attributes())
	if res["service.name"] != "go-message-hub" || res["service.version"] != "v1.2.3" {
		t.Errorf("resource %v", res)
	}

	s = spans[1]
	if s.Name != "relay" || s.Status.Code != codes.Error || s.Status.Description != "not written to 1 of 2 receivers" || len(s.Events) != 2 {
		t.Fatalf("span %+v", s)
	}
	if attrs := attributeMap(s.Attributes); attrs["messaging.operation.name"] != "relay" || attrs["network.protocol.version"] != "1" || attrs["messaging.message.id"] != "" {
		t.Errorf("attributes %v", attrs)
	}
	if e := s.Events[1]; e.Name != "unknown" {
		t.Errorf("event %+v", e)
	}
	checkAttributes(t, s.Events[1].Attributes, map[string]string{"messagehub.receiver.id": "9"})
}

func TestTracer_EventPerReceiver(t *testing.T) {
	s := exportSpans(t, testTrace(wire.MaxReceivers))[0]
	if len(s.Events) != wire.MaxReceivers || s.DroppedEvents != 0 || s.DroppedAttributes != 0 {
		t.Errorf("%d events, %d dropped, %d attributes dropped", len(s.Events), s.DroppedEvents, s.DroppedAttributes)
	}
}

// TestTracer_UndecidedReceiver checks that the span of a message with an undecided receiver
// ends now.
func TestTracer_UndecidedReceiver(t *testing.T) {
	tr := testTrace(2)
	tr.Receivers[0].Fate, tr.Receivers[0].Decided = wire.FateQueued, 0
	s := exportSpans(t, tr)[0]
	if s.Status.Code != codes.Error || s.Events[0].Name != "queued" || time.Since(s.EndTime) > time.Minute || s.EndTime.After(time.Now()) {
		t.Errorf("span %+v", s)
	}
}

func TestTracer_ServiceNameFromEnvironment(t *testing.T) {
	t.Setenv("OTEL_SERVICE_NAME", "hub of the west")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	res := attributeMap(exportSpans(t, testTrace(1))[0].Resource.Attributes())
	if res["service.name"] != "hub of the west" || res["deployment.environment.name"] != "test" || res["service.version"] != "v1.2.3" {
		t.Errorf("resource %v", res)
	}
}

// hangingExporter is an exporter that blocks until its context ends, and exports nothing.
type hangingExporter struct{ attempts atomic.Int32 }

func (s *hangingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	s.attempts.Add(1)
	<-ctx.Done()
	return ctx.Err()
}

func (s *hangingExporter) Shutdown(context.Context) error { return errors.New("shutdown fails") }

// TestTracer_CollectorHangs runs a collector that hangs, in virtual time. Observe does not
// block and drops traces beyond the queue. At most one line a minute is logged. Close returns
// when its context ends.
func TestTracer_CollectorHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		exporter := new(hangingExporter)
		s := newTracer(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, exporter)
		start := time.Now()
		accepted := 0
		for range 10 * maxQueuedTraces {
			if s.Observe(testTrace(1)) {
				accepted++
			}
			synctest.Wait()
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("Observe blocked for %v", waited)
		}
		if maxAccepted := maxQueuedTraces + maxBatchSpans; accepted != maxAccepted {
			t.Errorf("%d traces were queued, want %d", accepted, maxAccepted)
		}
		<-time.After(10 * time.Minute)
		synctest.Wait()
		if want := accepted / maxBatchSpans; int(exporter.attempts.Load()) != want {
			t.Errorf("%d exports were tried, want %d", exporter.attempts.Load(), want)
		}
		// 5 batches fail after 30 s each. At most one line a minute is logged.
		if lines := strings.Count(log.String(), "\n"); lines != 3 || !strings.Contains(log.String(), "spans_lost=64") {
			t.Errorf("%d log lines: %s", lines, &log)
		}
		s.Observe(testTrace(1))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		closeStart := time.Now()
		s.Close(ctx)
		s.Close(ctx)
		if took := time.Since(closeStart); took != 3*time.Second {
			t.Errorf("Close took %v", took)
		}
		if !strings.HasSuffix(log.String(), "spans_lost=1\n") {
			t.Errorf("the last lost span is not logged: %s", &log)
		}
	})
}

// TestTracer_ExportsOverHTTP exports to a collector over HTTP, with settings from the
// environment.
func TestTracer_ExportsOverHTTP(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret-of-the-collector")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off") // has no effect: the hub samples
	c := testcollector.Start(t)
	var log bytes.Buffer
	s, err := New(Config{Endpoint: c.URL, Version: "v1", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s.Observe(testTrace(wire.MaxReceivers))
	for range 3*maxBatchSpans - 1 { // more than a batch, less than the queue
		s.Observe(testTrace(1))
	}
	s.Close(t.Context())
	spans := c.Await(t, 3*maxBatchSpans)
	if len(spans) != 3*maxBatchSpans || len(spans[0].Events) != wire.MaxReceivers || spans[0].DroppedEventsCount != 0 {
		t.Errorf("%d spans, the first with %d events", len(spans), len(spans[0].Events))
	}
	raw, headers := c.Sent()
	if got := headers[0].Get("Authorization"); got != "Bearer secret-of-the-collector" {
		t.Errorf("the collector got the header %q", got)
	}
	if bytes.Contains(raw, []byte("secret-of-the-collector")) || log.Len() != 0 {
		t.Errorf("the secret is in a span, or the log is not empty: %s", &log)
	}
}

// TestTracer_CollectorRejects runs a collector that rejects each request with a long response.
func TestTracer_CollectorRejects(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, strings.Repeat("no! ", 10_000), http.StatusForbidden)
	}))
	defer server.Close()
	var log bytes.Buffer
	s, err := New(Config{Endpoint: server.URL + "/elsewhere", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s.Observe(testTrace(1))
	s.Close(t.Context())
	if text := log.String(); strings.Count(text, "\n") != 1 || len(text) > 500 || !strings.Contains(text, "403") || !strings.Contains(text, "/elsewhere") || !strings.Contains(text, "spans_lost=1") {
		t.Errorf("logged %s", text)
	}
}

func TestNew_InvalidEndpoint(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "") // as if the variable were not set
	if s, err := New(Config{Endpoint: "http://[", Logger: slog.New(slog.DiscardHandler)}); err == nil {
		s.Close(t.Context())
		t.Error("an endpoint that is not a URL was accepted")
	}
}
