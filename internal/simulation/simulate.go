package simulation

import (
	"context"
	"errors"
	"fmt"
)

// Run connects c.Clients clients to the hub at c.Addr. Of n addresses, client i begins with
// address i mod n, and tries the others if its hub is gone; in version 2 also during the run,
// which ends if the client does not keep its id. When all are connected, each client
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
		defer r.closeProxies()
		if err := r.startProxies(); err != nil {
			return nil, fmt.Errorf("simulate: %w", err)
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

// startProxies starts a proxy before each hub, and makes the proxyDialers of the clients.
func (r *run) startProxies() error {
	for _, addr := range r.config.addrs() {
		p, err := newProxy(addr)
		if err != nil {
			return err
		}
		r.proxies = append(r.proxies, p)
	}
	for i := range r.proxyDialers {
		r.proxyDialers[i] = &proxyDialer{proxy: r.proxies[i%len(r.proxies)]}
	}
	return nil
}

func (r *run) closeProxies() {
	for _, p := range r.proxies {
		p.close()
	}
}
