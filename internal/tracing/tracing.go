// Package tracing makes spans of OpenTelemetry of what the hub tells of messages, and sends them to
// a collector.
//
// It stands beside the way of a message: the hub hands it a finished hub.Trace (see
// hub.Config.OnTrace), which it takes or drops at once. Everything else is done by a goroutine of its
// own, so that a collector that is slow or away costs messages nothing. Which messages are
// traced is the hub's business.
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
	// maxQueuedTraces is how many traces wait for their turn: 2 MiB with 255 receivers each.
	maxQueuedTraces = 256

	// maxBatchSpans is how many spans are sent at once. The SDK takes 70 KiB for one with 255 events.
	maxBatchSpans = 64

	// batchInterval is how long spans wait for others.
	batchInterval = time.Second

	// exportTimeout is how long one batch is tried.
	exportTimeout = 30 * time.Second

	// defaultPath is where collectors expect traces, if the endpoint names none.
	defaultPath = "/v1/traces"
)

// Config is what a Tracer needs to know. All fields must be set.
type Config struct {
	Endpoint string // URL of a collector that speaks OTLP over HTTP; without a path, that is /v1/traces
	Version  string // of the program
	Logger   *slog.Logger
}

// Tracer sends traces to a collector. Create one with New. All methods may be called concurrently.
type Tracer struct {
	// Static after New.
	exporter     sdktrace.SpanExporter
	tracer       trace.Tracer
	exportErrors exportErrors
	queue        chan hub.Trace
	ctx          context.Context // of the sending
	cancel       func()          // ends it
	closeOnce    func()
	closed       chan struct{} // by closing
	done         chan struct{} // closed when nothing of it runs any more

	batch []sdktrace.ReadOnlySpan // owned by run
}

// New returns a Tracer, which has one goroutine from now on, until Close. Nothing is sent before
// there is a trace. What else the exporter needs, such as headers that show who it is, it takes from the
// environment (OTEL_EXPORTER_OTLP_HEADERS and so on). Errors of OpenTelemetry are logged from now on,
// those of the whole process.
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

// newTracer returns a Tracer that hands its spans to exporter.
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
		resource.WithFromEnv()) // which may name another service
	if err != nil {
		t.exportErrors.record(err, 0)
	}
	t.tracer = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // the hub has drawn its sample
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

// Observe takes a trace, which the caller must not change any more. It never waits: it returns
// false, and drops the trace, if others wait already.
func (t *Tracer) Observe(tr hub.Trace) bool {
	select {
	case t.queue <- tr:
		return true
	default:
		return false
	}
}

// Close sends what is left until ctx ends, and returns when nothing of the Tracer runs any more. It
// may be called more than once.
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

// run makes spans and sends them in batches.
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

// drainQueue adds to the batch what waits, as far as there is room.
func (t *Tracer) drainQueue() {
	for len(t.queue) > 0 && len(t.batch) < maxBatchSpans {
		tr := <-t.queue
		t.recordSpan(&tr)
	}
}

// flush sends what is left.
func (t *Tracer) flush() {
	for t.drainQueue(); len(t.batch) > 0; t.drainQueue() {
		t.export()
	}
	if err := t.exporter.Shutdown(t.ctx); err != nil && t.ctx.Err() == nil {
		t.exportErrors.record(err, 0)
	}
	t.exportErrors.flush()
}

// export sends the spans of the batch, or gives them up.
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

// batchProcessor gathers spans that have ended. They do so in the goroutine that sends them.
type batchProcessor struct{ *Tracer }

// OnStart implements sdktrace.SpanProcessor, like the following.
func (c batchProcessor) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd adds a span to the batch.
func (c batchProcessor) OnEnd(s sdktrace.ReadOnlySpan) { c.batch = append(c.batch, s) }

// Shutdown does nothing: see Tracer.Close.
func (c batchProcessor) Shutdown(context.Context) error { return nil }

// ForceFlush does nothing.
func (c batchProcessor) ForceFlush(context.Context) error { return nil }
