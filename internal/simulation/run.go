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
	epoch        time.Time // before the first connect; what all times count from
	pattern      *pattern
	receivers    []*receiver    // one for each client
	proxyDialers []*proxyDialer // likewise; nil where there is no proxy
	proxy        *proxy         // nil: there is none
	partsDone    chan struct{}
	fatal        chan error       // capacity 1: why the run cannot go on
	reconnectLog limitlog.Limiter // attempts to come back, of all clients

	// Static after join.
	clients []*client.Client
	senders []*sender // one for each client

	// Owned by conduct, and by the report after it.
	start        time.Duration // when the first messages were due, since the epoch
	lastProgress progress      // the last one that differed from the one before
	outcome      outcome
}

// outcome is how a run ended.
type outcome struct {
	cause        error // nil when everything was delivered
	traffic      Traffic
	alive        time.Duration
	disconnected int
}

// Run connects c.Clients clients to the hub at c.Addr. When all are connected,
// each sends its message c.Messages times to
// all the others, message k at c.Interval·k after the start. It is an open loop:
// when the hub does not take messages that fast, a sender lags and catches up,
// and the latency of a delivery counts from when its message was due. With an
// interval of 0 that is when its Send began. All clients start at once.
//
// Run prints to c.Out what it is about to move and how far it is; the report is
// for the caller to print. It ends when everything has arrived, when ctx ends,
// when a connection is lost, or when there was no progress for c.Timeout; the
// report says which. The error is non-nil only if there is nothing to report:
// an invalid c, or no hub.
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

// newRun prepares a run: its receivers, which must be there before a client is.
func newRun(c Config) *run {
	r := &run{
		config: c, plan: c.Plan(), epoch: time.Now(), pattern: newPattern(c.Size),
		proxyDialers: make([]*proxyDialer, c.Clients),
		fatal:        make(chan error, 1),
	}
	r.partsDone = make(chan struct{}, r.partsPerClient()*c.Clients) // nobody waits to say that he is done
	for i := range c.Clients {
		rcv := &receiver{
			epoch: r.epoch, oneIn: r.oneIn(), onComplete: r.partDone,
			checker: newChecker(r.plan, r.pattern, c.Verify, i), latency: stats.NewLatency(),
			acksMessages: c.ReportLevel == LevelProcessed, onNewID: func(id uint64) { r.handleNewID(i, id) },
			onReconnectFailed: func(e client.Event) { r.handleReconnectFailed(i, e) },
		}
		rcv.checkComplete() // there may be nothing to wait for
		r.receivers = append(r.receivers, rcv)
	}
	return r
}

// addClients brings in the connected clients: all of them, or none.
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

// newReportChecker returns where the reports of one sender go; nil: there are none.
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

// oneIn returns for one in how many messages latency is measured.
func (r *run) oneIn() int {
	if r.plan.Deliveries > sampleThreshold {
		return sampleOneIn
	}
	return 1
}

// idsExcept returns the ids of all clients but the one at index self.
func idsExcept(self int, clients []*client.Client) []uint64 {
	var ids []uint64
	for i, c := range clients {
		if i != self {
			ids = append(ids, c.ID())
		}
	}
	return ids
}

// runLoad moves everything and disconnects. All it starts has ended when it
// returns.
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
	d.finish(r.progress()) // waits for the terminal, which is no part of the run
	for _, s := range r.senders {
		if s.reports != nil {
			s.reports.close()
		}
	}
	r.disconnectAll()
	r.outcome.traffic = r.traffic() // whoever reads and writes has ended
}

// abortOnDisconnect ends the run when a connection does. What it starts ends then as well,
// or when work does.
func (r *run) abortOnDisconnect(ctx context.Context, abort context.CancelCauseFunc) *sync.WaitGroup {
	var wg sync.WaitGroup
	for i, c := range r.clients {
		wg.Go(func() {
			select {
			case <-c.Done():
				abort(fmt.Errorf("client %d (id %d) can receive no more: %w", i, c.ID(), c.Err()))
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

// startSenders lets everybody send. Senders end when they have sent all, or when
// work does.
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

// fail ends the run, unless something else does.
func (r *run) fail(err error) {
	select {
	case r.fatal <- err:
	default:
	}
}

// handleNewID ends the run: a client has got another id.
func (r *run) handleNewID(i int, id uint64) {
	r.fail(fmt.Errorf("client %d has come back too late: it has the id %d now", i, id))
}

// handleReconnectFailed says why a client could not come back, unless that of another one has just been
// said. The client tries again: if that goes on, the run ends without progress.
func (r *run) handleReconnectFailed(i int, e client.Event) {
	skipped, ok := r.reconnectLog.Allow(limitlog.Text(e.Err))
	if !ok {
		return
	}
	attributes := []any{"client", i, "attempt", e.Attempt, "error", e.Err}
	if skipped > 0 {
		attributes = append(attributes, "not_logged_before", skipped)
	}
	r.config.Logger.Warn("a client cannot come back, trying again", attributes...)
}

func (r *run) partDone() { r.partsDone <- struct{}{} }

// awaitBarrier waits until whatever the hub still has for the clients can be received:
// it answers in order, so an answer comes after all deliveries before it. Without
// it, a last message that arrives twice would go unseen.
func (r *run) awaitBarrier(ctx context.Context) error {
	timeoutErr := fmt.Errorf("the hub did not answer a list request within %v", r.config.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, r.config.Timeout, timeoutErr)
	defer cancel()
	errs := make([]error, len(r.clients))
	var wg sync.WaitGroup
	for i, c := range r.clients {
		// Ends with ctx at the latest; settle waits for it.
		wg.Go(func() { _, errs[i] = c.List(ctx) })
	}
	wg.Wait()
	err := errors.Join(errs...)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// disconnectAll disconnects everybody.
func (r *run) disconnectAll() {
	var err error
	r.outcome.disconnected, err = disconnect(r.clients)
	if err != nil && r.outcome.cause == nil { // otherwise there is nobody left to care
		r.config.Logger.Warn("clients could not take their leave", "error", err)
	}
}
