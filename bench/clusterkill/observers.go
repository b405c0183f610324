package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/client"
)

// listTimeout is the time limit of a list. A hub that is stopped gives none.
const listTimeout = 2 * time.Second

// observer is a client of one hub, which lists all clients.
type observer struct {
	addr string

	mu     sync.Mutex
	client *client.Client // nil: not connected
}

// list returns the ids of all clients, as its hub knows them.
func (o *observer) list(ctx context.Context) ([]uint64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	if o.client == nil || o.client.Err() != nil {
		c, err := client.Dial(ctx, o.addr, &client.Options{NoReconnect: true, CloseTimeout: time.Millisecond})
		if err != nil {
			return nil, err
		}
		o.client = c
	}
	page, err := o.client.ListPage(ctx, 0, 0)
	if err == nil && page.More {
		err = fmt.Errorf("more than %d clients", len(page.IDs))
	}
	return page.IDs, err
}

// close closes the client.
func (o *observer) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.client != nil {
		_ = o.client.Close() // it has sent no message
	}
}

// observers are those of all hubs.
type observers [hubCount]*observer

func newObservers(a *arena) (o observers) {
	for i := range o {
		o[i] = &observer{addr: a.hubAddr(i)}
	}
	return o
}

func (o *observers) close() {
	for _, each := range o {
		each.close()
	}
}

// awaitEqual waits until all hubs list the same clients, and returns how long that has taken.
func (o *observers) awaitEqual(ctx context.Context, timeout time.Duration) (time.Duration, error) {
	start := time.Now()
	for {
		lists, err := o.lists(ctx)
		if err == nil && slices.Equal(lists[0], lists[1]) && slices.Equal(lists[1], lists[2]) {
			return time.Since(start), nil
		}
		if time.Since(start) > timeout {
			return timeout, fmt.Errorf("%v after the fault the lists of the hubs differ: %d, %d and %d clients (%w)", timeout, len(lists[0]), len(lists[1]), len(lists[2]), err)
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return 0, ctx.Err()
		}
	}
}

// lists returns the lists of all hubs, of the same moment as far as possible.
func (o *observers) lists(ctx context.Context) (lists [hubCount][]uint64, err error) {
	var errs [hubCount]error
	var wait sync.WaitGroup
	for i := range o {
		wait.Go(func() { lists[i], errs[i] = o[i].list(ctx) })
	}
	wait.Wait()
	for i := range errs {
		if errs[i] != nil {
			return lists, fmt.Errorf("hub %d: %w", i+1, errs[i])
		}
	}
	return lists, nil
}

// awaitAbsent waits until a hub lists none of some ids of which isGone is true. It returns how long
// that took.
func (o *observer) awaitAbsent(ctx context.Context, ids map[uint64]bool, isGone func(id uint64) bool) (time.Duration, error) {
	start := time.Now()
	for {
		began := time.Now()
		list, err := o.list(ctx)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err == nil && !slices.ContainsFunc(list, func(id uint64) bool { return ids[id] && isGone(id) }) {
			return time.Since(start), nil
		}
		if err == nil && began.Sub(start) > deadline {
			return 0, fmt.Errorf("hub %s lists clients of a hub that is dead for %v", o.addr, began.Sub(start).Round(time.Millisecond))
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return 0, ctx.Err()
		}
	}
}
