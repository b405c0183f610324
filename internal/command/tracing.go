package command

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/tracing"
)

// flushTraces is how long the end of the server waits for a collector.
const flushTraces = 3 * time.Second

// traces is what can be set about traces, and what sends them.
type traces struct {
	endpoint string
	oneIn    int

	tracer *tracing.Tracer // nil: nothing is traced
}

func (c *traces) add(s *settings) {
	add(s, &c.endpoint, "trace-endpoint", "", collector(), "where a sample of the messages is traced to: the URL of a\ncollector that speaks OTLP over HTTP, http://localhost:4318")
	add(s, &c.oneIn, "trace-sample", hub.DefaultTraceOneIn, whole(1, 1<<30), "of how many messages one is traced; 1 is every message")
}

// start makes what sends traces, if it is asked for.
func (c *traces) start(logger *slog.Logger) (err error) {
	if c.endpoint == "" {
		return nil
	}
	info, _ := debug.ReadBuildInfo()
	c.tracer, err = tracing.New(tracing.Config{Endpoint: c.endpoint, Version: built(info), Logger: logger})
	if err == nil {
		logger.Info("tracing messages", "to", c.endpoint, "one_in", c.oneIn)
	}
	return err
}

// observed lets the hub of a configuration tell of messages.
func (c *traces) observed(config *hub.Config) {
	if c.tracer != nil {
		config.Trace, config.TraceOneIn = c.tracer.Observe, c.oneIn
	}
}

// flush sends what is left, if that is soon done and now does not end before.
func (c *traces) flush(now context.Context) {
	if c.tracer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(now, flushTraces)
	defer cancel()
	c.tracer.Close(ctx)
}

// stop sends nothing more.
func (c *traces) stop() {
	ended, end := context.WithCancel(context.Background())
	end()
	c.flush(ended)
}
