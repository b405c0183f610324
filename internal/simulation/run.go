package simulation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/stats"
)

// run is one simulation, from the first connect to the last disconnect.
type run struct {
	// Static after newRun.
	config    Config
	plan      Plan
	began     time.Time // before the first connect
	epoch     time.Time // what all times of messages count from
	clients   []*client.Client
	senders   []*sender   // one for each client
	receivers []*receiver // one for each client
	greetings uint64      // frames that the clients had received before the start
	done      chan struct{}

	// Owned by conduct, and by the report after it.
	start  time.Duration // when the first messages were due, since the epoch
	moved  sample        // the last one that differed from the one before
	ending ending
}

// ending is how a run ended.
type ending struct {
	cause        error   // nil when everything was delivered
	traffic      Traffic // what came after the receivers ended nobody looked at
	alive        time.Duration
	disconnected int
}

// Run connects c.Clients clients to the hub at c.Addr. When all are connected
// and every one of them is reading, each sends its message c.Messages times to
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
	began := time.Now()
	if _, err := fmt.Fprintln(c.Out, c.Plan()); err != nil {
		return nil, fmt.Errorf("simulate: print the plan: %w", err)
	}
	clients, err := connect(ctx, c)
	r := newRun(c, began, clients)
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

// newRun prepares a run with clients that are connected.
func newRun(c Config, began time.Time, clients []*client.Client) *run {
	r := &run{
		config: c, plan: c.Plan(), began: began, epoch: time.Now(), clients: clients,
		done: make(chan struct{}, 2*len(clients)), // nobody waits to say that he is done
	}
	pattern := newPattern(c.Size)
	for i, one := range clients {
		r.greetings += one.Stats().MessagesIn
		r.senders = append(r.senders, &sender{
			index: i, client: one, to: othersThan(i, clients),
			messages: r.plan.messages(), interval: c.Interval, pattern: pattern,
		})
		r.receivers = append(r.receivers, &receiver{
			client: one, epoch: r.epoch, oneIn: r.oneIn(),
			check: newChecker(r.plan, pattern, c.Verify, i), latency: stats.NewLatency(),
		})
	}
	return r
}

// oneIn returns for one in how many messages latency is measured.
func (r *run) oneIn() int {
	if r.plan.perReceiver() > sampleAbove {
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
	listen, mute := context.WithCancel(context.WithoutCancel(ctx)) // outlives work: see receive
	show := newDisplay(r.config, r.plan)

	receiving := r.startReceivers(listen, abort)
	r.start = time.Since(r.epoch)
	sending := r.startSenders(work, abort)

	err := r.watch(work, show)
	if err == nil && r.plan.Deliveries > 0 {
		err = r.settle(ctx)
	}
	abort(err)
	sending.Wait()
	mute()
	receiving.Wait()
	r.ending = ending{cause: err, traffic: r.traffic(), alive: time.Since(r.began)}
	show.end(r.sample()) // waits for the terminal, which is no part of the run
	r.leave()
	// The last writes are counted when whoever writes has ended.
	after := r.traffic()
	r.ending.traffic.MessagesOut, r.ending.traffic.BytesOut = after.MessagesOut, after.BytesOut
}

// startReceivers returns when every client reads. Receivers end when their
// connection or listen does.
func (r *run) startReceivers(listen context.Context, abort context.CancelCauseFunc) *sync.WaitGroup {
	var receiving, reading sync.WaitGroup
	reading.Add(len(r.receivers))
	for _, one := range r.receivers {
		receiving.Go(func() {
			reading.Done()
			abort(one.receive(listen, r.oneDone))
		})
	}
	reading.Wait()
	return &receiving
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
