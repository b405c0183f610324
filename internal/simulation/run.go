package simulation

import (
	"context"
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
	proxies      []*proxy       // one for each address; empty without Config.Reconnects
	// partsDone receives a value for each part that is done. Its capacity is the number of parts,
	// therefore partDone does not block.
	partsDone    chan struct{}
	fatal        chan error       // capacity 1: the cause for aborting the run
	reconnectLog limitlog.Limiter // limits the log of failed reconnects of all clients

	// Static after addClients.
	clients   []*client.Client
	senders   []*sender      // one for each client
	addresses []AddressCount // see Report.Addresses

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
			epoch: r.epoch, oneIn: latencyOneIn(r.plan), onComplete: r.partDone,
			checker: newChecker(r.plan, r.pattern, c.Verify, i), latency: stats.NewLatency(),
			acksMessages: c.ReportLevel == LevelProcessed, onNewID: func(id uint64) { r.handleNewID(i, id) },
			onReconnectFailed: func(e client.Event) { r.handleReconnectFailed(i, e) },
		}
		rcv.checkComplete() // there can be no messages to wait for
		r.receivers = append(r.receivers, rcv)
	}
	return r
}

// partsPerClient returns how many parts a run has for each client. Each part calls partDone
// once.
func (r *run) partsPerClient() int {
	parts := 2 // sending and receiving
	if r.config.ReportLevel != LevelNone {
		parts++
	}
	if r.config.Reconnects > 0 {
		parts++
	}
	return parts
}

// addClients adds the connected clients, either all or none, and makes their senders.
func (r *run) addClients(clients []*client.Client) {
	r.clients = clients
	r.receivers = r.receivers[:len(clients)]
	r.addresses = countAddresses(r.config.addrs(), clients)
	for i, c := range clients {
		r.senders = append(r.senders, &sender{
			index: i, client: c, to: idsExcept(i, clients),
			messages: r.plan.messagesPerSender(), interval: r.config.Interval, pattern: r.pattern,
			reports: r.newReportChecker(i), level: r.config.ReportLevel.wire(),
		})
	}
}

// countAddresses returns how many clients are connected to each address, of several.
func countAddresses(addrs []string, clients []*client.Client) (counts []AddressCount) {
	if len(addrs) == 1 {
		return nil
	}
	for _, addr := range addrs {
		n := 0
		for _, c := range clients {
			if c.Addr() == addr {
				n++
			}
		}
		counts = append(counts, AddressCount{addr, n})
	}
	return counts
}

// newReportChecker returns the reportChecker of sender i. It returns nil if no reports are
// requested.
func (r *run) newReportChecker(i int) *reportChecker {
	if r.config.ReportLevel == LevelNone {
		return nil
	}
	fail := func(err error) { r.fail(fmt.Errorf("client %d (id %d): %w", i, r.clients[i].ID(), err)) }
	reports := newReportChecker(r.config, r.plan, r.epoch, latencyOneIn(r.plan), r.partDone, fail)
	if r.plan.Sends == 0 {
		r.partDone()
	}
	return reports
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

	m := &monitor{partsDone: r.partsDone, timeout: r.config.Timeout, sample: r.sampleProgress, nextDue: r.nextMessageDue, display: d}
	err := m.await(runCtx, r.partsPerClient()*len(r.clients))
	r.lastProgress = m.last
	if err == nil && r.plan.Deliveries > 0 {
		err = awaitBarrier(ctx, r.clients, r.config.Timeout)
	}
	abort(err)
	senders.Wait()
	breakers.Wait()
	monitors.Wait()
	r.outcome = outcome{cause: err, alive: time.Since(r.epoch)}
	d.finish(r.sampleProgress()) // waits for the terminal, whose time is not part of the run
	for _, s := range r.senders {
		if s.reports != nil {
			s.reports.close()
		}
	}
	r.disconnectAll()
	r.outcome.traffic = r.sumTraffic() // all readers and senders have ended
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

// startBreakers starts a goroutine for each client that breaks its connection
// Config.Reconnects times, at random points of its messages. The goroutines end with ctx or
// when all breaks are done.
func (r *run) startBreakers(ctx context.Context, abort context.CancelCauseFunc) *sync.WaitGroup {
	var wg sync.WaitGroup
	if r.config.Reconnects == 0 {
		return &wg
	}
	for i, c := range r.clients {
		b := &breaker{client: c, sender: r.senders[i], dialer: r.proxyDialers[i], breaks: r.config.Reconnects}
		wg.Go(func() {
			if err := b.breakConns(ctx); err != nil {
				abort(err)
				return
			}
			r.partDone()
		})
	}
	return &wg
}

func (r *run) partDone() { r.partsDone <- struct{}{} }

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

// sampleProgress samples the counters of all clients. The clients maintain these counters in
// any case, therefore it adds no cost to the messages.
func (r *run) sampleProgress() progress {
	p := progress{at: time.Now()}
	for i, c := range r.clients {
		p.sent += uint64(r.senders[i].accepted.Load())
		p.received += c.Stats().Deliveries
	}
	if r.config.Protocol == 2 {
		p.reported = r.reportCount()
	}
	return p
}

// reportCount returns the number of reports that all senders received.
func (r *run) reportCount() (n uint64) {
	for _, s := range r.senders {
		if s.reports != nil {
			n += s.reports.count()
		}
	}
	return n
}

// nextMessageDue returns when the next message of the slowest sender is due. It returns false when
// all senders have sent everything.
func (r *run) nextMessageDue() (time.Time, bool) {
	messages := r.plan.messagesPerSender()
	minAccepted := messages
	for _, s := range r.senders {
		minAccepted = min(minAccepted, s.accepted.Load())
	}
	return r.epoch.Add(r.start + time.Duration(minAccepted)*r.config.Interval), minAccepted < messages
}

// disconnectAll closes all clients.
func (r *run) disconnectAll() {
	var err error
	r.outcome.disconnected, err = disconnect(r.clients)
	if err != nil && r.outcome.cause == nil { // otherwise the first cause is reported
		r.config.Logger.Warn("cannot close clients", "error", err)
	}
}

// sumTraffic sums the counters of all clients.
func (r *run) sumTraffic() (t Traffic) {
	for _, c := range r.clients {
		s := c.Stats()
		t.MessagesIn += s.MessagesIn
		t.MessagesOut += s.MessagesOut
		t.BytesIn += s.BytesIn
		t.BytesOut += s.BytesOut
	}
	return t
}
