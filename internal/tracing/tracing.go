// Package tracing converts traces of the hub to OpenTelemetry spans and exports them to a
// collector.
//
// No message passes through this package. The hub passes a finished hub.Trace to
// Tracer.Observe (see hub.Config.OnTrace), which queues or drops the trace and never blocks.
// The goroutine of the Tracer does everything else. A collector that is slow or down therefore
// does not delay messages. The hub decides which messages are sampled.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// maxQueuedTraces is the length of the queue of traces: 2 MiB with 255 receivers each.
	maxQueuedTraces = 256

	// maxBatchSpans is the maximum number of spans in one export. The SDK takes 70 KiB for a span
	// with 255 events.
	maxBatchSpans = 64

	// batchInterval is the maximum time that a trace waits for others before its export.
	batchInterval = time.Second

	// exportTimeout is the time limit of the export of a batch, retries included.
	exportTimeout = 30 * time.Second

	// defaultPath is the URL path of traces in OTLP over HTTP, for an endpoint without a path.
	defaultPath = "/v1/traces"
)

// Config is the configuration of a Tracer. All fields must be set.
type Config struct {
	Endpoint string // URL of a collector for OTLP over HTTP; default of its path: /v1/traces
	Version  string // of the program
	Logger   *slog.Logger
}

// Tracer exports traces to a collector. New creates a Tracer. All methods are safe for
// concurrent use.
type Tracer struct {
	// Static after New.
	exporter     sdktrace.SpanExporter
	tracer       trace.Tracer
	exportErrors exportErrors
	queue        chan hub.Trace
	ctx          context.Context // of all exports
	cancel       func()          // cancels ctx
	closeOnce    func()
	closed       chan struct{} // closed by closeOnce
	done         chan struct{} // closed when run ends

	batch []sdktrace.ReadOnlySpan // owned by the goroutine that runs run
}

// New returns a Tracer and starts its goroutine, which ends with Close. The Tracer sends no
// request before the first trace. The exporter reads further settings from the environment,
// such as headers with credentials (OTEL_EXPORTER_OTLP_HEADERS). New also sets the error
// handler of OpenTelemetry for the whole process: its errors are logged from now on.
func New(c Config) (*Tracer, error) {
	endpoint, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("cannot trace: %w", err)
	}
	if endpoint.Path == "" || endpoint.Path == "/" {
		endpoint.Path = defaultPath
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(endpoint.String()),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: time.Second, MaxInterval: exportTimeout / 3, MaxElapsedTime: exportTimeout,
		}))
	if err != nil {
		return nil, fmt.Errorf("cannot trace: %w", err)
	}
	t := newTracer(c, exporter)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { t.exportErrors.record(err, 0) }))
	return t, nil
}

// newTracer returns a Tracer that exports its spans by exporter, and starts its goroutine.
func newTracer(c Config, exporter sdktrace.SpanExporter) *Tracer {
	ctx, cancel := context.WithCancel(context.Background())
	t := &Tracer{
		exporter: exporter, queue: make(chan hub.Trace, maxQueuedTraces), ctx: ctx, cancel: cancel,
		closed: make(chan struct{}), done: make(chan struct{}),
		exportErrors: exportErrors{logger: c.Logger},
	}
	t.closeOnce = sync.OnceFunc(func() { close(t.closed) })
	res, err := resource.New(ctx, resource.WithHost(), resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("go-message-hub"), semconv.ServiceVersion(c.Version)),
		resource.WithFromEnv()) // can name another service
	if err != nil {
		t.exportErrors.record(err, 0)
	}
	t.tracer = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // the hub has sampled the messages
		sdktrace.WithResource(res),
		sdktrace.WithSpanProcessor(batchProcessor{t}),
		sdktrace.WithRawSpanLimits(sdktrace.SpanLimits{
			AttributeCountLimit: 16, AttributeValueLengthLimit: 256,
			EventCountLimit: wire.MaxReceivers, AttributePerEventCountLimit: 4,
			LinkCountLimit: 1, AttributePerLinkCountLimit: 1,
		}),
	).Tracer("github.com/sechlol/go-message-hub", trace.WithInstrumentationVersion(c.Version))
	go t.run() // ends with Close, which waits for it
	return t
}

// Observe queues a trace for the export. The caller must not change the trace afterwards.
// Observe never blocks: if the queue is full, it drops the trace and returns false.
func (t *Tracer) Observe(tr hub.Trace) bool {
	select {
	case t.queue <- tr:
		return true
	default:
		return false
	}
}

// Close exports the queued traces until ctx ends, and then waits for the goroutine of the
// Tracer. It may be called more than once.
func (t *Tracer) Close(ctx context.Context) {
	t.closeOnce()
	select {
	case <-t.done:
		return
	case <-ctx.Done():
	}
	t.cancel()
	<-t.done
}

// run records spans of the queued traces and exports them in batches, until Close.
func (t *Tracer) run() {
	defer close(t.done)
	defer t.cancel()
	tick := time.NewTicker(batchInterval)
	defer tick.Stop()
	for {
		select {
		case tr := <-t.queue:
			t.recordSpan(&tr)
			if len(t.batch) < maxBatchSpans {
				continue
			}
		case <-tick.C:
			t.drainQueue()
		case <-t.closed:
			t.flush()
			return
		}
		t.export()
	}
}

// drainQueue records spans of the queued traces until the queue is empty or the batch is full.
func (t *Tracer) drainQueue() {
	for len(t.queue) > 0 && len(t.batch) < maxBatchSpans {
		tr := <-t.queue
		t.recordSpan(&tr)
	}
}

// flush exports the queued traces and shuts the exporter down.
func (t *Tracer) flush() {
	for t.drainQueue(); len(t.batch) > 0; t.drainQueue() {
		t.export()
	}
	if err := t.exporter.Shutdown(t.ctx); err != nil && t.ctx.Err() == nil {
		t.exportErrors.record(err, 0)
	}
	t.exportErrors.flush()
}

// export exports the batch. If that fails, the spans of the batch are lost.
func (t *Tracer) export() {
	if len(t.batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(t.ctx, exportTimeout)
	defer cancel()
	if err := t.exporter.ExportSpans(ctx, t.batch); err != nil {
		t.exportErrors.record(err, len(t.batch))
	}
	clear(t.batch)
	t.batch = t.batch[:0]
}

// batchProcessor is a sdktrace.SpanProcessor that appends ended spans to the batch of its
// Tracer. All spans end in the goroutine of the Tracer.
type batchProcessor struct{ *Tracer }

// OnStart does nothing.
func (c batchProcessor) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd appends a span to the batch.
func (c batchProcessor) OnEnd(s sdktrace.ReadOnlySpan) { c.batch = append(c.batch, s) }

// Shutdown does nothing: see Tracer.Close.
func (c batchProcessor) Shutdown(context.Context) error { return nil }

// ForceFlush does nothing.
func (c batchProcessor) ForceFlush(context.Context) error { return nil }
