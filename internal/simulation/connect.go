package simulation

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/client"
)

// maxConcurrentDials is how many clients connect at the same time: enough to hide the
// round trips, few enough for any listener's backlog.
const maxConcurrentDials = 32

// closeTimeout bounds how long a client that is closed may still write what it
// accepted, and wait for the hub's end. After a complete run nothing is left;
// after any other it must not hold up the end.
const closeTimeout = 250 * time.Millisecond

// readBufferSize is what the kernel may hold for each client, in bytes. Left to itself
// it holds up to tens of MB for each of 255 clients, gets short of memory, and
// drops what it has received: connections then stall for seconds, and the hub
// takes them for dead (docs/decisions/0002).
const readBufferSize = 1 << 20

// connect returns one connected client for each of receivers or, with none of
// them left open, why that could not be.
func connect(ctx context.Context, c Config, receivers []*receiver, proxyDialers []*proxyDialer) ([]*client.Client, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	clients := make([]*client.Client, len(receivers))
	indexes := make(chan int)
	var wg sync.WaitGroup
	for range min(maxConcurrentDials, len(receivers)) {
		// Ends when indexes is closed; connect waits for it.
		wg.Go(func() {
			for i := range indexes {
				var err error
				if clients[i], err = dial(ctx, c, receivers[i], proxyDialers[i]); err != nil {
					fail(fmt.Errorf("client %d of %d cannot connect to %s: %w", i+1, len(receivers), c.Addr, err))
				}
			}
		})
	}
	for i := range clients {
		indexes <- i
	}
	close(indexes)
	wg.Wait()

	err := context.Cause(ctx)
	if err == nil {
		err = checkDistinctIDs(clients)
	}
	if err != nil {
		_, _ = disconnect(clients) // the first error tells more
		return nil, err
	}
	return clients, nil
}

// dial connects one client that hands what it gets to r, over l unless that is nil.
func dial(ctx context.Context, c Config, r *receiver, pd *proxyDialer) (*client.Client, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err() // another one has failed already
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("no answer within %v", c.Timeout))
	defer cancel()
	options := client.Options{
		Version: c.Protocol, CloseTimeout: closeTimeout, ReadBuffer: readBufferSize, OnMessage: r.handleMessage,
		NoReconnect: pd == nil, OnEvent: r.handleEvent, TLS: c.TLS, GetToken: c.Token,
	}
	if pd != nil {
		options.Dial = pd.dial
	}
	cl, err := client.Dial(ctx, c.Addr, &options)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return cl, err
}

// checkDistinctIDs returns an error unless every client has an id of its own.
func checkDistinctIDs(clients []*client.Client) error {
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
	var wg sync.WaitGroup
	for i, c := range clients {
		if c == nil {
			continue
		}
		closed++
		// Ends within closeTimeout; disconnect waits for it.
		wg.Go(func() { errs[i] = c.Close() })
	}
	wg.Wait()
	return closed, errors.Join(errs...)
}
