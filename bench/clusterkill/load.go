package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// The clients. Their first addresses are spread over the hubs.
const (
	fastClients = 12 // version 2
	v1Clients   = 3
	slowClients = 3 // version 2; only slowSenders send to them
	slowSenders = 3 // version 2

	memberCount = fastClients + v1Clients + slowClients + slowSenders
)

const (
	sendInterval  = 25 * time.Millisecond // of each sender, on average
	slowInterval  = 5 * time.Millisecond  // of each slowSender
	maxSlowDelay  = 20 * time.Millisecond // that a slow client needs for a message
	maxReceivers  = 4
	maxSmallBody  = 2 << 10
	maxLargeBody  = 200 << 10
	reportTimeout = 10 * time.Second
)

// load is all clients.
type load struct {
	arena   *arena
	ledger  *ledger
	seed    uint64
	members [memberCount]*member
	drained atomic.Bool    // slow clients are fast, so that what is queued for them arrives
	senders sync.WaitGroup // for the goroutines that send
	wait    sync.WaitGroup // for those that keep clients connected
}

// member is one client, which always connects again.
type member struct {
	load  *load
	index int
	v1    bool
	slow  bool
	rng   *rand.Rand // of the goroutine that sends

	mu     sync.Mutex
	client *client.Client // nil: not connected yet
}

// start connects all clients, which send until sendCtx ends and stay until ctx ends.
func (l *load) start(ctx, sendCtx context.Context) {
	for i := range l.members {
		m := &member{
			load: l, index: i, v1: i >= fastClients && i < fastClients+v1Clients,
			slow: i >= fastClients+v1Clients && i < fastClients+v1Clients+slowClients,
			rng:  rand.New(rand.NewPCG(l.seed, uint64(i))),
		}
		l.members[i] = m
	}
	for _, m := range l.members {
		l.wait.Go(func() { m.stayConnected(ctx) }) // ends with ctx
		if !m.slow {
			l.senders.Go(func() { m.send(sendCtx) }) // ends with sendCtx, or shortly after
		}
	}
}

// stayConnected connects the client again and again until ctx ends. Version 2 mostly does it by
// itself.
func (m *member) stayConnected(ctx context.Context) {
	for ctx.Err() == nil {
		options := &client.Options{
			OnMessage: m.handleMessage, OnEvent: m.handleEvent, MaxQueued: 1 << 20, InOrder: true, CloseTimeout: time.Second,
		}
		if m.v1 {
			options.Version = 1
		}
		dialCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
		c, err := client.Dial(dialCtx, m.load.arena.hubAddrs(m.index%hubCount), options)
		cancel()
		if err != nil {
			sleep(ctx, 200*time.Millisecond)
			continue
		}
		m.load.ledger.beginSession(m.index, m.load.arena.hubAt(c.Addr()), c.ID())
		m.setClient(c)
		select {
		case <-c.Done():
			if !m.v1 {
				m.load.ledger.fail("client %d has ended: %v", m.index, c.Err())
			}
		case <-ctx.Done():
		}
		_ = c.Close() // at the end nothing is under way, and before, the client has ended
		m.load.ledger.endSession(m.index)
	}
}

func (m *member) setClient(c *client.Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.client = c
}

func (m *member) currentClient() *client.Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.client
}

func (m *member) handleMessage(msg client.Message) {
	rejects := m.load.ledger.handleMessage(m.index, msg)
	if m.slow && !m.load.drained.Load() {
		time.Sleep(rand.N(maxSlowDelay))
	}
	if rejects {
		msg.Nak()
	} else {
		msg.Ack()
	}
}

func (m *member) handleEvent(e client.Event) {
	l := m.load.ledger
	switch e.Kind {
	case client.EventDisconnected:
		l.breakSession(m.index, e.Err)
	case client.EventResumed:
		l.resumeSession(m.index)
	case client.EventNewID:
		l.beginSession(m.index, m.load.arena.hubAt(e.Addr), e.ID)
	case client.EventKeptID:
		l.keepSession(m.index, m.load.arena.hubAt(e.Addr), e.ID)
	case client.EventRefused:
		l.fail("a message of client %d without a report was refused: %v", m.index, e.Err)
	case client.EventClosed:
		if m.v1 && !errors.Is(e.Err, client.ErrClosed) {
			l.breakSession(m.index, e.Err)
		}
	case client.EventReconnectFailed: // it tries again
	}
}

// send sends until ctx ends.
func (m *member) send(ctx context.Context) {
	slow := m.index >= memberCount-slowSenders
	interval := sendInterval
	if slow {
		interval = slowInterval
	}
	for sleep(ctx, randomTime(m.rng, 2*interval)) {
		c := m.currentClient()
		if c == nil || c.Err() != nil {
			continue
		}
		targets := m.chooseTargets(slow)
		if len(targets) > 0 {
			m.sendOne(context.WithoutCancel(ctx), c, targets, m.chooseOptions(slow))
		}
	}
}

// chooseTargets chooses receivers. Few of them are ids that are not valid any more.
func (m *member) chooseTargets(slow bool) (targets []target) {
	l := m.load.ledger
	first, count := 0, fastClients+v1Clients
	if slow {
		first, count = count, slowClients
	}
	for _, i := range m.rng.Perm(count)[:1+m.rng.IntN(min(count, maxReceivers))] {
		s := l.sessionOf(first + i)
		if s != nil {
			targets = append(targets, target{member: first + i, session: s, id: s.id})
		}
	}
	if m.rng.IntN(20) == 0 {
		old := l.someOldSession(m.rng.Int())
		if old != nil && !contains(targets, old.member) {
			targets = append(targets, target{member: old.member, session: old, id: old.id})
		}
	}
	for i := range targets {
		targets[i].v1 = m.load.members[targets[i].member].v1
		targets[i].rejects = m.rng.IntN(20) == 0
	}
	return targets
}

func contains(targets []target, member int) bool {
	for _, t := range targets {
		if t.member == member {
			return true
		}
	}
	return false
}

// chooseOptions chooses how a message is sent. Only messages to slow receivers can have another
// overflow policy than to wait.
func (m *member) chooseOptions(slow bool) *client.SendOptions {
	o := &client.SendOptions{Level: wire.Level(m.rng.IntN(int(wire.LevelProcessed) + 1)), ReportTimeout: reportTimeout}
	if m.v1 {
		return &client.SendOptions{}
	}
	if o.Level > wire.LevelNone && m.rng.IntN(8) == 0 {
		o.TTL = time.Duration(1+m.rng.IntN(3000)) * time.Millisecond
	}
	if slow && o.Level > wire.LevelNone {
		o.Overflow = wire.Overflow(m.rng.IntN(int(wire.OverflowDropOldest) + 1))
	}
	return o
}

// sendOne sends a message. It waits while the queue of the client is full, at most until the client
// is closed.
func (m *member) sendOne(ctx context.Context, c *client.Client, targets []target, options *client.SendOptions) {
	l := m.load.ledger
	size := m.rng.IntN(maxSmallBody)
	if m.rng.IntN(50) == 0 {
		size = m.rng.IntN(maxLargeBody)
	}
	to := make([]uint64, len(targets))
	for i, t := range targets {
		to[i] = t.id
	}
	number := l.begin(m.index, options, targets)
	body := newBody(m.rng, m.index, number, size)
	var err error
	if options.Level == wire.LevelNone {
		err = c.Send(ctx, to, body)
	} else {
		err = c.SendFunc(ctx, to, body, options, func(r *client.Report, err error) { l.handleReport(m.index, number, r, err) })
	}
	if err != nil {
		l.handleReport(m.index, number, nil, fmt.Errorf("not sent: %w", err))
	}
}

// finish waits for the last reports and messages, after sendCtx has ended, until ctx ends.
func (l *load) finish(ctx context.Context) {
	l.senders.Wait()
	l.drained.Store(true)
	timeout := time.Now().Add(reportTimeout + time.Minute)
	for before := -1; time.Now().Before(timeout); {
		_, deliveries := l.ledger.progress()
		if deliveries == before && l.ledger.pendingReports() == 0 || !sleep(ctx, quietTime) {
			return
		}
		before = deliveries
	}
}

// quietTime is how long nothing has arrived when nothing is under way any more.
const quietTime = 2 * time.Second
