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
	soakClients = 20
	soakTo      = 5                     // receivers of each message
	soakEvery   = 20 * time.Millisecond // between two messages of a client
	soakMost    = 20_000                // bytes of a body
	soakReturn  = 20 * time.Second      // until everybody is back after an upgrade
)

// crowd is the clients of a soak, and what they know of each other's messages.
type crowd struct {
	clients   []*client.Client
	working   sync.WaitGroup
	open      sync.WaitGroup // reports that have not come
	upgrading atomic.Int64
	upgraded  atomic.Int64 // when the last upgrade was over, Unix ns

	mu        sync.Mutex
	last      [soakClients][soakClients]uint64   // by receiver and sender: the number of the last message
	came      [soakClients][soakClients][]uint64 // likewise: a bit for each number
	missing   []claim                            // was reported before it was seen
	sent      uint64
	delivered uint64
	excused   uint64
	problem   string
}

// claim says that a message has come.
type claim struct {
	receiver, sender int
	number           uint64
}

// newCrowd connects everybody, each with an id of its own that outlasts the hub.
func newCrowd(ctx context.Context, addr string, s *secrets) (*crowd, error) {
	c := &crowd{}
	for i := range soakClients {
		token, err := s.tokenFor(soakID(i))
		if err != nil {
			return nil, err
		}
		one, err := client.Dial(ctx, addr, &client.Options{
			TLS: s.trust, Token: func(context.Context) (string, error) { return token, nil },
			OnMessage: func(m client.Message) { c.take(i, m.Body) },
		})
		if err != nil {
			return nil, err
		}
		c.clients = append(c.clients, one)
	}
	return c, nil
}

func soakID(i int) uint64 { return uint64(i + 1) }

// start lets everybody send until ctx ends.
func (c *crowd) start(ctx context.Context) {
	for i := range soakClients {
		c.working.Go(func() { c.send(ctx, i) })
	}
}

func (c *crowd) send(ctx context.Context, i int) {
	body := make([]byte, soakMost)
	for number := uint64(1); ctx.Err() == nil; number++ {
		time.Sleep(soakEvery)
		receivers := rand.Perm(soakClients)[:soakTo]
		to := make([]uint64, soakTo)
		for n, r := range receivers {
			to[n] = soakID(r)
		}
		size := 16 + rand.IntN(soakMost-16)
		binary.BigEndian.PutUint64(body, uint64(i))
		binary.BigEndian.PutUint64(body[8:], number)
		for n := 16; n < size; n += 251 {
			body[n] = byte(number)
		}
		at := time.Now()
		c.open.Add(1)
		err := c.clients[i].SendFunc(context.WithoutCancel(ctx), to, body[:size], &client.SendOptions{Level: wire.LevelReceived}, func(r *client.Report, err error) {
			c.reported(i, number, receivers, at, r, err)
			c.open.Done()
		})
		if err != nil {
			c.open.Done()
			c.fail("client %d cannot send: %v", i, err)
			return
		}
	}
}

// take notes a message.
func (c *crowd) take(receiver int, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(body) < 16 || binary.BigEndian.Uint64(body) >= soakClients {
		c.failLocked("client %d has got %d bytes of nobody", receiver, len(body))
		return
	}
	sender, number := int(binary.BigEndian.Uint64(body)), binary.BigEndian.Uint64(body[8:])
	for n := 16; n < len(body); n += 251 {
		if body[n] != byte(number) {
			c.failLocked("message %d of client %d is damaged at client %d", number, sender, receiver)
		}
	}
	if last := &c.last[receiver][sender]; number <= *last {
		c.failLocked("message %d of client %d comes behind %d to client %d", number, sender, *last, receiver)
	} else {
		*last = number
	}
	bits := &c.came[receiver][sender]
	for uint64(len(*bits)) <= number/64 {
		*bits = append(*bits, 0)
	}
	(*bits)[number/64] |= 1 << (number % 64)
	c.delivered++
}

// has reports whether a message has come. It is called with mu held.
func (c *crowd) has(x claim) bool {
	bits := c.came[x.receiver][x.sender]
	return x.number/64 < uint64(len(bits)) && bits[x.number/64]>>(x.number%64)&1 == 1
}

// reported holds a report to what was seen.
func (c *crowd) reported(sender int, number uint64, receivers []int, sent time.Time, r *client.Report, err error) {
	upgrade := c.upgrading.Load() > 0 || sent.Before(time.Unix(0, c.upgraded.Load()).Add(soakReturn))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent++
	for n, receiver := range receivers {
		x := claim{receiver, sender, number}
		switch {
		case err == nil && r.Fates[n].Reaches(wire.LevelReceived):
			if !c.has(x) {
				c.missing = append(c.missing, x)
			}
		case upgrade:
			c.excused++
		case err != nil:
			c.failLocked("message %d of client %d, without an upgrade: %v", number, sender, err)
		default:
			c.failLocked("message %d of client %d to client %d, without an upgrade: %v", number, sender, receiver, r.Fates[n])
		}
	}
}

func (c *crowd) fail(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(format, args...)
}

// failLocked notes the first problem. It is called with mu held.
func (c *crowd) failLocked(format string, args ...any) {
	if c.problem == "" {
		c.problem = fmt.Sprintf("%v: ", time.Now().Format(time.TimeOnly)) + fmt.Sprintf(format, args...)
	}
}

// finish waits for the last reports, and returns what is known when everybody has left.
func (c *crowd) finish(ctx context.Context) *measured {
	c.working.Wait()
	all := make(chan struct{})
	go func() { // ends with the last report
		c.open.Wait()
		close(all)
	}()
	select {
	case <-all:
	case <-time.After(2 * time.Minute):
		c.fail("reports are missing")
	case <-ctx.Done():
		c.fail("interrupted")
	}
	time.Sleep(time.Second) // what was reported as received is about to be handed over
	for _, one := range c.clients {
		one.Close() // nothing is left to be sent
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.missing {
		if !c.has(x) {
			c.failLocked("message %d of client %d was reported as received by client %d, and is not there", x.number, x.sender, x.receiver)
		}
	}
	return &measured{Expected: c.sent, Deliveries: c.delivered, Refused: c.excused, Problem: c.problem}
}
