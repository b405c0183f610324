package relay

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	originID = 7 // of every testOrigin

	testReportTimeout    = time.Minute
	testMaxReportTimeout = time.Hour
)

// inVirtualTime runs a test in virtual time, with a relay.
func inVirtualTime(t *testing.T, configure func(*Config), test func(t *testing.T, tr *testRelay)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newTestRelay(t, configure)) })
}

// sleep lets virtual time pass, and waits until all other goroutines are idle.
func sleep(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// testRelay is a Relay that records what it calls its Config for.
type testRelay struct {
	*Relay
	origin  *testOrigin
	dests   map[uint64]Destination
	budget  *body.Budget // of all batches and copies
	account *body.Account
	timers  sync.WaitGroup

	// Of the calls of Config.OnDrop and Config.OnForbidden.
	dropCalls int
	drops     map[wire.Fate]int
	forbidden []uint64

	mu     sync.Mutex // guards traces
	traces []Trace    // of OnTrace
}

// newTestRelay returns a testRelay without destinations. At the end of the test, it checks that
// all timers have ended and all memory is released.
func newTestRelay(t testing.TB, configure func(*Config)) *testRelay {
	const limit = 64 << 20
	tr := &testRelay{
		origin: &testOrigin{t: t, reports: make(map[uint64][]wire.Fate)},
		dests:  make(map[uint64]Destination), drops: make(map[wire.Fate]int), budget: body.NewBudget(limit, 0),
	}
	tr.account = tr.budget.NewAccount(limit)
	config := Config{
		Find: func(ids []uint64, found []Destination) {
			for i, id := range ids {
				found[i] = tr.dests[id]
			}
		},
		ReportTimeout: testReportTimeout, MaxReportTimeout: testMaxReportTimeout,
		OnDrop:      func(fate wire.Fate, n int) { tr.dropCalls++; tr.drops[fate] += n },
		OnForbidden: func(_ Origin, to uint64) { tr.forbidden = append(tr.forbidden, to) },
		Traces:      TraceConfig{SampleRate: 1, Timeout: testReportTimeout, Timers: &tr.timers},
		Timers:      &tr.timers,
	}
	if configure != nil {
		configure(&config)
	}
	tr.Relay = New(config)
	t.Cleanup(func() {
		tr.timers.Wait()
		if used, _ := tr.budget.Used(); used != 0 {
			t.Errorf("%d bytes are not released", used)
		}
	})
	return tr
}

// traceAll makes tr trace one of rate messages. It must be called before any message is sent.
func (tr *testRelay) traceAll(rate int) {
	tr.Relay.traces.config.SampleRate = rate
	tr.Relay.traces.config.OnTrace = func(trace Trace) bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.traces = append(tr.traces, trace)
		return true
	}
}

// takeTraces returns the traces since the last call.
func (tr *testRelay) takeTraces() []Trace {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	taken := tr.traces
	tr.traces = nil
	return taken
}

// send sends frames as one batch, and resets the Sender.
func (tr *testRelay) send(opts Options, ids []uint64, frames ...[]byte) (blocked bool) {
	var s Sender
	s.Begin(tr.Relay, tr.account)
	blocked = tr.sendBy(&s, opts, ids, frames...)
	s.Reset()
	return blocked
}

// sendBy sends frames as one batch, whose first message has seq 1.
func (tr *testRelay) sendBy(s *Sender, opts Options, ids []uint64, frames ...[]byte) (blocked bool) {
	batch := tr.newBatch(frames...)
	defer batch.Buffer.Release()
	blocked, underWay := s.Send(&Messages{Origin: tr.origin, Options: opts, FirstSeq: 1}, append(s.IDBuf(), ids...), batch)
	return blocked || underWay
}

// newBatch copies frames to a buffer, whose reference the caller holds.
func (tr *testRelay) newBatch(frames ...[]byte) outbox.Batch {
	data := slices.Concat(frames...)
	buffer := tr.account.TryAcquire(len(data))
	return outbox.Batch{Buffer: buffer, To: copy(buffer.Bytes(), data), Frames: len(frames), Messages: true}
}

// track returns a Tracker of messages with seqs from 1.
func (tr *testRelay) track(opts Options, messages int, dests ...Destination) *Tracker {
	return tr.newTracker(&Messages{Origin: tr.origin, Options: opts, FirstSeq: 1}, messages, dests)
}

// sendOptions are options of SENDs.
func sendOptions(level wire.Level, overflow wire.Overflow) Options {
	return Options{IsSend: true, Wire: wire.MakeOptions(level, overflow)}
}

// levelOptions are options of SENDs that request reports.
func levelOptions(level wire.Level) Options { return sendOptions(level, wire.OverflowBlock) }

// deliver returns a DELIVER of the origin.
func deliver(seq uint64, body []byte) []byte {
	return wire.AppendDeliver(nil, &wire.Deliver{Sender: originID, Seq: seq, Body: body})
}

// numbered returns n DELIVERs with seqs from 1.
func numbered(n int) (frames [][]byte) {
	for seq := range n {
		frames = append(frames, deliver(uint64(seq+1), bytes.Repeat([]byte{byte(seq)}, 10+seq)))
	}
	return frames
}

// repeated returns n times fate.
func repeated(fate wire.Fate, n int) []wire.Fate { return slices.Repeat([]wire.Fate{fate}, n) }

// testOrigin records the REPORTs that it gets.
type testOrigin struct {
	t       testing.TB
	canSend func(to uint64) bool

	mu      sync.Mutex
	reports map[uint64][]wire.Fate // by seq
}

func (o *testOrigin) ID() uint64                    { return originID }
func (o *testOrigin) CanSend() func(to uint64) bool { return o.canSend }

func (o *testOrigin) SendReports(frames []byte, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for frame := range wire.Frames(frames) {
		n--
		_, payload := wire.Split(frame)
		r, err := wire.ParseReport(payload)
		if err != nil || o.reports[r.Seq] != nil {
			o.t.Errorf("REPORT %+v (%v), before it %v", r, err, o.reports[r.Seq])
		}
		for _, fate := range r.Fates {
			o.reports[r.Seq] = append(o.reports[r.Seq], wire.Fate(fate))
		}
	}
	if n != 0 {
		o.t.Errorf("%d REPORTs more announced than sent", n)
	}
}

// report returns the fates of the report on a message, or nil if there is none.
func (o *testOrigin) report(seq uint64) []wire.Fate {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reports[seq]
}

// wantReport checks the report on a message. Without fates, there must be none yet.
func (o *testOrigin) wantReport(seq uint64, want ...wire.Fate) {
	o.t.Helper()
	if got := o.report(seq); !slices.Equal(got, want) {
		o.t.Errorf("the report on message %d has the fates %v, want %v", seq, got, want)
	}
}

// stubDest is a Destination without an outbox. The test reports the events.
type stubDest struct {
	version     int
	onOffer     func(b *outbox.Batch) outbox.Outcome // nil: the batch is queued
	stillQueued bool                                 // what Retract returns
	retracts    int
	verdicts    Verdicts
}

func (d *stubDest) Version() int { return d.version }

func (d *stubDest) Offer(b *outbox.Batch, _ *outbox.Flusher) outbox.Outcome {
	if d.onOffer == nil {
		return outbox.Queued
	}
	return d.onOffer(b)
}

func (d *stubDest) Retract(*outbox.Options) (stillQueued bool) {
	d.retracts++
	return d.stillQueued
}

func (d *stubDest) Verdicts() *Verdicts { return verdictsOf(d.version, &d.verdicts) }

// verdictsOf returns v for version 2 alone.
func verdictsOf(version int, v *Verdicts) *Verdicts {
	if version == 1 {
		return nil
	}
	return v
}

// outboxDest is a Destination with an outbox.
type outboxDest struct {
	outbox.Outbox
	version  int
	conn     testConn
	verdicts Verdicts
}

// newOutboxDest returns an outboxDest whose outbox is full at maxBytes.
func newOutboxDest(t *testing.T, version, maxBytes int) *outboxDest {
	d := &outboxDest{version: version, conn: testConn{accepts: make(chan struct{}, 1), closed: make(chan struct{})}}
	d.conn.accepts <- struct{}{}
	d.Init(&d.conn, &outbox.Config{MaxBytes: maxBytes}, 0)
	if version == 2 {
		d.EnableAcks(1<<20, true)
	}
	t.Cleanup(func() { d.close() })
	return d
}

func (d *outboxDest) Version() int        { return d.version }
func (d *outboxDest) Verdicts() *Verdicts { return verdictsOf(d.version, &d.verdicts) }

// fill offers a frame, which stays queued while the connection accepts no data.
func (d *outboxDest) fill(tr *testRelay) {
	fl := outbox.Flusher{CopyAccount: tr.account}
	batch := tr.newBatch(wire.AppendRelayDelivery(nil, []byte("fills the queue")))
	d.Offer(&batch, &fl)
	batch.Buffer.Release()
	fl.Reset()
}

// close closes the outbox and the connection, and waits until all events are reported.
func (d *outboxDest) close() {
	d.Close()
	d.conn.close()
	d.Wait()
}

// testConn is an outbox.Conn that records the frames, while it accepts data.
type testConn struct {
	accepts   chan struct{} // holds one value while the connection accepts data
	closed    chan struct{}
	closeOnce sync.Once

	mu      sync.Mutex
	written []byte
}

var errClosed = errors.New("closed")

func (c *testConn) OnWritten(outbox.Counts) {}
func (c *testConn) OnLost(outbox.Counts)    {}
func (c *testConn) OnWriteError(error)      {}
func (c *testConn) close()                  { c.closeOnce.Do(func() { close(c.closed) }) }

// block makes the connection accept no data, until resume is called.
func (c *testConn) block() { <-c.accepts }

func (c *testConn) resume() { c.accepts <- struct{}{} }

func (c *testConn) Write(v [][]byte, wait bool) (n, pending int, err error) {
	select {
	case <-c.accepts:
	default:
		if !wait {
			return 0, 0, nil
		}
		select {
		case <-c.accepts:
		case <-c.closed:
			return 0, 0, errClosed
		}
	}
	c.accepts <- struct{}{}
	c.mu.Lock()
	defer c.mu.Unlock()
	data := slices.Concat(v...)
	c.written = append(c.written, data...)
	return len(data), 0, nil
}

// wantWritten checks the frames that were written since the last call.
func (c *testConn) wantWritten(t *testing.T, want ...[]byte) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !bytes.Equal(c.written, slices.Concat(want...)) {
		t.Errorf("%d bytes are written, or with other contents, want %d frames of %d bytes", len(c.written), len(want), len(slices.Concat(want...)))
	}
	c.written = nil
}
