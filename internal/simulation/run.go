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
	config    Config
	plan      Plan
	epoch     time.Time // before the first connect; what all times count from
	pattern   *pattern
	receivers []*receiver // one for each client
	lines     []*line     // likewise; nil where there is no proxy
	proxy     *proxy      // nil: there is none
	done      chan struct{}
	broken    chan error       // capacity 1: why the run cannot go on
	failed    limitlog.Limiter // attempts to come back, of all clients

	// Static after join.
	clients []*client.Client
	senders []*sender // one for each client

	// Owned by conduct, and by the report after it.
	start  time.Duration // when the first messages were due, since the epoch
	moved  sample        // the last one that differed from the one before
	ending ending
}

// ending is how a run ended.
type ending struct {
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
	if c.Reconnect > 0 {
		if r.proxy, err = newProxy(c.Addr); err != nil {
			return nil, fmt.Errorf("simulate: %w", err)
		}
		defer r.proxy.close()
		for i := range r.lines {
			r.lines[i] = &line{proxy: r.proxy}
		}
	}
	clients, err := connect(ctx, c, r.receivers, r.lines)
	r.join(clients)
	switch {
	case err == nil:
		r.conduct(ctx)
	case ctx.Err() != nil:
		r.ending.cause = context.Cause(ctx)
	default:
		return nil, fmt.Errorf("simulate: %w", err)
	}
	report := newReport(r)
	if ctx.Err() != nil && errors.Is(r.ending.cause, context.Cause(ctx)) {
		report.Interrupted, report.Cause = true, "interrupted"
	}
	return report, nil
}

// newRun prepares a run: its receivers, which must be there before a client is.
func newRun(c Config) *run {
	r := &run{
		config: c, plan: c.Plan(), epoch: time.Now(), pattern: newPattern(c.Size),
		lines:  make([]*line, c.Clients),
		broken: make(chan error, 1),
	}
	r.done = make(chan struct{}, r.parts()*c.Clients) // nobody waits to say that he is done
	for i := range c.Clients {
		one := &receiver{
			epoch: r.epoch, oneIn: r.oneIn(), done: r.oneDone,
			check: newChecker(r.plan, r.pattern, c.Verify, i), latency: stats.NewLatency(),
			judges: c.Report == LevelProcessed, renamed: func(id uint64) { r.lateBack(i, id) },
			absent: func(e client.Event) { r.reconnectFailed(i, e) },
		}
		one.note() // there may be nothing to wait for
		r.receivers = append(r.receivers, one)
	}
	return r
}

// join brings in the connected clients: all of them, or none.
func (r *run) join(clients []*client.Client) {
	r.clients = clients
	r.receivers = r.receivers[:len(clients)]
	for i, one := range clients {
		r.senders = append(r.senders, &sender{
			index: i, client: one, to: othersThan(i, clients),
			messages: r.plan.messages(), interval: r.config.Interval, pattern: r.pattern,
			reports: r.newReports(i), level: r.config.Report.wire(),
		})
	}
}

// newReports returns where the reports of one sender go; nil: there are none.
func (r *run) newReports(i int) *reports {
	if r.config.Report == LevelNone {
		return nil
	}
	fail := func(err error) { r.fail(fmt.Errorf("client %d (id %d): %w", i, r.clients[i].ID(), err)) }
	reports := newReports(r.config, r.plan, r.epoch, r.oneIn(), r.oneDone, fail)
	if r.plan.Sends == 0 {
		r.oneDone()
	}
	return reports
}

// oneIn returns for one in how many messages latency is measured.
func (r *run) oneIn() int {
	if r.plan.Deliveries > sampleAbove {
		return sampleOneIn
	}
	return 1
}

// othersThan returns the ids of all clients but the one at index self.
func othersThan(self int, clients []*client.Client) []uint64 {
	var ids []uint64
	for i, c := range clients {
		if i != self {
			ids = append(ids, c.ID())
		}
	}
	return ids
}

// conduct moves everything and disconnects. All it starts has ended when it
// returns.
func (r *run) conduct(ctx context.Context) {
	work, abort := context.WithCancelCause(ctx)
	show := newDisplay(r.config, r.plan)

	r.start = time.Since(r.epoch)
	following := r.follow(work, abort)
	sending := r.startSenders(work, abort)
	cutting := r.startCutters(work, abort)

	err := r.watch(work, show)
	if err == nil && r.plan.Deliveries > 0 {
		err = r.settle(ctx)
	}
	abort(err)
	sending.Wait()
	cutting.Wait()
	following.Wait()
	r.ending = ending{cause: err, alive: time.Since(r.epoch)}
	show.end(r.sample()) // waits for the terminal, which is no part of the run
	for _, s := range r.senders {
		if s.reports != nil {
			s.reports.seal()
		}
	}
	r.leave()
	r.ending.traffic = r.traffic() // whoever reads and writes has ended
}

// follow ends the run when a connection does. What it starts ends then as well,
// or when work does.
func (r *run) follow(work context.Context, abort context.CancelCauseFunc) *sync.WaitGroup {
	var following sync.WaitGroup
	for i, c := range r.clients {
		following.Go(func() {
			select {
			case <-c.Done():
				abort(fmt.Errorf("client %d (id %d) can receive no more: %w", i, c.ID(), c.Err()))
			case <-work.Done():
			}
		})
	}
	following.Go(func() {
		select {
		case err := <-r.broken:
			abort(err)
		case <-work.Done():
		}
	})
	return &following
}

// startSenders lets everybody send. Senders end when they have sent all, or when
// work does.
func (r *run) startSenders(work context.Context, abort context.CancelCauseFunc) *sync.WaitGroup {
	var sending sync.WaitGroup
	for _, one := range r.senders {
		sending.Go(func() {
			if err := one.send(work, r.epoch, r.start); err != nil {
				abort(err)
				return
			}
			r.oneDone()
		})
	}
	return &sending
}

// fail ends the run, unless something else does.
func (r *run) fail(err error) {
	select {
	case r.broken <- err:
	default:
	}
}

// lateBack ends the run: a client has got another id.
func (r *run) lateBack(i int, id uint64) {
	r.fail(fmt.Errorf("client %d has come back too late: it has the id %d now", i, id))
}

// reconnectFailed says why a client could not come back, unless that of another one has just been
// said. The client tries again: if that goes on, the run ends without progress.
func (r *run) reconnectFailed(i int, e client.Event) {
	skipped, ok := r.failed.Allow(limitlog.Text(e.Err))
	if !ok {
		return
	}
	attributes := []any{"client", i, "attempt", e.Attempt, "error", e.Err}
	if skipped > 0 {
		attributes = append(attributes, "not_logged_before", skipped)
	}
	r.config.Logger.Warn("a client cannot come back, trying again", attributes...)
}

func (r *run) oneDone() { r.done <- struct{}{} }

// settle waits until whatever the hub still has for the clients can be received:
// it answers in order, so an answer comes after all deliveries before it. Without
// it, a last message that arrives twice would go unseen.
func (r *run) settle(ctx context.Context) error {
	silent := fmt.Errorf("the hub did not answer a list request within %v", r.config.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, r.config.Timeout, silent)
	defer cancel()
	errs := make([]error, len(r.clients))
	var asking sync.WaitGroup
	for i, c := range r.clients {
		// Ends with ctx at the latest; settle waits for it.
		asking.Go(func() { _, errs[i] = c.List(ctx) })
	}
	asking.Wait()
	err := errors.Join(errs...)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// leave disconnects everybody.
func (r *run) leave() {
	var err error
	r.ending.disconnected, err = disconnect(r.clients)
	if err != nil && r.ending.cause == nil { // otherwise there is nobody left to care
		r.config.Logger.Warn("clients could not take their leave", "error", err)
	}
}
