package simulation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/client"
)

// connectAtOnce is how many clients connect at the same time: enough to hide the
// round trips, few enough for any listener's backlog.
const connectAtOnce = 32

// flushTime bounds how long a client that is closed may still write what it
// accepted, and wait for the hub's end. After a complete run nothing is left;
// after any other it must not hold up the end.
const flushTime = 250 * time.Millisecond

// readBuffer is what the kernel may hold for each client, in bytes. Left to itself
// it holds up to tens of MB for each of 255 clients, gets short of memory, and
// drops what it has received: connections then stall for seconds, and the hub
// takes them for dead (docs/decisions/0002).
const readBuffer = 1 << 20

// connect returns one connected client for each of receivers or, with none of
// them left open, why that could not be.
func connect(ctx context.Context, c Config, receivers []*receiver, lines []*line) ([]*client.Client, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	clients := make([]*client.Client, len(receivers))
	indexes := make(chan int)
	var dialers sync.WaitGroup
	for range min(connectAtOnce, len(receivers)) {
		// Ends when indexes is closed; connect waits for it.
		dialers.Go(func() {
			for i := range indexes {
				var err error
				if clients[i], err = dial(ctx, c, receivers[i], lines[i]); err != nil {
					fail(fmt.Errorf("client %d of %d cannot connect to %s: %w", i+1, len(receivers), c.Addr, err))
				}
			}
		})
	}
	for i := range clients {
		indexes <- i
	}
	close(indexes)
	dialers.Wait()

	err := context.Cause(ctx)
	if err == nil {
		err = distinct(clients)
	}
	if err != nil {
		_, _ = disconnect(clients) // the first error tells more
		return nil, err
	}
	return clients, nil
}

// dial connects one client that hands what it gets to r, over l unless that is nil.
func dial(ctx context.Context, c Config, r *receiver, l *line) (*client.Client, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err() // another one has failed already
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("no answer within %v", c.Timeout))
	defer cancel()
	options := client.Options{
		Version: c.Protocol, CloseTimeout: flushTime, ReadBuffer: readBuffer, OnMessage: r.receive,
		NoReconnect: l == nil, OnEvent: r.event, TLS: c.TLS, Token: c.Token,
	}
	if l != nil {
		options.Dial = l.dial
	}
	one, err := client.Dial(ctx, c.Addr, &options)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return one, err
}

// distinct returns an error unless every client has an id of its own.
func distinct(clients []*client.Client) error {
	owner := make(map[uint64]int, len(clients))
	for i, c := range clients {
		if other, taken := owner[c.ID()]; taken {
			return fmt.Errorf("the hub gave the id %d to two clients, %d and %d: a token for all of them must not name one", c.ID(), other, i)
		}
		owner[c.ID()] = i
	}
	return nil
}

// disconnect closes all clients that there are, at once, and returns how many
// that were and what went wrong.
func disconnect(clients []*client.Client) (closed int, err error) {
	errs := make([]error, len(clients))
	var closing sync.WaitGroup
	for i, c := range clients {
		if c == nil {
			continue
		}
		closed++
		// Ends within flushTime; disconnect waits for it.
		closing.Go(func() { errs[i] = c.Close() })
	}
	closing.Wait()
	return closed, errors.Join(errs...)
}
