package command

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/tracing"
)

// traceFlushTimeout is how long the end of the server waits for a collector.
const traceFlushTimeout = 3 * time.Second

// traceExporter is what can be set about traces, and what sends them.
type traceExporter struct {
	endpoint    string
	sampleOneIn int

	tracer *tracing.Tracer // nil: nothing is traced
}

func (e *traceExporter) addFlags(s *settings) {
	addSetting(s, &e.endpoint, "trace-endpoint", "", collectorURL(), "where a sample of the messages is traced to: the URL of a\ncollector that speaks OTLP over HTTP, http://localhost:4318")
	addSetting(s, &e.sampleOneIn, "trace-sample", hub.DefaultTraceSampleRate, intRange(1, 1<<30), "of how many messages one is traced; 1 is every message")
}

// start makes what sends traces, if it is asked for.
func (e *traceExporter) start(logger *slog.Logger) (err error) {
	if e.endpoint == "" {
		return nil
	}
	info, _ := debug.ReadBuildInfo()
	e.tracer, err = tracing.New(tracing.Config{Endpoint: e.endpoint, Version: buildVersion(info), Logger: logger})
	if err == nil {
		logger.Info("tracing messages", "to", e.endpoint, "one_in", e.sampleOneIn)
	}
	return err
}

// configure lets the hub of a configuration tell of messages.
func (e *traceExporter) configure(config *hub.Config) {
	if e.tracer != nil {
		config.OnTrace, config.TraceSampleRate = e.tracer.Observe, e.sampleOneIn
	}
}

// flush sends what is left, if that is soon done and now does not end before.
func (e *traceExporter) flush(abortCtx context.Context) {
	if e.tracer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(abortCtx, traceFlushTimeout)
	defer cancel()
	e.tracer.Close(ctx)
}

// stop sends nothing more.
func (e *traceExporter) stop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e.flush(ctx)
}
