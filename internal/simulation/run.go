package simulation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/limitlog"
	"github.com/sechlol/go-message-hub/internal/stats"
)

// run is one simulation, from the first connect to the last disconnect.
type run struct {
	// Static after newRun.
	config       Config
	plan         Plan
	epoch        time.Time // taken before the first connect; all times count from here
	pattern      *pattern
	receivers    []*receiver    // one for each client
	proxyDialers []*proxyDialer // one for each client; nil entries without a proxy
	proxy        *proxy         // nil without Config.Reconnects
	// partsDone receives a value for each part that is done. Its capacity is the number of parts,
	// therefore partDone does not block.
	partsDone    chan struct{}
	fatal        chan error       // capacity 1: the cause for aborting the run
	reconnectLog limitlog.Limiter // limits the log of failed reconnects of all clients

	// Static after addClients.
	clients []*client.Client
	senders []*sender // one for each client

	// Owned by runLoad, and by the report after it.
	start        time.Duration // when the first messages were due, since the epoch
	lastProgress progress      // the last sample that differed from its predecessor
	outcome      outcome
}

// outcome is how a run ended.
type outcome struct {
	cause        error // nil when everything was delivered
	traffic      Traffic
	alive        time.Duration
	disconnected int
}

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

// newRun returns a run with its receivers, which must exist before their clients connect.
func newRun(c Config) *run {
	r := &run{
		config: c, plan: c.Plan(), epoch: time.Now(), pattern: newPattern(c.Size),
		proxyDialers: make([]*proxyDialer, c.Clients),
		fatal:        make(chan error, 1),
	}
	r.partsDone = make(chan struct{}, r.partsPerClient()*c.Clients)
	for i := range c.Clients {
		rcv := &receiver{
			epoch: r.epoch, oneIn: r.oneIn(), onComplete: r.partDone,
			checker: newChecker(r.plan, r.pattern, c.Verify, i), latency: stats.NewLatency(),
			acksMessages: c.ReportLevel == LevelProcessed, onNewID: func(id uint64) { r.handleNewID(i, id) },
			onReconnectFailed: func(e client.Event) { r.handleReconnectFailed(i, e) },
		}
		rcv.checkComplete() // there can be no messages to wait for
		r.receivers = append(r.receivers, rcv)
	}
	return r
}

// addClients adds the connected clients, either all or none, and makes their senders.
func (r *run) addClients(clients []*client.Client) {
	r.clients = clients
	r.receivers = r.receivers[:len(clients)]
	for i, c := range clients {
		r.senders = append(r.senders, &sender{
			index: i, client: c, to: idsExcept(i, clients),
			messages: r.plan.messagesPerSender(), interval: r.config.Interval, pattern: r.pattern,
			reports: r.newReportChecker(i), level: r.config.ReportLevel.wire(),
		})
	}
}

// newReportChecker returns the reportChecker of sender i. It returns nil if no reports are
// requested.
func (r *run) newReportChecker(i int) *reportChecker {
	if r.config.ReportLevel == LevelNone {
		return nil
	}
	fail := func(err error) { r.fail(fmt.Errorf("client %d (id %d): %w", i, r.clients[i].ID(), err)) }
	reports := newReportChecker(r.config, r.plan, r.epoch, r.oneIn(), r.partDone, fail)
	if r.plan.Sends == 0 {
		r.partDone()
	}
	return reports
}

// oneIn returns n if latency is measured for one message in n.
func (r *run) oneIn() int {
	if r.plan.Deliveries > sampleThreshold {
		return sampleOneIn
	}
	return 1
}

// idsExcept returns the ids of all clients except the client at index self.
func idsExcept(self int, clients []*client.Client) []uint64 {
	var ids []uint64
	for i, c := range clients {
		if i != self {
			ids = append(ids, c.ID())
		}
	}
	return ids
}

// runLoad sends all messages, waits for the deliveries and disconnects. All goroutines that
// runLoad starts have ended when it returns.
func (r *run) runLoad(ctx context.Context) {
	runCtx, abort := context.WithCancelCause(ctx)
	d := newDisplay(r.config, r.plan)

	r.start = time.Since(r.epoch)
	monitors := r.abortOnDisconnect(runCtx, abort)
	senders := r.startSenders(runCtx, abort)
	breakers := r.startBreakers(runCtx, abort)

	err := r.monitorProgress(runCtx, d)
	if err == nil && r.plan.Deliveries > 0 {
		err = r.awaitBarrier(ctx)
	}
	abort(err)
	senders.Wait()
	breakers.Wait()
	monitors.Wait()
	r.outcome = outcome{cause: err, alive: time.Since(r.epoch)}
	d.finish(r.progress()) // waits for the terminal, whose time is not part of the run
	for _, s := range r.senders {
		if s.reports != nil {
			s.reports.close()
		}
	}
	r.disconnectAll()
	r.outcome.traffic = r.traffic() // all readers and senders have ended
}

// abortOnDisconnect aborts the run when a connection ends or when fail is called. Its
// goroutines end then, or with ctx.
func (r *run) abortOnDisconnect(ctx context.Context, abort context.CancelCauseFunc) *sync.WaitGroup {
	var wg sync.WaitGroup
	for i, c := range r.clients {
		wg.Go(func() {
			select {
			case <-c.Done():
				abort(fmt.Errorf("client %d (id %d) lost its connection: %w", i, c.ID(), c.Err()))
			case <-ctx.Done():
			}
		})
	}
	wg.Go(func() {
		select {
		case err := <-r.fatal:
			abort(err)
		case <-ctx.Done():
		}
	})
	return &wg
}

// startSenders starts all senders. A sender ends when it has sent all messages, when Send
// fails, or with ctx.
func (r *run) startSenders(ctx context.Context, abort context.CancelCauseFunc) *sync.WaitGroup {
	var wg sync.WaitGroup
	for _, s := range r.senders {
		wg.Go(func() {
			if err := s.send(ctx, r.epoch, r.start); err != nil {
				abort(err)
				return
			}
			r.partDone()
		})
	}
	return &wg
}

// fail aborts the run with err unless another error has done that.
func (r *run) fail(err error) {
	select {
	case r.fatal <- err:
	default:
	}
}

// handleNewID aborts the run because the hub has given client i another id.
func (r *run) handleNewID(i int, id uint64) {
	r.fail(fmt.Errorf("client %d lost its session: its new id is %d", i, id))
}

// handleReconnectFailed logs why client i failed to reconnect. It omits an error that was
// logged recently for any client. The client retries; if it keeps failing, the run ends by the
// timeout.
func (r *run) handleReconnectFailed(i int, e client.Event) {
	skipped, ok := r.reconnectLog.Allow(limitlog.Text(e.Err))
	if !ok {
		return
	}
	attributes := []any{"client", i, "attempt", e.Attempt, "error", e.Err}
	if skipped > 0 {
		attributes = append(attributes, "not_logged_before", skipped)
	}
	r.config.Logger.Warn("client failed to reconnect, retrying", attributes...)
}

func (r *run) partDone() { r.partsDone <- struct{}{} }

// awaitBarrier waits until each client has received everything that the hub has queued for it.
// The hub replies in order, therefore the reply to a list request follows all earlier
// deliveries. Without this barrier, a duplicate of the last message would go unnoticed.
func (r *run) awaitBarrier(ctx context.Context) error {
	timeoutErr := fmt.Errorf("the hub did not answer a list request within %v", r.config.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, r.config.Timeout, timeoutErr)
	defer cancel()
	errs := make([]error, len(r.clients))
	var wg sync.WaitGroup
	for i, c := range r.clients {
		// Ends with ctx at the latest; awaitBarrier waits for it.
		wg.Go(func() { _, errs[i] = c.List(ctx) })
	}
	wg.Wait()
	err := errors.Join(errs...)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// disconnectAll closes all clients.
func (r *run) disconnectAll() {
	var err error
	r.outcome.disconnected, err = disconnect(r.clients)
	if err != nil && r.outcome.cause == nil { // otherwise the first cause is reported
		r.config.Logger.Warn("cannot close clients", "error", err)
	}
}
