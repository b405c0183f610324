package body

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// model is the specification of a budget, without locks and channels.
type model struct {
	limit, used, peak int64
	queue             []*modelWaiter // those that wait for the budget
	accounts          []*modelAccount
}

type modelAccount struct {
	quota          int64
	held, overhead int64        // held is without overhead
	waiter         *modelWaiter // granted or not; nil: the holder does not wait
	waitsForQuota  bool         // waiter waits for room in the quota
	interrupted    bool
}

type modelWaiter struct {
	account  *modelAccount
	bytes    int64
	overhead bool
	granted  bool
}

func (a *modelAccount) fits(n int64, overhead bool) bool {
	return overhead || a.held == 0 || a.held+n <= a.quota
}

func (m *model) fits(a *modelAccount, n int64, overhead bool) bool {
	return a.fits(n, overhead) && (m.used == 0 || m.used+n <= m.limit)
}

func (m *model) charge(a *modelAccount, n int64, overhead bool) {
	if overhead {
		a.overhead += n
	} else {
		a.held += n
	}
	m.used += n
	m.peak = max(m.peak, m.used)
}

// tryCharge charges n bytes if that is possible without waiting.
func (m *model) tryCharge(a *modelAccount, n int64, overhead bool) bool {
	if len(m.queue) > 0 || !m.fits(a, n, overhead) {
		return false
	}
	m.charge(a, n, overhead)
	return true
}

func (m *model) acquire(a *modelAccount, n int64, overhead bool) {
	a.waiter = &modelWaiter{account: a, bytes: n, overhead: overhead}
	switch {
	case m.tryCharge(a, n, overhead):
		a.waiter.granted = true
	case a.interrupted: // Acquire returns at once
	case a.fits(n, overhead):
		m.queue = append(m.queue, a.waiter)
	default:
		a.waitsForQuota = true
	}
}

func (m *model) forceAcquire(a *modelAccount, n int64, overhead bool) { m.charge(a, n, overhead) }

func (m *model) release(a *modelAccount, n int64, overhead bool) {
	m.charge(a, -n, overhead)
	if a.waitsForQuota && a.fits(a.waiter.bytes, a.waiter.overhead) {
		a.waitsForQuota = false
		m.queue = append(m.queue, a.waiter)
	}
	m.grant()
}

func (m *model) cancel(a *modelAccount) {
	m.queue = slices.DeleteFunc(m.queue, func(w *modelWaiter) bool { return w == a.waiter })
	a.waiter, a.waitsForQuota = nil, false
	m.grant()
}

func (m *model) grant() {
	for len(m.queue) > 0 && (m.used == 0 || m.used+m.queue[0].bytes <= m.limit) {
		w := m.queue[0]
		m.queue = m.queue[1:]
		m.charge(w.account, w.bytes, w.overhead)
		w.granted = true
	}
}

// pair is a budget with its model.
type pair struct {
	t         *rapid.T
	model     model
	budget    *Budget
	accounts  []*Account
	acquirers []*acquirer // by account; nil: does not wait
	held      [][]*Buffer
}

func newPair(t *rapid.T) *pair {
	limit := rapid.Int64Range(1, 16*kib).Draw(t, "limit")
	p := &pair{t: t, model: model{limit: limit}, budget: NewBudget(limit, 0)}
	for range rapid.IntRange(1, 4).Draw(t, "accounts") {
		quota := rapid.Int64Range(1, 16*kib).Draw(t, "quota")
		p.accounts = append(p.accounts, p.budget.NewAccount(quota))
		p.model.accounts = append(p.model.accounts, &modelAccount{quota: quota})
	}
	p.acquirers = make([]*acquirer, len(p.accounts))
	p.held = make([][]*Buffer, len(p.accounts))
	return p
}

// idle chooses an account whose holder does not wait.
func (p *pair) idle() int {
	i := rapid.IntRange(0, len(p.accounts)-1).Draw(p.t, "account")
	if p.acquirers[i] != nil {
		p.t.Skip("the holder waits")
	}
	return i
}

func (p *pair) tryAcquire(t *rapid.T) {
	i, n, overhead := p.idle(), rapid.IntRange(0, 8*kib).Draw(t, "bytes"), rapid.Bool().Draw(t, "overhead")
	want := p.model.tryCharge(p.model.accounts[i], int64(Capacity(n)), overhead)
	tryAcquire := p.accounts[i].TryAcquire
	if overhead {
		tryAcquire = p.accounts[i].TryAcquireOverhead
	}
	b := tryAcquire(n)
	if (b != nil) != want {
		t.Fatalf("account %d: TryAcquire(%d) returned %v, want %v", i, n, b != nil, want)
	}
	if b != nil {
		p.held[i] = append(p.held[i], b)
	}
}

func (p *pair) acquire(t *rapid.T) {
	i, n, overhead := p.idle(), rapid.IntRange(0, 8*kib).Draw(t, "bytes"), rapid.Bool().Draw(t, "overhead")
	p.model.acquire(p.model.accounts[i], int64(Capacity(n)), overhead)
	p.acquirers[i] = startAcquireAs(p.accounts[i], n, overhead, "", nil)
}

func (p *pair) forceAcquire(t *rapid.T) {
	i := rapid.IntRange(0, len(p.accounts)-1).Draw(t, "account")
	n, overhead := rapid.IntRange(0, 8*kib).Draw(t, "bytes"), rapid.Bool().Draw(t, "overhead")
	p.model.forceAcquire(p.model.accounts[i], int64(Capacity(n)), overhead)
	forceAcquire := p.accounts[i].ForceAcquire
	if overhead {
		forceAcquire = p.accounts[i].ForceAcquireOverhead
	}
	p.held[i] = append(p.held[i], forceAcquire(n))
}

// interrupt ends the current wait and all later waits of an account.
func (p *pair) interrupt(t *rapid.T) {
	i := rapid.IntRange(0, len(p.accounts)-1).Draw(t, "account")
	if rapid.IntRange(0, 9).Draw(t, "rarely") > 0 {
		t.Skip("interrupted accounts never wait again: keep them rare")
	}
	p.accounts[i].Interrupt()
	p.model.accounts[i].interrupted = true
	if d := p.acquirers[i]; d != nil {
		p.wantStopped(i)
	}
}

// wantStopped checks an acquirer whose wait has been ended.
func (p *pair) wantStopped(i int) {
	d := p.acquirers[i]
	<-d.done
	if !errors.Is(d.err, ErrStopped) {
		p.t.Fatalf("account %d was stopped while it waited, and got %v", i, d.err)
	}
	p.acquirers[i] = nil
	p.model.cancel(p.model.accounts[i])
}

func (p *pair) release(t *rapid.T) {
	i := rapid.IntRange(0, len(p.accounts)-1).Draw(t, "account")
	if len(p.held[i]) == 0 {
		t.Skip("holds nothing")
	}
	p.releaseAt(i, rapid.IntRange(0, len(p.held[i])-1).Draw(t, "buffer"))
}

func (p *pair) releaseAt(i, at int) {
	b := p.held[i][at]
	p.held[i] = slices.Delete(p.held[i], at, at+1)
	p.model.release(p.model.accounts[i], int64(len(b.Bytes())), b.overhead)
	b.Release()
}

func (p *pair) stop(t *rapid.T) {
	i := rapid.IntRange(0, len(p.accounts)-1).Draw(t, "account")
	if p.acquirers[i] == nil {
		t.Skip("does not wait")
	}
	p.stopAcquirer(i)
}

func (p *pair) stopAcquirer(i int) {
	close(p.acquirers[i].stop)
	p.wantStopped(i)
}

// check compares the budget with the model when no goroutine can continue.
func (p *pair) check(t *rapid.T) {
	synctest.Wait()
	for i, a := range p.model.accounts {
		if d := p.acquirers[i]; d != nil && a.interrupted && !a.waiter.granted {
			p.wantStopped(i)
		} else if d != nil {
			if d.isWaiting() == a.waiter.granted {
				t.Fatalf("account %d waits: %v, want %v", i, d.isWaiting(), !a.waiter.granted)
			}
			if a.waiter.granted {
				p.held[i] = append(p.held[i], d.buffer)
				p.acquirers[i], a.waiter = nil, nil
			}
		}
		if got := p.accounts[i].WaitsForQuota(); got != a.waitsForQuota {
			t.Fatalf("account %d waits for its quota: %v, want %v", i, got, a.waitsForQuota)
		}
	}
	if now, peak := p.budget.Used(); now != p.model.used || peak != p.model.peak {
		t.Fatalf("used %d, peak %d, want %d and %d", now, peak, p.model.used, p.model.peak)
	}
	if got, want := p.budget.HasQueuedWaiters(), len(p.model.queue) > 0; got != want {
		t.Fatalf("HasQueuedWaiters is %v, want %v", got, want)
	}
}

// end stops all waiters and releases all buffers.
func (p *pair) end() {
	for i := range p.acquirers {
		if p.acquirers[i] != nil {
			p.stopAcquirer(i)
			p.check(p.t)
		}
	}
	for i := range p.held {
		for len(p.held[i]) > 0 {
			p.releaseAt(i, 0)
		}
	}
	if got := used(p.budget); got != 0 {
		p.t.Fatalf("%d bytes are used at the end", got)
	}
}

func TestBudget_MatchesModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // makes it certain that a goroutine waits
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) { // a bubble has no Deadline
			p := newPair(t)
			t.Repeat(map[string]func(*rapid.T){
				"tryAcquire":   p.tryAcquire,
				"acquire":      p.acquire,
				"forceAcquire": p.forceAcquire,
				"release":      p.release,
				"stop":         p.stop,
				"interrupt":    p.interrupt,
				"":             p.check,
			})
			p.end()
		})
	})
}
