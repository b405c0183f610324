package simulation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/client"
)

// maxConcurrentDials is the maximum number of clients that connect at the same time: enough to
// hide round-trip times, and few enough for the backlog of any listener.
const maxConcurrentDials = 32

// closeTimeout is how long Close of a client can take to write the messages that the client
// accepted and to wait until the hub closes the connection. After a complete run nothing is
// left to write; after any other run Close must not delay the end.
const closeTimeout = 250 * time.Millisecond

// readBufferSize is the size of the kernel's receive buffer for each client, in bytes. By
// default the kernel buffers up to tens of MB for each of 255 clients, runs short of memory
// and drops received data. Connections then stall for seconds, and the hub considers them dead
// (docs/decisions/0002).
const readBufferSize = 1 << 20

// connect returns one connected client for each receiver. If one client fails to connect,
// connect closes all clients and returns the first error.
func connect(ctx context.Context, c Config, receivers []*receiver, proxyDialers []*proxyDialer) ([]*client.Client, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	clients := make([]*client.Client, len(receivers))
	indexes := make(chan int)
	var wg sync.WaitGroup
	for range min(maxConcurrentDials, len(receivers)) {
		// Ends when indexes is closed; connect waits for it.
		wg.Go(func() {
			for i := range indexes {
				var err error
				if clients[i], err = dial(ctx, c, i, receivers[i], proxyDialers[i]); err != nil {
					cancel(fmt.Errorf("client %d of %d cannot connect to %s: %w", i+1, len(receivers), c.Addr, err))
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
		_, _ = disconnect(clients) // the first error says more
		return nil, err
	}
	return clients, nil
}

// dial connects client i, which passes its messages to r. It dials through pd unless pd is nil.
// With a proxy the client stays at one address, because pd cannot break connections of others.
func dial(ctx context.Context, c Config, i int, r *receiver, pd *proxyDialer) (*client.Client, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err() // another client has already failed
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("no answer within %v", c.Timeout))
	defer cancel()
	options := client.Options{
		Version: c.Protocol, CloseTimeout: closeTimeout, ReadBuffer: readBufferSize, OnMessage: r.handleMessage,
		NoReconnect: true, InOrder: true, OnEvent: r.handleEvent, TLS: c.TLS, GetToken: c.Token,
	}
	addrs := c.addrsOf(i)
	if pd != nil {
		options.Dial, addrs = pd.dial, addrs[:1]
	}
	if pd != nil || len(addrs) > 1 {
		options.NoReconnect = false
	}
	cl, err := client.Dial(ctx, strings.Join(addrs, ","), &options)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return cl, err
}

// checkDistinctIDs returns an error if two clients have the same id.
func checkDistinctIDs(clients []*client.Client) error {
	owner := make(map[uint64]int, len(clients))
	for i, c := range clients {
		if other, taken := owner[c.ID()]; taken {
			return fmt.Errorf("the hub gave the id %d to two clients, %d and %d: a shared token must not contain an id", c.ID(), other, i)
		}
		owner[c.ID()] = i
	}
	return nil
}

// disconnect closes all clients that are not nil, concurrently. It returns how many there were
// and the joined errors.
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

// awaitBarrier waits until each client has received everything that the hub has queued for it.
// The hub replies in order, therefore the reply to a list request follows all earlier
// deliveries. Without this barrier, a duplicate of the last message would go unnoticed.
func awaitBarrier(ctx context.Context, clients []*client.Client, timeout time.Duration) error {
	timeoutErr := fmt.Errorf("the hub did not answer a list request within %v", timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, timeoutErr)
	defer cancel()
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		// Ends with ctx at the latest; awaitBarrier waits for it.
		wg.Go(func() { _, errs[i] = c.List(ctx) })
	}
	wg.Wait()
	err := errors.Join(errs...)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// idsExcept returns the ids of all clients except the client at index self.
func idsExcept(self int, clients []*client.Client) []uint64 {
	var ids []uint64
	for i, c := range clients {
		if i != self {
			ids = append(ids, c.ID())
		}
	}
	return ids
}
