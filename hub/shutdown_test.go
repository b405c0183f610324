package hub_test

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// atOnce is how long something may take that has nothing to wait for. It is that
// much because the machine may be busy elsewhere.
const atOnce = 5 * time.Second

// shutdown shuts the hub down and returns how long that took.
func (s *testHub) shutdown(t testing.TB, patience time.Duration) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	began := time.Now()
	err := s.Shutdown(ctx)
	return time.Since(began), err
}

// TestShutdownWithSilentClientsIsFast has clients in every state of saying
// nothing: never a word, half a header, half a body, idle.
func TestShutdownWithSilentClientsIsFast(t *testing.T) {
	h := start(t, hub.Config{MaxQueuedBytes: 96 << 20}) // room for all that is begun
	for range 20 {
		h.silent(t)
		h.peer(t)
		for _, part := range halves(1) {
			h.silent(t).send(part)
		}
	}
	eventually(t, "all connected", func() bool { return h.Stats().Clients == 20*(2+len(halves(1))) })
	took, err := h.shutdown(t, patience)
	if err != nil || took > atOnce {
		t.Errorf("Shutdown took %v: %v", took, err)
	}
	if n := h.Stats().Disconnected[hub.ReasonShutdown]; n != h.Stats().Connected {
		t.Errorf("%d of %d disconnected by the shutdown", n, h.Stats().Connected)
	}
}

// TestShutdownWithAFullQueueTakesAsLongAsItIsGiven has a receiver that takes
// nothing, and a sender that waits for it.
func TestShutdownWithAFullQueueTakesAsLongAsItIsGiven(t *testing.T) {
	h := start(t, hub.Config{StallTimeout: time.Hour})
	sender, stalled := h.peer(t), h.peer(t)
	sender.fill(h, stalled.id)
	const given = 500 * time.Millisecond
	took, err := h.shutdown(t, given)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown returned %v, want %v", err, context.DeadlineExceeded)
	}
	if took < given || took > given+atOnce {
		t.Errorf("Shutdown took %v, was given %v", took, given)
	}
	if h.Stats().Gone == 0 {
		t.Error("what was lost is not counted")
	}
}

// TestShutdownWaitsNoLongerThanTheStallTimeout gives it all the time there is.
func TestShutdownWaitsNoLongerThanTheStallTimeout(t *testing.T) {
	h := start(t, hub.Config{StallTimeout: time.Second})
	sender, stalled, quick := h.peer(t), h.peer(t), h.peer(t)
	sender.relay(make([]byte, 16<<10), quick.id)
	sender.fill(h, stalled.id)
	took, _ := h.shutdown(t, patience)
	if took > 3*h.config.StallTimeout+atOnce {
		t.Errorf("Shutdown took %v", took)
	}
	quick.hears(make([]byte, 16<<10))
}

// TestShutdownEmptiesTheQueues has receivers that read only now.
func TestShutdownEmptiesTheQueues(t *testing.T) {
	const receivers, messages, size = 10, 12, 16 << 10 // fits into a queue, so that the sender does not wait
	h := start(t, hub.Config{})
	sender := h.peer(t)
	var to []*peer
	var ids []uint64
	for range receivers {
		to = append(to, h.peer(t))
		ids = append(ids, to[len(to)-1].id)
	}
	if err := sender.stream(ids, messages, size); err != nil {
		t.Fatal(err)
	}
	sender.fence()
	background(t, func() error {
		_, err := h.shutdown(t, patience)
		return err
	})
	parallel(t, receivers, func(i int) error {
		err := to[i].follow(sender.id, messages, size)
		if n, end := to[i].rest(); n != 0 || end != nil {
			err = errors.Join(err, end, errors.New("more than was sent"))
		}
		return err
	})
}

func TestShutdownTwiceAndConcurrently(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	for range 10 {
		h.peer(t)
	}
	bystanders.pass(1)
	bystanders.end()
	parallel(t, 8, func(int) error {
		_, err := h.shutdown(t, patience)
		return err
	})
	if took, err := h.shutdown(t, patience); err != nil || took > atOnce {
		t.Errorf("once more: %v, after %v", err, took)
	}
}

// TestShutdownAtOnceWhileClientsConnect gives it no time at all, at the moment
// when clients come: none of them is missed, or listed for ever.
func TestShutdownAtOnceWhileClientsConnect(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for n := range 300 {
		ln := newPipes()
		h := startOn(t, hub.Config{}, ln)
		background(t, func() error {
			for {
				nc, ok := ln.offer()
				if !ok {
					return nil
				}
				defer nc.Close()
			}
		})
		for late := time.Now().Add(patience); h.Stats().Connected < uint64(n%20) && time.Now().Before(late); {
			runtime.Gosched() // so that it is another moment each time
		}
		if err := h.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		h.checkEnd(t)
	}
}

// TestShutdownWhileClientsWaitForMemory has some who hold all of it with parts of
// frames, and others who wait for it, all silent.
func TestShutdownWhileClientsWaitForMemory(t *testing.T) {
	h := startOn(t, hub.Config{MaxQueuedBytes: 5 << 20, StallTimeout: time.Hour}, unseen{listen(t)})
	frame := wire.AppendRelay(nil, []uint64{1}, make([]byte, wire.DefaultMaxBody))
	for range 12 {
		h.silent(t).send(frame[:150_000])
	}
	eventually(t, "used up", func() bool { return h.Stats().QueuedBytes > 7<<19 })
	if took, err := h.shutdown(t, 2*atOnce); err != nil || took > atOnce {
		t.Errorf("Shutdown took %v: %v", took, err)
	}
}

// TestShutdownWhileAStalledReceiverHoldsTheMemory has a sender that waits for the
// memory of what it sent to one who takes nothing, in a queue that is not full.
func TestShutdownWhileAStalledReceiverHoldsTheMemory(t *testing.T) {
	h := start(t, hub.Config{MaxQueuedBytes: 5 << 20, OutboxBytes: 16 << 20, StallTimeout: time.Second})
	sender, stalled := h.peer(t), h.peer(t)
	sender.fill(h, stalled.id)
	if took, _ := h.shutdown(t, 4*atOnce); took > 5*h.config.StallTimeout+atOnce {
		t.Errorf("Shutdown took %v", took)
	}
}

func TestShutdownUnderLoad(t *testing.T) {
	h := start(t, hub.Config{})
	const clients = 20
	var all []*client.Client
	var ids []uint64
	for range clients {
		all = append(all, h.dial(t))
		ids = append(ids, all[len(all)-1].ID())
	}
	ctx := t.Context()
	for _, c := range all {
		background(t, func() error {
			for c.Send(ctx, ids, make([]byte, 1000)) == nil { // ends with the hub
			}
			return nil
		})
		background(t, func() error {
			for _, err := range c.Messages(ctx) {
				if err != nil {
					break
				}
			}
			return nil
		})
	}
	eventually(t, "under load", func() bool { return h.Stats().Delivered > 10_000 })
	if took, err := h.shutdown(t, patience); err != nil || took > 2*atOnce {
		t.Errorf("Shutdown took %v: %v", took, err)
	}
}

// TestServeEndsWithItsContext stops accepting, and nothing else.
func TestServeEndsWithItsContext(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	ln := listen(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, ln) }() // ends with ctx; the test waits
	second := &testHub{Hub: h.Hub, addr: ln.Addr().String()}
	p := second.peer(t)

	enough := errors.New("enough")
	cancel(enough)
	if err := <-served; !errors.Is(err, enough) && !errors.Is(err, context.Canceled) {
		t.Errorf("Serve returned %v", err)
	}
	if nc, err := net.Dial("tcp", second.addr); err == nil {
		nc.Close()
		t.Error("the listener is still open")
	}
	p.fence()
	h.peer(t).fence()
	bystanders.pass(3)
}

func TestServeReturnsWhenItsListenerIsClosed(t *testing.T) {
	h := start(t, hub.Config{})
	bystanders := h.bystand(t)
	ln := listen(t)
	served := make(chan error, 1)
	go func() { served <- h.Serve(t.Context(), ln) }() // ends with ln; the test waits
	second := &testHub{Hub: h.Hub, addr: ln.Addr().String()}
	p := second.peer(t)
	ln.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) || errors.Is(err, hub.ErrClosed) {
		t.Errorf("Serve returned %v, want %v", err, net.ErrClosed)
	}
	p.fence()
	bystanders.pass(3)
}

func TestServeAfterShutdownIsRefused(t *testing.T) {
	h := start(t, hub.Config{})
	if _, err := h.shutdown(t, patience); err != nil {
		t.Fatal(err)
	}
	ln := listen(t)
	if err := h.Serve(t.Context(), ln); !errors.Is(err, hub.ErrClosed) {
		t.Errorf("Serve returned %v, want %v", err, hub.ErrClosed)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is still open: %v", err)
	}
}

// TestShutdownIsSeenAsAnEnd lets a client that has said something see the end of
// the stream, not a reset, once it has read its answer.
func TestShutdownIsSeenAsAnEnd(t *testing.T) {
	h := start(t, hub.Config{})
	p := h.peer(t)
	p.send(wire.AppendIdentityRequest(nil))
	p.identity()
	background(t, func() error {
		_, err := h.shutdown(t, patience)
		return err
	})
	if _, err := p.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%v, want the end", err)
	}
}
