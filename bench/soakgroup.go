package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	soakClients          = 20
	soakFanout           = 5                     // receivers of each message
	soakInterval         = 20 * time.Millisecond // between two messages of a client
	maxSoakBody          = 20_000                // bytes of a body
	soakReconnectTimeout = 20 * time.Second      // until all clients have reconnected after an upgrade
)

// soakGroup is the clients of a soak, and their records of messages sent, received and
// reported.
type soakGroup struct {
	clients        []*client.Client
	wg             sync.WaitGroup
	pendingReports sync.WaitGroup // reports that have not arrived
	upgrading      atomic.Int64
	upgradedAt     atomic.Int64 // end of the last upgrade, Unix ns

	// Guarded by mu.
	mu             sync.Mutex
	lastNumbers    [soakClients][soakClients]uint64   // by receiver and sender: the last number
	received       [soakClients][soakClients][]uint64 // by receiver and sender: a bit for each number
	unseen         []deliveryKey                      // reported as received before they arrived
	sent           uint64
	delivered      uint64
	lostToUpgrades uint64
	problem        string
}

// deliveryKey identifies a delivery.
type deliveryKey struct {
	receiver, sender int
	number           uint64
}

// newSoakGroup connects all clients, each with a token for an id that remains the same after
// an upgrade.
func newSoakGroup(ctx context.Context, addr string, creds *credentials) (*soakGroup, error) {
	g := &soakGroup{}
	for i := range soakClients {
		token, err := creds.tokenFor(soakID(i))
		if err != nil {
			return nil, err
		}
		cl, err := client.Dial(ctx, addr, &client.Options{
			TLS: creds.clientTLS, GetToken: func(context.Context) (string, error) { return token, nil },
			OnMessage: func(m client.Message) { g.handleMessage(i, m.Body) },
		})
		if err != nil {
			return nil, err
		}
		g.clients = append(g.clients, cl)
	}
	return g, nil
}

func soakID(i int) uint64 { return uint64(i + 1) }

// beginUpgrade notes that the hub is being replaced. A message can be lost until
// soakReconnectTimeout after endUpgrade.
func (g *soakGroup) beginUpgrade() { g.upgrading.Add(1) }

// endUpgrade notes that the new process of the hub listens.
func (g *soakGroup) endUpgrade() {
	g.upgradedAt.Store(time.Now().UnixNano())
	g.upgrading.Add(-1)
}

// start starts the goroutine of each client that sends until ctx ends.
func (g *soakGroup) start(ctx context.Context) {
	for i := range soakClients {
		g.wg.Go(func() { g.send(ctx, i) })
	}
}

func (g *soakGroup) send(ctx context.Context, i int) {
	body := make([]byte, maxSoakBody)
	for number := uint64(1); ctx.Err() == nil; number++ {
		time.Sleep(soakInterval)
		receivers := rand.Perm(soakClients)[:soakFanout]
		to := make([]uint64, soakFanout)
		for n, r := range receivers {
			to[n] = soakID(r)
		}
		size := 16 + rand.IntN(maxSoakBody-16)
		binary.BigEndian.PutUint64(body, uint64(i))
		binary.BigEndian.PutUint64(body[8:], number)
		for n := 16; n < size; n += 251 {
			body[n] = byte(number)
		}
		sentAt := time.Now()
		g.pendingReports.Add(1)
		err := g.clients[i].SendFunc(context.WithoutCancel(ctx), to, body[:size], &client.SendOptions{Level: wire.LevelReceived}, func(r *client.Report, err error) {
			g.handleReport(i, number, receivers, sentAt, r, err)
			g.pendingReports.Done()
		})
		if err != nil {
			g.pendingReports.Done()
			g.fail("client %d cannot send: %v", i, err)
			return
		}
	}
}

// handleMessage checks and records a received message.
func (g *soakGroup) handleMessage(receiver int, body []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(body) < 16 || binary.BigEndian.Uint64(body) >= soakClients {
		g.failLocked("client %d received %d bytes without a valid header", receiver, len(body))
		return
	}
	sender, number := int(binary.BigEndian.Uint64(body)), binary.BigEndian.Uint64(body[8:])
	for n := 16; n < len(body); n += 251 {
		if body[n] != byte(number) {
			g.failLocked("message %d of client %d is corrupted at client %d", number, sender, receiver)
		}
	}
	if last := &g.lastNumbers[receiver][sender]; number <= *last {
		g.failLocked("message %d of client %d arrived after %d at client %d", number, sender, *last, receiver)
	} else {
		*last = number
	}
	bits := &g.received[receiver][sender]
	for uint64(len(*bits)) <= number/64 {
		*bits = append(*bits, 0)
	}
	(*bits)[number/64] |= 1 << (number % 64)
	g.delivered++
}

// hasReceived reports whether a message has arrived. g.mu must be held.
func (g *soakGroup) hasReceived(key deliveryKey) bool {
	bits := g.received[key.receiver][key.sender]
	return key.number/64 < uint64(len(bits)) && bits[key.number/64]>>(key.number%64)&1 == 1
}

// handleReport compares a report with what arrived. Messages that an upgrade can have lost are
// counted; any other message without a report at the level is a problem.
func (g *soakGroup) handleReport(sender int, number uint64, receivers []int, sentAt time.Time, r *client.Report, err error) {
	duringUpgrade := g.upgrading.Load() > 0 || sentAt.Before(time.Unix(0, g.upgradedAt.Load()).Add(soakReconnectTimeout))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sent++
	for n, receiver := range receivers {
		key := deliveryKey{receiver, sender, number}
		switch {
		case err == nil && r.Fates[n].Reaches(wire.LevelReceived):
			if !g.hasReceived(key) {
				g.unseen = append(g.unseen, key)
			}
		case duringUpgrade:
			g.lostToUpgrades++
		case err != nil:
			g.failLocked("message %d of client %d, without an upgrade: %v", number, sender, err)
		default:
			g.failLocked("message %d of client %d to client %d, without an upgrade: %v", number, sender, receiver, r.Fates[n])
		}
	}
}

func (g *soakGroup) fail(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failLocked(format, args...)
}

// failLocked records the first problem. g.mu must be held.
func (g *soakGroup) failLocked(format string, args ...any) {
	if g.problem == "" {
		g.problem = fmt.Sprintf("%v: ", time.Now().Format(time.TimeOnly)) + fmt.Sprintf(format, args...)
	}
}

// finish waits for the last reports, closes all clients, and returns the result.
func (g *soakGroup) finish(ctx context.Context) *measurement {
	g.wg.Wait()
	reportsDone := make(chan struct{})
	go func() { // ends with the last report
		g.pendingReports.Wait()
		close(reportsDone)
	}()
	select {
	case <-reportsDone:
	case <-time.After(2 * time.Minute):
		g.fail("reports are missing")
	case <-ctx.Done():
		g.fail("interrupted")
	}
	time.Sleep(time.Second) // messages that are acknowledged reach their callback shortly after
	for _, cl := range g.clients {
		cl.Close() // no messages are pending
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, key := range g.unseen {
		if !g.hasReceived(key) {
			g.failLocked("message %d of client %d was reported as received by client %d, but did not arrive", key.number, key.sender, key.receiver)
		}
	}
	return &measurement{Expected: g.sent, Deliveries: g.delivered, Rejected: g.lostToUpgrades, Problem: g.problem}
}
