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

var began = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

// message returns a trace of a message to so many receivers, all of whom get it.
func message(receivers int) hub.Trace {
	tr := hub.Trace{Version: 2, Sender: 1<<64 - 1, Seq: 7, Body: 100, Read: began}
	for i := range receivers {
		tr.Receivers = append(tr.Receivers, hub.Traced{
			ID: uint64(10 + i), Fate: wire.FateWritten, Queued: time.Millisecond, Decided: time.Duration(i+2) * time.Millisecond,
		})
	}
	return tr
}

// spansOf returns the spans of traces.
func spansOf(t *testing.T, all ...hub.Trace) tracetest.SpanStubs {
	t.Helper()
	exporter := &keeper{InMemoryExporter: tracetest.NewInMemoryExporter()}
	s := newTracer(Config{Version: "v1.2.3", Logger: slog.New(slog.DiscardHandler)}, exporter)
	for _, tr := range all {
		if !s.Observe(tr) {
			t.Error("a trace was not taken")
		}
	}
	s.Close(t.Context())
	return exporter.GetSpans()
}

// keeper does not forget the spans at the end.
type keeper struct{ *tracetest.InMemoryExporter }

func (k *keeper) Shutdown(context.Context) error { return nil }

// attributes returns them as text.
func attributes(list []attribute.KeyValue) map[string]string {
	all := make(map[string]string)
	for _, a := range list {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

func checkAttributes(t *testing.T, got []attribute.KeyValue, want map[string]string) {
	t.Helper()
	if got := attributes(got); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("attributes\n%v, want\n%v", got, want)
	}
}

func TestASpanOfEachMessage(t *testing.T) {
	classic := message(1)
	classic.Version, classic.Seq, classic.Sender = 1, 0, 5
	classic.Receivers = append(classic.Receivers, hub.Traced{ID: 9, Fate: wire.FateUnknown, Decided: time.Microsecond})
	spans := spansOf(t, message(2), classic)
	if len(spans) != 2 {
		t.Fatalf("%d spans, want 2", len(spans))
	}
	s := spans[0]
	if s.Name != "send" || s.SpanKind != trace.SpanKindServer || !s.StartTime.Equal(began) || !s.EndTime.Equal(began.Add(3*time.Millisecond)) || s.Status.Code != codes.Unset {
		t.Errorf("span %+v", s)
	}
	checkAttributes(t, s.Attributes, map[string]string{
		"messaging.system": "messagehub", "messaging.operation.type": "send", "messaging.operation.name": "send",
		"messaging.client.id": "18446744073709551615", "messaging.message.id": "18446744073709551615/7", "messaging.message.body.size": "100",
		"network.protocol.name": "messagehub", "network.protocol.version": "2", "messagehub.receivers": "2", "messagehub.receivers.written": "2",
	})
	for i, e := range s.Events {
		if e.Name != "written" || !e.Time.Equal(began.Add(time.Duration(i+2)*time.Millisecond)) {
			t.Errorf("event %+v", e)
		}
		checkAttributes(t, e.Attributes, map[string]string{"messagehub.receiver.id": fmt.Sprint(10 + i), "messagehub.receiver.queued_after": "0.001"})
	}
	about := attributes(s.Resource.Attributes())
	if about["service.name"] != "go-message-hub" || about["service.version"] != "v1.2.3" {
		t.Errorf("sent by %v", about)
	}

	s = spans[1]
	if s.Name != "relay" || s.Status.Code != codes.Error || s.Status.Description != "not written to 1 of 2 receivers" || len(s.Events) != 2 {
		t.Fatalf("span %+v", s)
	}
	if all := attributes(s.Attributes); all["messaging.operation.name"] != "relay" || all["network.protocol.version"] != "1" || all["messaging.message.id"] != "" {
		t.Errorf("attributes %v", all)
	}
	if e := s.Events[1]; e.Name != "unknown" {
		t.Errorf("event %+v", e)
	}
	checkAttributes(t, s.Events[1].Attributes, map[string]string{"messagehub.receiver.id": "9"})
}

func TestASpanHasAnEventForEveryReceiver(t *testing.T) {
	s := spansOf(t, message(wire.MaxReceivers))[0]
	if len(s.Events) != wire.MaxReceivers || s.DroppedEvents != 0 || s.DroppedAttributes != 0 {
		t.Errorf("%d events, %d dropped, %d attributes dropped", len(s.Events), s.DroppedEvents, s.DroppedAttributes)
	}
}

// TestASpanOfWhatIsNotDecided lasts until now.
func TestASpanOfWhatIsNotDecided(t *testing.T) {
	tr := message(2)
	tr.Receivers[0].Fate, tr.Receivers[0].Decided = wire.FateQueued, 0
	s := spansOf(t, tr)[0]
	if s.Status.Code != codes.Error || s.Events[0].Name != "queued" || time.Since(s.EndTime) > time.Minute || s.EndTime.After(time.Now()) {
		t.Errorf("span %+v", s)
	}
}

func TestTheEnvironmentNamesTheService(t *testing.T) {
	t.Setenv("OTEL_SERVICE_NAME", "hub of the west")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
	about := attributes(spansOf(t, message(1))[0].Resource.Attributes())
	if about["service.name"] != "hub of the west" || about["deployment.environment.name"] != "test" || about["service.version"] != "v1.2.3" {
		t.Errorf("sent by %v", about)
	}
}

// stubborn is an exporter that takes as long as it is left, and takes nothing.
type stubborn struct{ tried atomic.Int32 }

func (s *stubborn) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	s.tried.Add(1)
	<-ctx.Done()
	return ctx.Err()
}

func (s *stubborn) Shutdown(context.Context) error { return errors.New("it does not end") }

// TestACollectorThatHangs in virtual time: nobody waits for it, what is too much is refused, a line
// a minute tells of it, and the end comes when it must.
func TestACollectorThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		exporter := new(stubborn)
		s := newTracer(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, exporter)
		first := time.Now()
		taken := 0
		for range 10 * queueMost {
			if s.Observe(message(1)) {
				taken++
			}
			synctest.Wait()
		}
		if waited := time.Since(first); waited != 0 {
			t.Errorf("whoever has a trace waited for %v", waited)
		}
		if most := queueMost + batchMost; taken != most {
			t.Errorf("%d traces were taken, want %d", taken, most)
		}
		<-time.After(10 * time.Minute)
		synctest.Wait()
		if want := taken / batchMost; int(exporter.tried.Load()) != want {
			t.Errorf("%d batches were tried, want %d", exporter.tried.Load(), want)
		}
		if lines := strings.Count(log.String(), "\n"); lines != 3 || !strings.Contains(log.String(), "spans_lost=64") { // 5 batches of 30 s
			t.Errorf("%d lines: %s", lines, &log)
		}
		s.Observe(message(1))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		closing := time.Now()
		s.Close(ctx)
		s.Close(ctx)
		if took := time.Since(closing); took != 3*time.Second {
			t.Errorf("the end took %v", took)
		}
		if !strings.HasSuffix(log.String(), "spans_lost=1\n") {
			t.Errorf("what was lost last is not told: %s", &log)
		}
	})
}

// TestTracesReachACollector goes over HTTP, with what the environment adds.
func TestTracesReachACollector(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret-of-the-collector")
	t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off") // is none of its business
	c := testcollector.Start(t)
	var log bytes.Buffer
	s, err := New(Config{Endpoint: c.URL, Version: "v1", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s.Observe(message(wire.MaxReceivers))
	for range 3*batchMost - 1 { // more than a batch, less than the queue; small, for a machine that is busy
		s.Observe(message(1))
	}
	s.Close(t.Context())
	spans := c.Await(t, 3*batchMost)
	if len(spans) != 3*batchMost || len(spans[0].Events) != wire.MaxReceivers || spans[0].DroppedEventsCount != 0 {
		t.Errorf("%d spans, the first with %d events", len(spans), len(spans[0].Events))
	}
	raw, headers := c.Sent()
	if got := headers[0].Get("Authorization"); got != "Bearer secret-of-the-collector" {
		t.Errorf("the collector was shown %q", got)
	}
	if bytes.Contains(raw, []byte("secret-of-the-collector")) || log.Len() != 0 {
		t.Errorf("the secret is in a span, or something was logged: %s", &log)
	}
}

// TestACollectorThatRefuses answers with a page.
func TestACollectorThatRefuses(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, strings.Repeat("no! ", 10_000), http.StatusForbidden)
	}))
	defer server.Close()
	var log bytes.Buffer
	s, err := New(Config{Endpoint: server.URL + "/elsewhere", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s.Observe(message(1))
	s.Close(t.Context())
	if text := log.String(); strings.Count(text, "\n") != 1 || len(text) > 500 || !strings.Contains(text, "403") || !strings.Contains(text, "/elsewhere") || !strings.Contains(text, "spans_lost=1") {
		t.Errorf("logged %s", text)
	}
}

func TestEndpointsThatCannotBe(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "") // as if it were not set
	if s, err := New(Config{Endpoint: "http://[", Logger: slog.New(slog.DiscardHandler)}); err == nil {
		s.Close(t.Context())
		t.Error("an endpoint that is no URL was taken")
	}
}
