package simulation

import (
	"context"
	"errors"
	"fmt"
)

// Run connects c.Clients clients to the hub at c.Addr. When all are connected, each client
// sends c.Messages messages to all other clients. All clients start at the same time. Message
// k is due c.Interval·k after the start. The load is an open loop: when the hub does not
// accept messages that fast, a sender lags and catches up, and the latency of a delivery
// counts from when its message was due. With an interval of 0 a message is due when its Send
// begins.
//
// Run prints the plan and the progress to c.Out. The caller prints the report. Run ends when
// everything has arrived, when ctx ends, when a connection is lost, or when there was no
// progress for c.Timeout; the report contains the cause. The error is non-nil only if there is
// nothing to report, because c is invalid or a client cannot connect.
func Run(ctx context.Context, c Config) (*Report, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("simulate: %w", err)
	}
	c = c.withDefaults()
	r := newRun(c)
	_, err := fmt.Fprintln(c.Out, r.plan)
	if err != nil {
		return nil, fmt.Errorf("simulate: print the plan: %w", err)
	}
	if c.Reconnects > 0 {
		if r.proxy, err = newProxy(c.Addr); err != nil {
			return nil, fmt.Errorf("simulate: %w", err)
		}
		defer r.proxy.close()
		for i := range r.proxyDialers {
			r.proxyDialers[i] = &proxyDialer{proxy: r.proxy}
		}
	}
	clients, err := connect(ctx, c, r.receivers, r.proxyDialers)
	r.addClients(clients)
	switch {
	case err == nil:
		r.runLoad(ctx)
	case ctx.Err() != nil:
		r.outcome.cause = context.Cause(ctx)
	default:
		return nil, fmt.Errorf("simulate: %w", err)
	}
	report := newReport(r)
	if ctx.Err() != nil && errors.Is(r.outcome.cause, context.Cause(ctx)) {
		report.Interrupted, report.Cause = true, "interrupted"
	}
	return report, nil
}
