package cluster

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/presence"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// testRecord is a record of a stream.
type testRecord struct {
	recordType recordType
	head, body []byte
}

// recordLog is a recordHandler that keeps the records.
type recordLog struct{ records []testRecord }

func (l *recordLog) beginRecord(_ recordType, _ []byte, size int) ([]byte, error) {
	return make([]byte, size), nil
}

func (l *recordLog) endRecord(t recordType, head, body []byte) error {
	l.records = append(l.records, testRecord{t, slices.Clone(head), slices.Clone(body)})
	return nil
}

// parseRecords cuts bytes of a stream into records.
func parseRecords(t testing.TB, data []byte) []testRecord {
	t.Helper()
	var l recordLog
	d := decoder{handler: &l}
	if err := d.write(data); err != nil {
		t.Fatal(err)
	}
	return l.records
}

// fakeStream is a stream that keeps what is appended.
type fakeStream struct {
	mu          sync.Mutex
	data        []byte // since the last take
	end         uint64
	generation  uint64
	established bool
	flushed     bool // after the last Append
	onAppend    func()
}

func newFakeStream() *fakeStream { return &fakeStream{generation: 1, established: true} }

func (s *fakeStream) Append(head []byte, buf *body.Buffer, from, to int) (generation, end uint64) {
	if s.onAppend != nil {
		s.onAppend()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = append(s.data, head...)
	s.end += uint64(len(head))
	if buf != nil {
		s.data = append(s.data, buf.Bytes()[from:to]...)
		s.end += uint64(to - from)
	}
	s.flushed = false
	return s.generation, s.end
}

func (s *fakeStream) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushed = true
}

func (s *fakeStream) isFlushed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flushed
}

func (s *fakeStream) Now() int64         { return time.Now().UnixMicro() }
func (s *fakeStream) PeerNow() int64     { return time.Now().UnixMicro() }
func (s *fakeStream) Established() bool  { return s.established }
func (s *fakeStream) Generation() uint64 { return s.generation }

// take returns the records that were appended since the last call. All must have been flushed.
func (s *fakeStream) take(t testing.TB) []testRecord {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.data) > 0 && !s.flushed {
		t.Error("records were appended and not flushed")
	}
	records := parseRecords(t, s.data)
	s.data = nil
	return records
}

// breaks begins a new generation.
func (s *fakeStream) breaks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	s.data, s.end = nil, 0
}

// testEvents are the relay.TransferEvents of a transfer.
type testEvents struct {
	mu   sync.Mutex
	log  []testEvent
	done int // calls of Queued.Done, by the waiter
}

// testEvent is an event or a fate.
type testEvent struct {
	receiver, first, frames int
	event                   outbox.Event
	fate                    wire.Fate
	isFate                  bool
}

func (e *testEvents) HandleEvent(receiver int, event outbox.Event, first, frames int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log = append(e.log, testEvent{receiver: receiver, event: event, first: first, frames: frames})
}

func (e *testEvents) Decide(receiver, first, frames int, fate wire.Fate) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.log = append(e.log, testEvent{receiver: receiver, fate: fate, isFate: true, first: first, frames: frames})
}

// want checks the events since the last call, in any order.
func (e *testEvents) want(t testing.TB, want ...testEvent) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	rest := slices.Clone(e.log)
	for _, w := range want {
		i := slices.Index(rest, w)
		if i < 0 {
			t.Errorf("%+v is missing in %+v", w, e.log)
			continue
		}
		rest = slices.Delete(rest, i, i+1)
	}
	if len(rest) > 0 {
		t.Errorf("%+v was not expected", rest)
	}
	e.log = nil
}

// eventAt and fateAt are those of all frames of a batch of one.
func eventAt(receiver int, event outbox.Event) testEvent {
	return testEvent{receiver: receiver, event: event, frames: 1}
}

func fateAt(receiver int, fate wire.Fate) testEvent {
	return testEvent{receiver: receiver, fate: fate, isFate: true, frames: 1}
}

// testRegistry returns a registry with clients of the hub.
func testRegistry(ids ...uint64) *Registry {
	r := presence.New[relay.Destination]()
	for _, id := range ids {
		r.Join(id, &testDest{id: id})
	}
	return r
}

// testDest is a destination whose queue the test fills.
type testDest struct {
	id uint64

	mu      sync.Mutex
	full    bool
	blocked []func() // what is called when the batch is queued
	batches []outbox.Batch
	data    [][]byte
}

func (d *testDest) Version() int                               { return wire.Version2 }
func (d *testDest) Retract(*outbox.Options) (stillQueued bool) { return false }
func (d *testDest) Verdicts() *relay.Verdicts                  { return nil }

func (d *testDest) Offer(b *outbox.Batch, fl *outbox.Flusher) outbox.Outcome {
	d.mu.Lock()
	defer d.mu.Unlock()
	b.Buffer.Retain()
	d.batches = append(d.batches, *b)
	d.data = append(d.data, slices.Clone(b.Buffer.Bytes()[b.From:b.To]))
	if !d.full {
		return outbox.Queued
	}
	d.blocked = append(d.blocked, fl.AddBlocked().Done)
	return outbox.Blocked
}

// unblock has what is blocked queued.
func (d *testDest) unblock() {
	d.mu.Lock()
	blocked := d.blocked
	d.blocked, d.full = nil, false
	d.mu.Unlock()
	for _, done := range blocked {
		done()
	}
}

// write has everything written, at each receiver and in order.
func (d *testDest) write() {
	d.mu.Lock()
	batches := d.batches
	d.batches = nil
	d.mu.Unlock()
	for _, b := range batches {
		if b.Options != nil && b.Options.Events != nil {
			b.Options.Events.HandleEvent(b.Receiver, outbox.EventWritten, b.First, b.Frames)
		}
		b.Buffer.Release()
	}
}

// testRelay returns a relay to the clients of a registry.
func testRelay(registry *Registry) *relay.Relay {
	return relay.New(relay.Config{
		Find: registry.Find, ReportTimeout: time.Second, MaxReportTimeout: time.Minute,
		OnDrop: func(wire.Fate, int) {}, OnForbidden: func(relay.Origin, uint64) {}, Timers: new(sync.WaitGroup),
	})
}

// pass lets virtual time pass, and waits until all other goroutines are idle.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// fakeCarrier is a Carrier whose frames the test reads and writes.
type fakeCarrier struct {
	mu     sync.Mutex
	sent   [][]byte
	broken bool
	handle func([]byte)
}

func (c *fakeCarrier) Send(_ Node, frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		return errors.New("broken")
	}
	c.sent = append(c.sent, slices.Clone(frame))
	return nil
}

func (c *fakeCarrier) Receive(handle func([]byte)) { c.handle = handle }
func (c *fakeCarrier) Close() error                { return nil }

// take returns the frames of a kind that were sent since the last call.
func (c *fakeCarrier) take(want frameKind) (frames [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, frame := range c.sent {
		if kind, _, _, _ := parseFramePrefix(frame); kind == want {
			frames = append(frames, frame)
		}
	}
	c.sent = nil
	return frames
}

const testNode = 1

var testKey = []byte("key")

// testConfig returns the configuration of a hub with clients.
func testConfig(carrier Carrier, ids ...uint64) Config {
	registry := testRegistry(ids...)
	budget := body.NewBudget(64<<20, 0)
	return Config{
		Node: testNode, Name: "one", Key: testKey, Carrier: carrier, Registry: registry, Relay: testRelay(registry), MaxBody: 1 << 20,
		NewAccount:  func() *body.Account { return budget.NewAccount(64 << 20) },
		RequestAck:  func(uint64) {},
		ConnectTime: func(uint64) int64 { return 1 },
		OnClaim:     func(uint64, int64, Node) bool { return true },
		OnDrop:      func(wire.Fate, int) {},
		Logger:      slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// startTestCluster starts a hub, and closes it after the test.
func startTestCluster(t testing.TB, config Config) *Cluster {
	c := New(config)
	t.Cleanup(func() {
		stop := make(chan struct{})
		close(stop)
		c.Close(stop)
	})
	return c
}

// testHeartbeat returns a heartbeat of another hub.
func testHeartbeat(instance string) *heartbeat {
	return &heartbeat{
		MinVersion: minVersion, MaxVersion: maxVersion, Name: "two", Instance: instance,
		Started: time.Now().Unix(), Now: time.Now().UnixMicro(), Window: minWindow,
	}
}
