package main

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// joinAtOnce is how many clients connect at the same time: enough to hide the
// round trips, few enough for any listener's backlog.
const joinAtOnce = 32

// transfer is one move under way.
type transfer struct {
	// Static after join.
	system    system
	plan      *plan
	members   []member
	receivers []*receiver
	interval  time.Duration // between two messages of a sender; 0 is none
	tolerant  bool          // a refused message or a lost connection does not end it

	missing  atomic.Int64 // receivers that are not complete
	complete chan struct{}
	refused  atomic.Uint64
	problem  atomic.Pointer[error] // the first one
	stopped  chan struct{}
	stop     func() // closes stopped, once
	close    func() // stops, and lets everybody leave, once
}

// newTransfer returns a transfer whose clients have not joined yet.
func newTransfer(sys system, t target, c moveConfig) (*transfer, error) {
	p, err := c.plan()
	if err != nil {
		return nil, err
	}
	tr := &transfer{system: sys, plan: p, tolerant: t.defaults, complete: make(chan struct{}), stopped: make(chan struct{})}
	tr.stop = sync.OnceFunc(func() { close(tr.stopped) })
	tr.close = sync.OnceFunc(tr.leave)
	if c.rate > 0 {
		tr.interval = time.Duration(float64(p.senders*p.fanout) / c.rate * float64(time.Second))
	}
	for i := range p.clients {
		one := newReceiver(p, i, sys.echoes)
		one.complete = tr.received
		if one.expected > 0 {
			tr.missing.Add(1)
		}
		tr.receivers = append(tr.receivers, one)
	}
	return tr, nil
}

// received is called by each receiver that has everything.
func (tr *transfer) received() {
	if tr.missing.Add(-1) == 0 {
		close(tr.complete)
	}
}

// join connects everybody.
func (tr *transfer) join(t target) error {
	t.size, t.direct = tr.plan.size, tr.plan.to != nil
	network := tr.system.network(t, tr.plan.clients)
	tr.members = make([]member, tr.plan.clients)
	errs := make([]error, tr.plan.clients)
	slots := make(chan struct{}, joinAtOnce)
	var joining sync.WaitGroup
	for i := range tr.members {
		slots <- struct{}{}
		joining.Go(func() {
			tr.members[i], errs[i] = network.join(i, tr.inbox(i))
			<-slots
		})
	}
	joining.Wait()
	return errors.Join(errs...)
}

func (tr *transfer) inbox(i int) inbox {
	in := inbox{fail: func(err error) { tr.fail(fmt.Errorf("client %d: %w", i, err)) }}
	if one := tr.receivers[i]; one.expected > 0 {
		in.deliver = one.take
	}
	return in
}

// fail notes what went wrong, and ends a run that does not tolerate it.
func (tr *transfer) fail(err error) {
	if tr.over() {
		return // connections end then
	}
	tr.problem.CompareAndSwap(nil, &err)
	if !tr.tolerant {
		tr.stop()
	}
}

// over says whether the run was stopped.
func (tr *transfer) over() bool {
	select {
	case <-tr.stopped:
		return true
	default:
		return false
	}
}

// leave lets everybody leave.
func (tr *transfer) leave() {
	tr.stop()
	var leaving sync.WaitGroup
	for _, m := range tr.members {
		if m != nil {
			leaving.Go(m.close)
		}
	}
	leaving.Wait()
}

// result sums up what the receivers have. The run is closed. last is when the
// last progress was seen; receivers that are complete know better.
func (tr *transfer) result(begin, last time.Time) *moved {
	m := &moved{Expected: tr.plan.deliveries(), Refused: tr.refused.Load()}
	var end time.Time
	for _, one := range tr.receivers {
		m.Deliveries += one.check.got
		m.Faults += one.check.faults
		if one.last.After(end) {
			end = one.last
		}
	}
	m.Lost = m.Expected - m.Deliveries
	if m.Lost > 0 {
		end = last
	}
	m.Seconds = end.Sub(begin).Seconds()
	if err := tr.problem.Load(); err != nil {
		m.Problem = (*err).Error()
	}
	return m
}
