package server

import (
	"context"
	"log/slog"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/internal/tracing"
)

// traceFlushTimeout is the time limit for sending the last traces at shutdown.
const traceFlushTimeout = 3 * time.Second

// traceFlags are the settings of tracing.
type traceFlags struct {
	endpoint    string // empty: no traces
	sampleOneIn int
}

func (f *traceFlags) addFlags(s *settings.Settings) {
	settings.Add(s, &f.endpoint, "trace-endpoint", "", collectorURL(), "URL of the OTLP/HTTP collector for sampled traces, such as\nhttp://localhost:4318; empty: no traces")
	settings.Add(s, &f.sampleOneIn, "trace-sample", hub.DefaultTraceSampleRate, settings.IntRange(1, 1<<30), "trace one of this many messages; 1: every message")
}

// traceExporter has the tracer that sends the traces.
type traceExporter struct {
	tracer *tracing.Tracer // nil: tracing is disabled
}

// start creates the tracer if -trace-endpoint is set.
func (e *traceExporter) start(flags *traceFlags, logger *slog.Logger) (err error) {
	if flags.endpoint == "" {
		return nil
	}
	info, _ := debug.ReadBuildInfo()
	e.tracer, err = tracing.New(tracing.Config{Endpoint: flags.endpoint, Version: command.BuildVersion(info), Logger: logger})
	if err == nil {
		logger.Info("tracing messages", "to", flags.endpoint, "one_in", flags.sampleOneIn)
	}
	return err
}

// configure sets the tracer and its sample rate in the configuration of a hub.
func (e *traceExporter) configure(flags *traceFlags, c *hub.Config) {
	if e.tracer != nil {
		c.OnTrace, c.TraceSampleRate = e.tracer.Observe, flags.sampleOneIn
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

// collectorURL is the URL of a collector, or empty. Credentials are not allowed in the URL,
// because the URL is logged.
func collectorURL() settings.Type[string] {
	return settings.Type[string]{
		Parse: func(text string) (string, error) {
			if text == "" {
				return "", nil
			}
			u, err := url.Parse(text)
			if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.ContainsAny(text, "?#") {
				return "", settings.ErrNotAllowed
			}
			return text, nil
		},
		Format:  settings.AsIs,
		Limits:  "http://host:port or https://host:port",
		Allowed: "URLs with http or https and a host, without user, password or query (http://localhost:4318)",
	}
}
