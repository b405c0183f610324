package command

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/tracing"
)

// traceFlushTimeout is the time limit for sending the last traces at shutdown.
const traceFlushTimeout = 3 * time.Second

// traceExporter holds the settings of tracing and the tracer that sends the traces.
type traceExporter struct {
	endpoint    string
	sampleOneIn int

	tracer *tracing.Tracer // nil: tracing is disabled
}

func (e *traceExporter) addFlags(s *settings) {
	addSetting(s, &e.endpoint, "trace-endpoint", "", collectorURL(), "URL of the OTLP/HTTP collector for sampled traces, such as\nhttp://localhost:4318; empty: no traces")
	addSetting(s, &e.sampleOneIn, "trace-sample", hub.DefaultTraceSampleRate, intRange(1, 1<<30), "trace one of this many messages; 1: every message")
}

// start creates the tracer if -trace-endpoint is set.
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

// configure sets the tracer in the configuration of a hub.
func (e *traceExporter) configure(config *hub.Config) {
	if e.tracer != nil {
		config.OnTrace, config.TraceSampleRate = e.tracer.Observe, e.sampleOneIn
	}
}

// flush sends the remaining traces and closes the tracer. It gives up after traceFlushTimeout,
// or when abortCtx ends.
func (e *traceExporter) flush(abortCtx context.Context) {
	if e.tracer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(abortCtx, traceFlushTimeout)
	defer cancel()
	e.tracer.Close(ctx)
}

// stop closes the tracer without sending the remaining traces.
func (e *traceExporter) stop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e.flush(ctx)
}
