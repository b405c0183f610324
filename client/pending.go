package client

import (
	"fmt"
	"sync"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// Page is a part of the list of connected clients.
type Page struct {
	IDs   []uint64 // ascending; with the id of this client
	More  bool     // there are larger ids
	Total int      // number of all connected clients
}

// pendingRequests are the requests without a reply. The hub replies in order: the first reply
// of a kind belongs to the oldest request of that kind.
type pendingRequests struct {
	// sendMu is a mutex with capacity 1. The goroutine that sends a request holds it, and thereby
	// the waiters have the order of the requests on the wire.
	sendMu chan struct{}

	// Guarded by mu.
	mu       sync.Mutex
	identity []chan uint64
	list     []chan []uint64
	page     []chan Page
	ping     []chan struct{}
	err      error
}

func (p *pendingRequests) init() { p.sendMu = make(chan struct{}, 1) }

func listWaiters(p *pendingRequests) *[]chan []uint64 { return &p.list }
func pageWaiters(p *pendingRequests) *[]chan Page     { return &p.page }
func pingWaiters(p *pendingRequests) *[]chan struct{} { return &p.ping }

// handleReply parses a reply and delivers it to the oldest request of its kind.
func (p *pendingRequests) handleReply(f *socket.Frame, isV2 bool) error {
	switch f.Type {
	case 0: // an empty frame has no meaning
		return nil
	case wire.TypeIdentity:
		id, err := wire.ParseIdentity(f.Payload)
		if err != nil {
			return err
		}
		return deliverReply(p, &p.identity, id)
	case wire.TypeList:
		ids, err := wire.ParseList(f.Payload)
		if err != nil {
			return err
		}
		return deliverReply(p, &p.list, ids.AppendTo(make([]uint64, 0, ids.Len())))
	case wire.TypeListPage:
		page, err := wire.ParseListPage(f.Payload)
		if err != nil {
			return err
		}
		ids := page.IDs.AppendTo(make([]uint64, 0, page.IDs.Len()))
		return deliverReply(p, &p.page, Page{IDs: ids, More: page.More, Total: int(page.Total)})
	default:
		if isV2 && f.Type > wire.TypeAck {
			return nil // a type of a later version
		}
		return unexpectedFrameError(f.Type)
	}
}

// deliverReply delivers value to the first waiter.
func deliverReply[T any](p *pendingRequests, waiters *[]chan T, value T) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil // all waiters have failed
	}
	if len(*waiters) == 0 {
		return fmt.Errorf("%w: unexpected reply", ErrProtocol)
	}
	(*waiters)[0] <- value // does not block: capacity 1, one reply
	*waiters = (*waiters)[1:]
	return nil
}

// addWaiter appends a waiter. The returned channel is closed if there will be no reply. It is
// nil if cn has ended.
func addWaiter[T any](p *pendingRequests, waiters *[]chan T) chan T {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil
	}
	c := make(chan T, 1)
	*waiters = append(*waiters, c)
	return c
}

// removeWaiter removes the waiter of a request that was not sent.
func removeWaiter[T any](p *pendingRequests, waiters *[]chan T, c chan T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Otherwise close has removed all.
	if last := len(*waiters) - 1; last >= 0 && (*waiters)[last] == c {
		*waiters = (*waiters)[:last]
	}
}

// close fails all requests with err.
func (p *pendingRequests) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	closeWaiters(&p.identity)
	closeWaiters(&p.list)
	closeWaiters(&p.page)
	closeWaiters(&p.ping)
}

func closeWaiters[T any](waiters *[]chan T) {
	for _, c := range *waiters {
		close(c)
	}
	*waiters = nil
}
