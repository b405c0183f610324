package main

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// maxConcurrentConnects is the maximum number of clients that connect at the same time: enough
// to hide round-trip times, and few enough for the backlog of any listener.
const maxConcurrentConnects = 32

// transfer is a running move.
type transfer struct {
	// Static after connect.
	system    system
	plan      *plan
	conns     []driverConn
	receivers []*receiver
	interval  time.Duration // between two messages of a sender; 0 for no pause
	tolerant  bool          // a failed send or a lost connection does not end the run

	incomplete atomic.Int64 // receivers that miss messages
	complete   chan struct{}
	rejected   atomic.Uint64
	problem    atomic.Pointer[error] // the first error
	stopped    chan struct{}
	stop       func() // closes stopped, once
	close      func() // stops the run and closes all connections, once
}

// moveResult is the result of a move.
type moveResult struct {
	Seconds    float64 `json:"seconds"` // from the first send to the last delivery
	Deliveries uint64  `json:"deliveries"`
	Expected   uint64  `json:"expected"`
	Lost       uint64  `json:"lost"`
	Faults     uint64  `json:"faults"`  // duplicated, out of order or corrupted
	Rejected   uint64  `json:"refused"` // lost messages for which the client library returned an error
	Problem    string  `json:"problem,omitempty"`
}

// newTransfer returns a transfer whose clients are not connected.
func newTransfer(sys system, p *plan, interval time.Duration, tolerant bool) *transfer {
	tr := &transfer{system: sys, plan: p, interval: interval, tolerant: tolerant, complete: make(chan struct{}), stopped: make(chan struct{})}
	tr.stop = sync.OnceFunc(func() { close(tr.stopped) })
	tr.close = sync.OnceFunc(tr.disconnect)
	for i := range p.clients {
		rcv := newReceiver(p, i, sys.echoes)
		rcv.onComplete = tr.receiverComplete
		if rcv.expected > 0 {
			tr.incomplete.Add(1)
		}
		tr.receivers = append(tr.receivers, rcv)
	}
	return tr
}

// receiverComplete counts a receiver that has received everything.
func (tr *transfer) receiverComplete() {
	if tr.incomplete.Add(-1) == 0 {
		close(tr.complete)
	}
}

// connect connects all clients.
func (tr *transfer) connect(t target) error {
	t.size, t.direct = tr.plan.size, tr.plan.to != nil
	d := tr.system.newDriver(t, tr.plan.clients)
	tr.conns = make([]driverConn, tr.plan.clients)
	errs := make([]error, tr.plan.clients)
	slots := make(chan struct{}, maxConcurrentConnects)
	var wg sync.WaitGroup
	for i := range tr.conns {
		slots <- struct{}{}
		wg.Go(func() {
			tr.conns[i], errs[i] = d.connect(i, tr.callbacks(i))
			<-slots
		})
	}
	wg.Wait()
	t.awaitCluster()
	return errors.Join(errs...)
}

func (tr *transfer) callbacks(i int) callbacks {
	cb := callbacks{onError: func(err error) { tr.fail(fmt.Errorf("client %d: %w", i, err)) }}
	if rcv := tr.receivers[i]; rcv.expected > 0 {
		cb.onBody = rcv.handleBody
	}
	return cb
}

// fail records the first error, and stops a run that does not tolerate errors.
func (tr *transfer) fail(err error) {
	if tr.isStopped() {
		return // connections end after a stop
	}
	tr.problem.CompareAndSwap(nil, &err)
	if !tr.tolerant {
		tr.stop()
	}
}

// isStopped reports whether the run was stopped.
func (tr *transfer) isStopped() bool {
	select {
	case <-tr.stopped:
		return true
	default:
		return false
	}
}

// disconnect stops the run and closes all connections.
func (tr *transfer) disconnect() {
	tr.stop()
	var wg sync.WaitGroup
	for _, dc := range tr.conns {
		if dc != nil {
			wg.Go(dc.close)
		}
	}
	wg.Wait()
}

// send sends all messages of sender s. With a rate it is an open loop: message k is due at a
// fixed time, regardless of earlier messages.
func (tr *transfer) send(s int, begin time.Time) {
	body := make([]byte, tr.plan.size)
	// The senders start at different times within the first interval; otherwise all of them would
	// send at the same moment in every interval.
	firstDue := begin.Add(tr.interval * time.Duration(s) / time.Duration(tr.plan.senders))
	for k := range tr.plan.messages {
		if tr.interval > 0 && !tr.waitUntilDue(firstDue.Add(time.Duration(k)*tr.interval)) {
			return
		}
		putHeader(body, s, k)
		more := tr.interval == 0 && k+1 < tr.plan.messages
		if err := tr.conns[s].send(tr.plan.receivers(s, k), body, more); err != nil {
			tr.rejected.Add(uint64(tr.plan.fanout))
			tr.fail(err)
			if !tr.tolerant || tr.isStopped() {
				return
			}
		}
	}
}

// waitUntilDue waits until a message is due. It returns false when the run is stopped.
func (tr *transfer) waitUntilDue(due time.Time) bool {
	time.Sleep(time.Until(due))
	return !tr.isStopped()
}

// result sums the results of the receivers. The transfer must be closed. lastProgress is the
// end of a run that lost messages; otherwise the run ends when the last receiver is complete.
func (tr *transfer) result(begin, lastProgress time.Time) *moveResult {
	m := &moveResult{Expected: tr.plan.deliveries(), Rejected: tr.rejected.Load()}
	var end time.Time
	for _, rcv := range tr.receivers {
		m.Deliveries += rcv.checker.received
		m.Faults += rcv.checker.faults
		if rcv.completedAt.After(end) {
			end = rcv.completedAt
		}
	}
	m.Lost = m.Expected - m.Deliveries
	if m.Lost > 0 {
		end = lastProgress
	}
	m.Seconds = end.Sub(begin).Seconds()
	if err := tr.problem.Load(); err != nil {
		m.Problem = (*err).Error()
	}
	return m
}
