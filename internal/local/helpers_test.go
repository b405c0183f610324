package local

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// stallTimeout is the stall timeout of the Receivers of a test.
const stallTimeout = 10 * time.Second

var errTestClosed = errors.New("closed by the test")

// limits are the limits of a testHub. The zero value of each field means no limit that a test
// reaches.
type limits struct {
	credit     int
	maxReports int
	memory     int64 // quota of one sender, in bytes
}

// testHub is what Senders need: destinations by id, a budget, and a shutdown.
type testHub struct {
	*Senders
	relay    *relay.Relay
	budget   *body.Budget
	closing  chan struct{}
	offering sync.WaitGroup
	running  sync.WaitGroup

	messages   atomic.Int64 // calls of OnSend
	deliveries atomic.Int64 // receivers of these messages
	written    atomic.Int64 // messages that Receivers have taken
	lost       atomic.Int64 // messages that Receivers have lost
	endOnce    sync.Once

	// mu guards the fields below.
	mu          sync.Mutex
	dests       map[uint64]relay.Destination
	receivers   []*Receiver
	ackRequests [][]uint64 // arguments of RequestAcks
}

// newTestHub returns a testHub until the end of the test, which checks that nothing is left.
func newTestHub(t testing.TB, limits limits) *testHub {
	t.Helper()
	h := &testHub{budget: body.NewBudget(1<<40, 0), closing: make(chan struct{}), dests: make(map[uint64]relay.Destination)}
	set := func(limit *int, value int) {
		if *limit == 0 {
			*limit = value
		}
	}
	set(&limits.credit, 1<<30)
	set(&limits.maxReports, 1<<30)
	if limits.memory == 0 {
		limits.memory = 1 << 40
	}
	h.relay = relay.New(relay.Config{
		Find: h.find, ReportTimeout: time.Minute, MaxReportTimeout: time.Hour,
		OnDrop: func(wire.Fate, int) {}, Timers: &h.running,
	})
	h.Senders = NewSenders(SenderConfig{
		Relay:      h.relay,
		NewAccount: func() *body.Account { return h.budget.NewAccount(limits.memory) },
		Credit:     limits.credit, MaxReports: limits.maxReports,
		RequestAcks: h.requestAcks,
		OnSend: func(receivers int) {
			h.messages.Add(1)
			h.deliveries.Add(int64(receivers))
		},
		Offering: &h.offering, Running: &h.running, Closing: h.closing, ErrClosed: errTestClosed,
	})
	t.Cleanup(func() { h.end(t) })
	return h
}

func (h *testHub) find(ids []uint64, found []relay.Destination) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, id := range ids {
		found[i] = h.dests[id]
	}
}

func (h *testHub) requestAcks(to []uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ackRequests = append(h.ackRequests, slices.Clone(to))
}

// end shuts h down, and checks that no memory is in use.
func (h *testHub) end(t testing.TB) {
	h.endOnce.Do(func() {
		h.Senders.Close()
		close(h.closing)
		h.offering.Wait()
		for _, r := range h.receivers {
			r.Stop(errTestClosed)
			r.Close()
		}
		h.running.Wait()
		if used, _ := h.budget.Used(); used != 0 {
			t.Errorf("%d bytes are in use at the end", used)
		}
	})
}

// add makes dest the destination of an id.
func (h *testHub) add(id uint64, dest relay.Destination) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dests[id] = dest
}

// addReceiver adds a Receiver whose queue holds outboxBytes.
func (h *testHub) addReceiver(id uint64, outboxBytes int) *Receiver {
	r := h.newReceiver(outboxBytes)
	h.receivers = append(h.receivers, r)
	h.add(id, r)
	return r
}

func (h *testHub) newReceiver(outboxBytes int) *Receiver {
	return NewReceiver(&ReceiverConfig{
		Outbox:    outbox.Config{MaxBytes: outboxBytes, StallTimeout: stallTimeout},
		OnWritten: func(c outbox.Counts) { h.written.Add(int64(c.Deliveries)) },
		OnLost:    func(c outbox.Counts) { h.lost.Add(int64(c.Deliveries)) },
	})
}

// sendTo sends a message without a report.
func (h *testHub) sendTo(t testing.TB, from uint64, body []byte, to ...uint64) (seq uint64) {
	t.Helper()
	report, err := h.Send(t.Context(), &Send{From: from, To: to, Body: body})
	if err != nil {
		t.Fatal(err)
	}
	return report.Seq
}

// sendLevel sends a message with a level.
func (h *testHub) sendLevel(ctx context.Context, from uint64, level wire.Level, body []byte, to ...uint64) (Report, error) {
	return h.Send(ctx, &Send{From: from, To: to, Body: body, Options: wire.MakeOptions(level, wire.OverflowBlock)})
}

// pending is a Send in a goroutine of its own.
type pending struct {
	done   atomic.Bool
	report Report
	err    error
	cancel context.CancelFunc
}

// start begins a Send, and returns when it has ended or waits. It must be called in virtual time.
func (h *testHub) start(t testing.TB, m Send) *pending {
	p := new(pending)
	ctx, cancel := context.WithCancel(t.Context())
	p.cancel = cancel
	go func() { // ends with Send, at the latest when the hub ends
		p.report, p.err = h.Send(ctx, &m)
		p.done.Store(true)
	}()
	synctest.Wait()
	return p
}

// expectWaiting fails the test unless p waits.
func (p *pending) expectWaiting(t testing.TB) {
	t.Helper()
	synctest.Wait()
	if p.done.Load() {
		t.Fatalf("Send has returned: %v, %v", p.report, p.err)
	}
}

// expectEnd fails the test unless p has returned with this error.
func (p *pending) expectEnd(t testing.TB, want error) {
	t.Helper()
	synctest.Wait()
	if !p.done.Load() {
		t.Fatal("Send waits")
	}
	if !errors.Is(p.err, want) {
		t.Fatalf("Send returned %v, want %v", p.err, want)
	}
}

// numbered returns a body of the given size, of at least 8 bytes, that holds a number.
func numbered(n, size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint64(b, uint64(n))
	for i := 8; i < size; i++ {
		b[i] = byte(n + i)
	}
	return b
}

// expectNumbered receives the message numbered(n, size).
func expectNumbered(t testing.TB, r *Receiver, n, size int) Message {
	t.Helper()
	m, err := r.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m.Body, numbered(n, size)) {
		t.Fatalf("a message of %d bytes, %x…, want number %d of %d bytes", len(m.Body), m.Body[:min(8, len(m.Body))], n, size)
	}
	return m
}

// gate is a destination whose Offer waits until the gate is open. It receives every batch.
type gate struct {
	open chan struct{}

	// mu guards the fields below.
	mu      sync.Mutex
	batches [][]uint64 // the seqs of each batch
}

func newGate() *gate { return &gate{open: make(chan struct{})} }

func (g *gate) Version() int { return wire.Version2 }

func (g *gate) Retract(*outbox.Options) bool { return false }

func (g *gate) Verdicts() *relay.Verdicts { return new(relay.Verdicts) }

func (g *gate) Offer(b *outbox.Batch, _ *outbox.Flusher) outbox.Outcome {
	<-g.open
	var seqs []uint64
	for frame := range wire.Frames(b.Buffer.Bytes()[b.From:b.To]) {
		_, payload := wire.Split(frame)
		d, _ := wire.ParseDeliver(payload)
		seqs = append(seqs, d.Seq)
	}
	g.mu.Lock()
	g.batches = append(g.batches, seqs)
	g.mu.Unlock()
	if b.Options != nil && b.Options.Events != nil {
		b.Options.Events.HandleEvent(b.Receiver, outbox.EventWritten, b.First, b.Frames)
		b.Options.Events.HandleEvent(b.Receiver, outbox.EventAcked, b.First, b.Frames)
	}
	return outbox.Queued
}

// taken returns the seqs of each batch that was offered.
func (g *gate) taken() [][]uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.batches)
}

// discard is a destination that drops every batch, and says that it is queued.
type discard struct{ verdicts *relay.Verdicts }

func (discard) Version() int { return wire.Version2 }

func (discard) Retract(*outbox.Options) bool { return false }

func (d discard) Verdicts() *relay.Verdicts { return d.verdicts }

func (discard) Offer(*outbox.Batch, *outbox.Flusher) outbox.Outcome { return outbox.Queued }
