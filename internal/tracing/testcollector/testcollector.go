// Package testcollector runs a collector of traces for tests. The collector receives OTLP over
// HTTP and returns what it has received.
package testcollector

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a span as the collector received it.
type Span = tracepb.Span

// Collector receives traces until the end of the test. All methods are safe for concurrent use.
type Collector struct {
	URL string // without a path

	server *httptest.Server

	mu       sync.Mutex
	requests []*coltracepb.ExportTraceServiceRequest
	raw      []byte
	headers  []http.Header
	arrived  chan struct{} // closed and replaced when a request comes
}

// Start starts a collector.
func Start(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{arrived: make(chan struct{})}
	c.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.handleExport(t, w, r) }))
	c.URL = c.server.URL
	t.Cleanup(c.server.Close)
	return c
}

func (c *Collector) handleExport(t testing.TB, w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/v1/traces" {
		t.Errorf("traces were sent to %s", r.URL.Path)
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		zr, err := gzip.NewReader(r.Body)
		if err != nil {
			t.Errorf("the request is not gzip: %v", err)
			return
		}
		body = zr
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		t.Errorf("reading the request: %v", err)
	}
	request := new(coltracepb.ExportTraceServiceRequest)
	if err := proto.Unmarshal(raw, request); err != nil {
		t.Errorf("the request is not OTLP: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests, c.raw, c.headers = append(c.requests, request), append(c.raw, raw...), append(c.headers, r.Header.Clone())
	close(c.arrived)
	c.arrived = make(chan struct{})
}

// awaitTimeout is the time limit of Await.
const awaitTimeout = 3 * time.Minute

// Await waits until the collector has n spans and returns all of them. It fails the test after
// awaitTimeout, because spans that a Tracer failed to send never come.
func (c *Collector) Await(t testing.TB, n int) []*Span {
	t.Helper()
	timeout := time.After(awaitTimeout)
	for {
		spans, arrived := c.spans()
		if len(spans) >= n {
			return spans
		}
		select {
		case <-arrived:
		case <-timeout:
			t.Fatalf("received %d spans, want %d", len(spans), n)
		}
	}
}

func (c *Collector) spans() (spans []*Span, arrived <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, request := range c.requests {
		for _, r := range request.ResourceSpans {
			for _, s := range r.ScopeSpans {
				spans = append(spans, s.Spans...)
			}
		}
	}
	return spans, c.arrived
}

// Resource returns the attributes of the resource of the first request.
func (c *Collector) Resource() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) == 0 || len(c.requests[0].ResourceSpans) == 0 {
		return nil
	}
	return Attributes(c.requests[0].ResourceSpans[0].Resource.Attributes)
}

// Sent returns the bodies of all requests, joined, and the headers of each request.
func (c *Collector) Sent() ([]byte, []http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]byte(nil), c.raw...), append([]http.Header(nil), c.headers...)
}

// Attributes returns the string values of attributes, by key.
func Attributes(list []*commonpb.KeyValue) map[string]string {
	attrs := make(map[string]string)
	for _, a := range list {
		attrs[a.Key] = a.Value.GetStringValue()
	}
	return attrs
}
