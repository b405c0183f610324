// Package tracing makes spans of OpenTelemetry of what the hub tells of messages, and sends them to
// a collector.
//
// It stands beside the way of a message: the hub hands it a finished hub.Trace (see
// hub.Config.Trace), which it takes or drops at once. Everything else is done by a goroutine of its
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
	// queueMost is how many traces wait for their turn: 2 MiB with 255 receivers each.
	queueMost = 256

	// batchMost is how many spans are sent at once. The SDK takes 70 KiB for one with 255 events.
	batchMost = 64

	// batchEvery is how long spans wait for others.
	batchEvery = time.Second

	// patience is how long one batch is tried.
	patience = 30 * time.Second

	// path is where collectors expect traces, if the endpoint names none.
	path = "/v1/traces"
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
	exporter sdktrace.SpanExporter
	spans    trace.Tracer
	troubles troubles
	queue    chan hub.Trace
	life     context.Context // of the sending
	cut      func()          // ends it
	closing  func()
	closed   chan struct{} // by closing
	done     chan struct{} // closed when nothing of it runs any more

	batch []sdktrace.ReadOnlySpan // owned by run
}

// New returns a Tracer, which has one goroutine from now on, until Close. Nothing is sent before
// there is a trace. What else the exporter needs, such as headers that show who it is, it takes from the
// environment (OTEL_EXPORTER_OTLP_HEADERS and so on). Errors of OpenTelemetry are logged from now on,
// those of the whole process.
func New(c Config) (*Tracer, error) {
	at, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("cannot trace: %w", err)
	}
	if at.Path == "" || at.Path == "/" {
		at.Path = path
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(at.String()),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{
			Enabled: true, InitialInterval: time.Second, MaxInterval: patience / 3, MaxElapsedTime: patience,
		}))
	if err != nil {
		return nil, fmt.Errorf("cannot trace: %w", err)
	}
	t := newTracer(c, exporter)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { t.troubles.tell(err, 0) }))
	return t, nil
}

// newTracer returns a Tracer that hands its spans to exporter.
func newTracer(c Config, exporter sdktrace.SpanExporter) *Tracer {
	life, cut := context.WithCancel(context.Background())
	t := &Tracer{
		exporter: exporter, queue: make(chan hub.Trace, queueMost), life: life, cut: cut,
		closed: make(chan struct{}), done: make(chan struct{}),
		troubles: troubles{logger: c.Logger},
	}
	t.closing = sync.OnceFunc(func() { close(t.closed) })
	about, err := resource.New(life, resource.WithHost(), resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("go-message-hub"), semconv.ServiceVersion(c.Version)),
		resource.WithFromEnv()) // which may name another service
	if err != nil {
		t.troubles.tell(err, 0)
	}
	t.spans = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // the hub has drawn its sample
		sdktrace.WithResource(about),
		sdktrace.WithSpanProcessor(collector{t}),
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
	t.closing()
	select {
	case <-t.done:
		return
	case <-ctx.Done():
	}
	t.cut()
	<-t.done
}

// run makes spans and sends them in batches.
func (t *Tracer) run() {
	defer close(t.done)
	defer t.cut()
	tick := time.NewTicker(batchEvery)
	defer tick.Stop()
	for {
		select {
		case tr := <-t.queue:
			t.span(&tr)
			if len(t.batch) < batchMost {
				continue
			}
		case <-tick.C:
			t.fill()
		case <-t.closed:
			t.finish()
			return
		}
		t.send()
	}
}

// fill adds to the batch what waits, as far as there is room.
func (t *Tracer) fill() {
	for len(t.queue) > 0 && len(t.batch) < batchMost {
		tr := <-t.queue
		t.span(&tr)
	}
}

// finish sends what is left.
func (t *Tracer) finish() {
	for t.fill(); len(t.batch) > 0; t.fill() {
		t.send()
	}
	if err := t.exporter.Shutdown(t.life); err != nil && t.life.Err() == nil {
		t.troubles.tell(err, 0)
	}
	t.troubles.tellRest()
}

// send sends the spans of the batch, or gives them up.
func (t *Tracer) send() {
	if len(t.batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(t.life, patience)
	defer cancel()
	if err := t.exporter.ExportSpans(ctx, t.batch); err != nil {
		t.troubles.tell(err, len(t.batch))
	}
	clear(t.batch)
	t.batch = t.batch[:0]
}

// collector gathers spans that have ended. They do so in the goroutine that sends them.
type collector struct{ *Tracer }

// OnStart implements sdktrace.SpanProcessor, like the following.
func (c collector) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd adds a span to the batch.
func (c collector) OnEnd(s sdktrace.ReadOnlySpan) { c.batch = append(c.batch, s) }

// Shutdown does nothing: see Tracer.Close.
func (c collector) Shutdown(context.Context) error { return nil }

// ForceFlush does nothing.
func (c collector) ForceFlush(context.Context) error { return nil }
