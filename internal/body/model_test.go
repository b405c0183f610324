package body

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// model is what a budget should do, written down without locks or channels.
type model struct {
	limit, used, peak int64
	queue             []*modelClaim // those who wait for the budget
	accounts          []*modelAccount
}

type modelAccount struct {
	share          int64
	held, overhead int64       // without each other
	claim          *modelClaim // granted or not; nil when its holder does not wait
	forShare       bool        // the claim waits for room in the share
	interrupted    bool
}

type modelClaim struct {
	account  *modelAccount
	bytes    int64
	overhead bool
	granted  bool
}

func (a *modelAccount) fits(n int64, overhead bool) bool {
	return overhead || a.held == 0 || a.held+n <= a.share
}

func (m *model) fits(a *modelAccount, n int64, overhead bool) bool {
	return a.fits(n, overhead) && (m.used == 0 || m.used+n <= m.limit)
}

func (m *model) book(a *modelAccount, n int64, overhead bool) {
	if overhead {
		a.overhead += n
	} else {
		a.held += n
	}
	m.used += n
	m.peak = max(m.peak, m.used)
}

// try books n bytes if nobody has to wait for them.
func (m *model) try(a *modelAccount, n int64, overhead bool) bool {
	if len(m.queue) > 0 || !m.fits(a, n, overhead) {
		return false
	}
	m.book(a, n, overhead)
	return true
}

func (m *model) draw(a *modelAccount, n int64, overhead bool) {
	a.claim = &modelClaim{account: a, bytes: n, overhead: overhead}
	switch {
	case m.try(a, n, overhead):
		a.claim.granted = true
	case a.interrupted: // whoever draws is told at once
	case a.fits(n, overhead):
		m.queue = append(m.queue, a.claim)
	default:
		a.forShare = true
	}
}

func (m *model) force(a *modelAccount, n int64, overhead bool) { m.book(a, n, overhead) }

func (m *model) free(a *modelAccount, n int64, overhead bool) {
	m.book(a, -n, overhead)
	if a.forShare && a.fits(a.claim.bytes, a.claim.overhead) {
		a.forShare = false
		m.queue = append(m.queue, a.claim)
	}
	m.grant()
}

func (m *model) stop(a *modelAccount) {
	m.queue = slices.DeleteFunc(m.queue, func(c *modelClaim) bool { return c == a.claim })
	a.claim, a.forShare = nil, false
	m.grant()
}

func (m *model) grant() {
	for len(m.queue) > 0 && (m.used == 0 || m.used+m.queue[0].bytes <= m.limit) {
		c := m.queue[0]
		m.queue = m.queue[1:]
		m.book(c.account, c.bytes, c.overhead)
		c.granted = true
	}
}

// pair is a budget beside its model.
type pair struct {
	t        *rapid.T
	model    model
	budget   *Budget
	accounts []*Account
	drawers  []*drawer // by account; nil: does not wait
	held     [][]*Buffer
}

func newPair(t *rapid.T) *pair {
	limit := rapid.Int64Range(1, 16*kib).Draw(t, "limit")
	p := &pair{t: t, model: model{limit: limit}, budget: NewBudget(limit, 0)}
	for range rapid.IntRange(1, 4).Draw(t, "accounts") {
		share := rapid.Int64Range(1, 16*kib).Draw(t, "share")
		p.accounts = append(p.accounts, p.budget.Account(share))
		p.model.accounts = append(p.model.accounts, &modelAccount{share: share})
	}
	p.drawers = make([]*drawer, len(p.accounts))
	p.held = make([][]*Buffer, len(p.accounts))
	return p
}

// idle draws an account whose holder does not wait.
func (p *pair) idle() int {
	i := rapid.IntRange(0, len(p.accounts)-1).Draw(p.t, "account")
	if p.drawers[i] != nil {
		p.t.Skip("its holder waits")
	}
	return i
}

func (p *pair) tryDraw(t *rapid.T) {
	i, n, overhead := p.idle(), rapid.IntRange(0, 8*kib).Draw(t, "bytes"), rapid.Bool().Draw(t, "overhead")
	want := p.model.try(p.model.accounts[i], int64(Capacity(n)), overhead)
	draw := p.accounts[i].TryDraw
	if overhead {
		draw = p.accounts[i].TryDrawOverhead
	}
	b := draw(n)
	if (b != nil) != want {
		t.Fatalf("account %d: TryDraw(%d) gave %v, want %v", i, n, b != nil, want)
	}
	if b != nil {
		p.held[i] = append(p.held[i], b)
	}
}

func (p *pair) draw(t *rapid.T) {
	i, n, overhead := p.idle(), rapid.IntRange(0, 8*kib).Draw(t, "bytes"), rapid.Bool().Draw(t, "overhead")
	p.model.draw(p.model.accounts[i], int64(Capacity(n)), overhead)
	p.drawers[i] = drawAs(p.accounts[i], n, overhead, "", nil)
}

func (p *pair) force(t *rapid.T) {
	i := rapid.IntRange(0, len(p.accounts)-1).Draw(t, "account")
	n, overhead := rapid.IntRange(0, 8*kib).Draw(t, "bytes"), rapid.Bool().Draw(t, "overhead")
	p.model.force(p.model.accounts[i], int64(Capacity(n)), overhead)
	force := p.accounts[i].Force
	if overhead {
		force = p.accounts[i].ForceOverhead
	}
	p.held[i] = append(p.held[i], force(n))
}

// interrupt ends what the holder waits for, now and later.
func (p *pair) interrupt(t *rapid.T) {
	i := rapid.IntRange(0, len(p.accounts)-1).Draw(t, "account")
	if rapid.IntRange(0, 9).Draw(t, "rarely") > 0 {
		t.Skip("or soon nobody would wait any more")
	}
	p.accounts[i].Interrupt()
	p.model.accounts[i].interrupted = true
	if d := p.drawers[i]; d != nil {
		p.stopped(i)
	}
}

// stopped holds a drawer to what must be true when its wait has been ended.
func (p *pair) stopped(i int) {
	d := p.drawers[i]
	<-d.done
	if !errors.Is(d.err, ErrStopped) {
		p.t.Fatalf("account %d was stopped while it waited, and got %v", i, d.err)
	}
	p.drawers[i] = nil
	p.model.stop(p.model.accounts[i])
}

func (p *pair) release(t *rapid.T) {
	i := rapid.IntRange(0, len(p.accounts)-1).Draw(t, "account")
	if len(p.held[i]) == 0 {
		t.Skip("holds nothing")
	}
	p.give(i, rapid.IntRange(0, len(p.held[i])-1).Draw(t, "buffer"))
}

func (p *pair) give(i, at int) {
	b := p.held[i][at]
	p.held[i] = slices.Delete(p.held[i], at, at+1)
	p.model.free(p.model.accounts[i], int64(len(b.Bytes())), b.overhead)
	b.Release()
}

func (p *pair) stop(t *rapid.T) {
	i := rapid.IntRange(0, len(p.accounts)-1).Draw(t, "account")
	if p.drawers[i] == nil {
		t.Skip("does not wait")
	}
	p.stopDrawer(i)
}

func (p *pair) stopDrawer(i int) {
	close(p.drawers[i].stop)
	p.stopped(i)
}

// check compares the two when everybody has gone as far as it can.
func (p *pair) check(t *rapid.T) {
	synctest.Wait()
	for i, a := range p.model.accounts {
		if d := p.drawers[i]; d != nil && a.interrupted && !a.claim.granted {
			p.stopped(i)
		} else if d != nil {
			if d.waits() == a.claim.granted {
				t.Fatalf("account %d waits: %v, want %v", i, d.waits(), !a.claim.granted)
			}
			if a.claim.granted {
				p.held[i] = append(p.held[i], d.buffer)
				p.drawers[i], a.claim = nil, nil
			}
		}
		if got := p.accounts[i].Waiting(); got != a.forShare {
			t.Fatalf("account %d waits for its share: %v, want %v", i, got, a.forShare)
		}
	}
	if now, peak := p.budget.Used(); now != p.model.used || peak != p.model.peak {
		t.Fatalf("used %d, peak %d, want %d and %d", now, peak, p.model.used, p.model.peak)
	}
	if got, want := p.budget.Waiting(), len(p.model.queue) > 0; got != want {
		t.Fatalf("somebody waits for the budget: %v, want %v", got, want)
	}
}

// end gives everything back.
func (p *pair) end() {
	for i := range p.drawers {
		if p.drawers[i] != nil {
			p.stopDrawer(i)
			p.check(p.t)
		}
	}
	for i := range p.held {
		for len(p.held[i]) > 0 {
			p.give(i, 0)
		}
	}
	if got := used(p.budget); got != 0 {
		p.t.Fatalf("%d bytes are used at the end", got)
	}
}

func TestBudgetIsAsItsModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that "it waits" is a fact, not a guess
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) { // no Deadline, which a bubble has not
			p := newPair(t)
			t.Repeat(map[string]func(*rapid.T){
				"try":     p.tryDraw,
				"draw":    p.draw,
				"force":   p.force,
				"release": p.release,
				"stop":    p.stop,
				"end":     p.interrupt,
				"":        p.check,
			})
			p.end()
		})
	})
}
