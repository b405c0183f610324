package socket

import (
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// eventRecorder records the events of one batch.
type eventRecorder struct {
	mayExpire bool // the batch can expire

	mu     sync.Mutex
	events [][]Event // by frame
}

func (rec *eventRecorder) HandleEvent(_ int, event Event, first, frames int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for i := first; i < first+frames; i++ {
		rec.events[i] = append(rec.events[i], event)
	}
}

// count returns how often an event of a frame was reported so far.
func (rec *eventRecorder) count(frame int, event Event) (n int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, p := range rec.events[frame] {
		if p == event {
			n++
		}
	}
	return n
}

// flakyClient is a peer whose connections are lost. It is sent DELIVER frames numbered from 1,
// with other frames between them that are not reliable.
type flakyClient struct {
	t             testing.TB
	random        *rand.Rand
	window        int
	skipSupported bool // it supports SKIP

	conn      *testConn
	lastSent  uint64 // number of the last offered DELIVER
	recorders []*eventRecorder

	received atomic.Uint64 // frames received, with SKIPs
	acked    atomic.Uint64 // frames acknowledged
	done     chan struct{} // closed when no more frames arrive on this connection

	mu           sync.Mutex
	mayExpire    map[uint64]bool // the DELIVERs that can expire
	large        map[uint64]bool // the DELIVERs above lowMaxFrame
	lastReceived uint64          // number of the last received DELIVER
	maxGivenUp   int             // how many DELIVERs can be missing because they were given up
	limitsFrames bool            // it accepts only lowMaxFrame at times
}

// lowMaxFrame is the maximum size of a frame that a flakyClient accepts on some connections,
// in bytes.
const lowMaxFrame = 2000

// choosePosition chooses the position at which a flakyClient resumes after a connection loss,
// and whether the unfinished message is given up.
func (c *flakyClient) choosePosition(prev *testConn) (pos Position, giveUp bool) {
	received := c.received.Load()
	if !c.skipSupported {
		return Position{received, received}, false
	}
	acked := c.acked.Load()
	pos = Position{acked + c.random.Uint64N(received-acked+1), received}
	c.acked.Store(pos.Acked)
	giveUp = prev.WriteStarted(received) && c.random.IntN(2) == 0
	if giveUp {
		c.mu.Lock()
		c.maxGivenUp++
		c.mu.Unlock()
	}
	return pos, giveUp
}

// connect opens the first or the next connection.
func (c *flakyClient) connect() {
	c.t.Helper()
	prev := c.conn
	next := newTestConn(c.t, tcp, Config{MaxOutboxBytes: 64 << 10, StallTimeout: testTimeout})
	next.EnableAcks(c.window, c.skipSupported)
	fl := next.newFlusher()
	var pos Position
	if prev != nil {
		var giveUp bool
		pos, giveUp = c.choosePosition(prev)
		if c.limitsFrames && c.random.IntN(3) == 0 {
			next.SetMaxFrame(lowMaxFrame)
		}
		prev.moveTo(c.t, next, pos, giveUp, fl)
	}
	fl.Reset()
	c.conn, c.done = next, make(chan struct{})
	// receive ends with the connection.
	go c.receive(next, pos, rand.New(rand.NewPCG(c.random.Uint64(), 1)), c.done)
}

// receive reads frames, checks their order, and acknowledges them now and then, and at least
// when half of the window is unacknowledged.
func (c *flakyClient) receive(tc *testConn, pos Position, random *rand.Rand, done chan struct{}) {
	defer close(done)
	unackedBytes := 0
	resends := pos.Read - pos.Acked
	for {
		kind, payload, err := readFrame(tc.far)
		if err != nil {
			return
		}
		if !kind.IsReliable() {
			continue
		}
		if resends > 0 {
			if resends--; kind != wire.TypeSkip {
				c.t.Errorf("a received frame is sent again as a frame of type %#x", kind)
			}
			continue
		}
		if kind == wire.TypeDeliver && !c.checkOrder(payload) {
			return
		}
		received := c.received.Load() + 1
		c.received.Store(received)
		unackedBytes += len(payload)
		if unackedBytes >= c.window/2 || random.IntN(4) == 0 {
			unackedBytes = 0
			if !tc.Acknowledge(received) {
				c.t.Errorf("the acknowledgement of received frame %d was rejected", received)
			}
			c.acked.Store(received)
		}
		if tc.Acknowledge(received + 1_000_000) {
			c.t.Error("the acknowledgement of an unsent frame was accepted")
		}
	}
}

// checkOrder reports whether a DELIVER is in order: after the last one, with no frame missing
// between them but frames that can expire or be given up.
func (c *flakyClient) checkOrder(payload []byte) bool {
	d, err := wire.ParseDeliver(payload)
	c.mu.Lock()
	defer c.mu.Unlock()
	ok := err == nil && d.Seq > c.lastReceived
	for n := c.lastReceived + 1; ok && n < d.Seq; n++ {
		if c.mayExpire[n] || c.limitsFrames && c.large[n] {
			continue
		}
		c.maxGivenUp--
		ok = c.maxGivenUp >= 0
	}
	if !ok {
		c.t.Errorf("frame %d arrived after %d: %v", d.Seq, c.lastReceived, err)
	}
	c.lastReceived = d.Seq
	return ok
}

func readFrame(r io.Reader) (wire.Type, []byte, error) {
	b := make([]byte, wire.LengthSize)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, err
	}
	size, err := wire.Size(b, 8<<20)
	if err != nil {
		return 0, nil, err
	}
	frame := append(b, make([]byte, size-len(b))...)
	if _, err := io.ReadFull(r, frame[len(b):]); err != nil {
		return 0, nil, err
	}
	kind, payload := wire.Split(frame)
	return kind, payload, nil
}

// disconnect ends the connection as a hub does after a connection loss.
func (c *flakyClient) disconnect() {
	if !c.conn.Detach() {
		c.t.Fatal("Detach failed")
	}
	c.conn.far.(*net.TCPConn).SetLinger(c.random.IntN(2) - 1)
	c.conn.far.Close()
	c.conn.CloseTransport()
	c.conn.Outbox.Wait()
	<-c.done
}

// offer offers a few frames of any size.
func (c *flakyClient) offer(fl *Flusher) {
	c.t.Helper()
	if c.random.IntN(5) == 0 {
		batch := c.conn.newBatch(wire.AppendPing(nil, 1))
		if c.random.IntN(2) == 0 {
			batch.Options = &Options{Overflow: OverflowPriority}
		}
		c.conn.Offer(batch, fl)
		batch.Buffer.Release()
		return
	}
	var frames [][]byte
	for range 1 + c.random.IntN(4) {
		size := c.random.IntN(3 * maxCopy)
		if c.random.IntN(20) == 0 {
			size = 100_000
		}
		c.lastSent++
		if wire.DeliverLen(size) > lowMaxFrame {
			c.mu.Lock()
			c.large[c.lastSent] = true
			c.mu.Unlock()
		}
		frames = append(frames, wire.AppendDeliver(nil, &wire.Deliver{Seq: c.lastSent, Body: make([]byte, size)}))
	}
	batch := c.conn.newBatch(frames...)
	batch.Reliable, batch.Messages = true, true
	if c.random.IntN(2) == 0 {
		rec := &eventRecorder{events: make([][]Event, len(frames))}
		c.recorders = append(c.recorders, rec)
		batch.Options = &Options{Events: rec}
		if c.random.IntN(2) == 0 {
			rec.mayExpire = true
			batch.Options.Expires = time.Now().Add(time.Duration(c.random.IntN(20)) * time.Millisecond).UnixNano()
			c.mu.Lock()
			for i := range frames {
				c.mayExpire[c.lastSent-uint64(i)] = true
			}
			c.mu.Unlock()
		}
	}
	switch c.conn.Offer(batch, fl) {
	case AlreadyExpired:
		batch.Options.Events.HandleEvent(0, EventExpired, 0, len(frames))
	case TooLarge: // no frame of the batch was queued
		c.mu.Lock()
		for i := range frames {
			c.large[c.lastSent-uint64(i)] = true
		}
		c.mu.Unlock()
		if batch.Options != nil {
			batch.Options.Events.HandleEvent(0, EventTooLarge, 0, len(frames))
		}
	}
	batch.Buffer.Release()
}

// TestOutbox_Move_RandomConnectionLoss loses one connection after the other, at random
// moments, with a window that is full most of the time.
func TestOutbox_Move_RandomConnectionLoss(t *testing.T) {
	for i, window := range []int{1, 10_000, 1 << 20, 1, 10_000, 1 << 20, 10_000, 1 << 20} {
		seed := rand.Uint64()
		t.Logf("window %d, seed %d", window, seed)
		c := &flakyClient{t: t, random: rand.New(rand.NewPCG(seed, 0)), window: window, skipSupported: i < 3 || i >= 6, limitsFrames: i >= 6, mayExpire: make(map[uint64]bool), large: make(map[uint64]bool)}
		c.connect()
		for range 60 {
			fl := c.conn.newFlusher()
			for range c.random.IntN(20) {
				c.offer(fl)
				if !fl.Wait(c.done) {
					break
				}
			}
			fl.Reset()
			if c.random.IntN(3) == 0 {
				c.disconnect()
				c.offer(fl) // without a connection
				fl.Reset()
				time.Sleep(time.Duration(c.random.IntN(20)) * time.Millisecond) // lets frames expire
				c.connect()
			}
		}
		waitUntil(t, "all frames have arrived", func() bool { return c.isComplete() || t.Failed() })
		c.disconnect()
		if _, ok := c.conn.Resumable(Position{c.received.Load(), c.received.Load()}); !ok {
			t.Error("a peer that has received all frames cannot resume")
		}
		for _, rec := range c.recorders {
			for i := range rec.events {
				if rec.endedOtherwise(i, c) {
					continue
				}
				if !rec.isPlausible(i, c.skipSupported) {
					t.Fatalf("frame %d of a batch, expires %v, skips %v: %v", i, rec.mayExpire, c.skipSupported, rec.events[i])
				}
			}
		}
		c.conn.Close()
	}
}

// isComplete reports whether all frames have arrived that were not dropped.
func (c *flakyClient) isComplete() bool {
	return !c.conn.Busy() && c.conn.AckStats().Written == c.received.Load()
}

// endedOtherwise reports whether a frame ended with exactly one EventUnreachable or
// EventTooLarge, where these are possible, and with no other final event.
func (rec *eventRecorder) endedOtherwise(i int, c *flakyClient) bool {
	unreachable, large := rec.count(i, EventUnreachable), rec.count(i, EventTooLarge)
	return unreachable+large == 1 && (unreachable == 0 || c.skipSupported) && (large == 0 || c.limitsFrames) &&
		rec.count(i, EventAcked)+rec.count(i, EventExpired)+rec.count(i, EventUnacked) == 0
}

// isPlausible reports whether the events of a frame are possible: the frame was acknowledged,
// or it expired, and then it is known whether it was written before.
func (rec *eventRecorder) isPlausible(i int, skipSupported bool) bool {
	written, acked, expired, unacked := rec.count(i, EventWritten), rec.count(i, EventAcked), rec.count(i, EventExpired), rec.count(i, EventUnacked)
	switch {
	case acked == 1:
		return written == 1 && expired == 0 && unacked == 0
	case unacked == 1:
		return rec.mayExpire && skipSupported && written == 1 && expired == 0
	default:
		return rec.mayExpire && written == 0 && expired == 1 && acked == 0 && unacked == 0
	}
}

// offerUnread returns a testConn whose peer reads nothing, with one offered batch and the
// recorder of its events.
func offerUnread(t *testing.T, window int, frames ...[]byte) (*testConn, *eventRecorder) {
	t.Helper()
	tc := newTestConn(t, tcp, Config{MaxOutboxBytes: 64 << 10})
	tc.EnableAcks(window, false)
	rec := &eventRecorder{events: make([][]Event, len(frames))}
	batch := tc.newBatch(frames...)
	batch.Reliable, batch.Options = true, &Options{Events: rec}
	fl := tc.newFlusher()
	tc.Offer(batch, fl)
	fl.Reset()
	batch.Buffer.Release()
	return tc, rec
}

func TestOutbox_CloseReportsUnacked(t *testing.T) {
	tc, rec := offerUnread(t, 1<<20, frame(100), frame(100), frame(100))
	waitUntil(t, "written", func() bool { return rec.count(2, EventWritten) == 1 })
	if !tc.Acknowledge(1) {
		t.Error("an acknowledgement of written frames was rejected")
	}
	tc.Close()
	tc.Outbox.Wait()
	tc.Acknowledge(3) // by a reader that does not yet know that the connection is closed
	if rec.count(0, EventAcked) != 1 || rec.count(1, EventAcked) != 0 || rec.count(0, EventUnacked) != 0 || rec.count(1, EventUnacked) != 1 || rec.count(2, EventUnacked) != 1 {
		t.Errorf("events: %v", rec.events)
	}
	if n := used(tc.batchBudget.Budget); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

func TestOutbox_FullWindowStopsWriting(t *testing.T) {
	tc, first := offerUnread(t, 250, frame(100), frame(100))
	waitUntil(t, "written", func() bool { return first.count(1, EventWritten) == 1 })
	fl := tc.newFlusher()
	tc.offer(fl, frame(100))
	fl.Reset()
	waitUntil(t, "the window is full", func() bool {
		tc.Outbox.mu.Lock()
		defer tc.Outbox.mu.Unlock()
		return tc.retransmit.windowBlocked && !tc.flushing
	})
	tc.Acknowledge(1)
	waitUntil(t, "written", func() bool { return !tc.Progress().Busy })
	tc.Close()
}

// TestOutbox_OverflowPriority offers frames that the peer must receive although it
// acknowledges nothing.
func TestOutbox_OverflowPriority(t *testing.T) {
	tc := newTestConn(t, tcp, Config{MaxOutboxBytes: 64 << 10})
	tc.EnableAcks(250, false)
	fl := tc.newFlusher()
	offerReliable := func(n byte) []byte {
		f := wire.AppendDeliver(nil, &wire.Deliver{Seq: uint64(n), Body: make([]byte, 100)})
		batch := tc.newBatch(f)
		batch.Reliable = true
		tc.Offer(batch, fl)
		fl.Abandon()
		batch.Buffer.Release()
		return f
	}
	offerPriority := func(n uint64) []byte {
		f := wire.AppendPing(nil, n)
		batch := tc.newBatch(f)
		batch.Options = &Options{Overflow: OverflowPriority}
		tc.Offer(batch, fl)
		fl.Abandon()
		batch.Buffer.Release()
		return f
	}
	tc.wantStream(t, slices.Concat(offerReliable(1), offerReliable(2)))
	last := offerReliable(3) // beyond the window
	for n := range uint64(3) {
		tc.wantStream(t, offerPriority(n))
	}
	first, second := offerPriority(4), offerPriority(5)
	tc.wantStream(t, append(first, second...))
	tc.Acknowledge(2)
	tc.wantStream(t, last)
	tc.Close()
}

// TestOutbox_DropUnacked_CountsForWindow checks that dropped frames still count against the
// window, because their bookkeeping takes memory.
func TestOutbox_DropUnacked_CountsForWindow(t *testing.T) {
	tc := newTestConn(t, tcp, Config{MaxOutboxBytes: 64 << 10})
	tc.EnableAcks(20*segmentCost, false)
	fl := tc.newFlusher()
	go io.Copy(io.Discard, tc.far) // ends with the connection
	for range 100 {
		batch := tc.newBatch(wire.AppendDeliver(nil, &wire.Deliver{}))
		batch.Reliable, batch.Options = true, &Options{Events: &eventRecorder{events: make([][]Event, 1)}}
		tc.Offer(batch, fl)
		fl.Abandon()
		batch.Buffer.Release()
		tc.DropUnacked()
	}
	waitUntil(t, "the window is full", func() bool { return !tc.isFlushing() })
	tc.DropUnacked()
	if k := tc.AckStats(); k.Written > 20 || k.HeldBytes != 0 {
		t.Errorf("written and not acknowledged: %+v", k)
	}
	tc.Close()
}

// TestOutbox_Move_ToClosedOutbox checks that a failed Move leaves all frames where they are.
func TestOutbox_Move_ToClosedOutbox(t *testing.T) {
	tc, next := newTestConn(t, tcp, Config{MaxOutboxBytes: 4 << 10}), newTestConn(t, tcp, Config{MaxOutboxBytes: 4 << 10})
	tc.EnableAcks(1<<20, false)
	next.EnableAcks(1<<20, false)
	tc.Detach()
	tc.CloseTransport()
	tc.Outbox.Wait()
	fl := tc.newFlusher()
	for range 3 {
		batch := tc.newBatch(frame(5000))
		batch.Reliable = true
		tc.Offer(batch, fl)
		batch.Buffer.Release()
	}
	if _, ok := tc.Resumable(Position{0, 0}); !ok {
		t.Fatal("not resumable")
	}
	next.Close()
	if _, ok := tc.Move(&next.Outbox, Position{0, 0}, false, fl); ok {
		t.Error("Move to a closed outbox succeeded")
	}
	tc.Close()
	if !fl.Wait(nil) {
		t.Error("a blocked send still waits")
	}
	if n := used(tc.batchBudget.Budget); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

// TestOutbox_DropUnacked checks that dropped frames cannot be sent again, and that their
// events are still reported.
func TestOutbox_DropUnacked(t *testing.T) {
	tc := newTestConn(t, tcp, Config{MaxOutboxBytes: 64 << 10})
	tc.EnableAcks(1<<20, false)
	rec := &eventRecorder{events: make([][]Event, 2)}
	batch := tc.newBatch(frame(5000), frame(5000))
	batch.Reliable, batch.Options = true, &Options{Events: rec}
	fl := tc.newFlusher()
	tc.Offer(batch, fl)
	fl.Reset()
	batch.Buffer.Release()
	waitUntil(t, "written", func() bool { return rec.count(1, EventWritten) == 1 })
	if k := tc.AckStats(); k != (AckStats{Written: 2, HeldBytes: 2 * len(frame(5000))}) {
		t.Errorf("AckStats: %+v", k)
	}
	tc.DropUnacked()
	waitUntil(t, "the memory is released", func() bool { return used(tc.batchBudget.Budget) == 0 })
	tc.Acknowledge(1)
	if rec.count(0, EventAcked) != 1 {
		t.Error("an acknowledgement of dropped frames was rejected")
	}
	if k := tc.AckStats(); k != (AckStats{Written: 2, Acked: 1}) {
		t.Errorf("AckStats: %+v", k)
	}
	tc.Detach()
	tc.CloseTransport()
	tc.Outbox.Wait()
	if _, ok := tc.Resumable(Position{1, 1}); ok {
		t.Error("dropped frames can be sent again")
	}
	if _, ok := tc.Resumable(Position{2, 2}); !ok {
		t.Error("a peer that has received all frames cannot resume")
	}
	tc.Close()
}

// TestOutbox_Move_DropsUnreliableFrames has a reply to a request of the old connection blocked
// between two reliable frames: the reply is dropped, and the reliable frames are not.
func TestOutbox_Move_DropsUnreliableFrames(t *testing.T) {
	tc, next := newTestConn(t, tcp, Config{MaxOutboxBytes: 4 << 10}), newTestConn(t, tcp, Config{MaxOutboxBytes: 64 << 10})
	tc.EnableAcks(1, false) // one written frame fills the window
	next.EnableAcks(1<<20, false)
	fl := tc.newFlusher()
	var recs []*eventRecorder
	for i, reliable := range []bool{true, true, true, false, true} {
		rec := &eventRecorder{events: make([][]Event, 1)}
		batch := tc.newBatch(frame(5000))
		batch.Reliable, batch.Options = reliable, &Options{Events: rec}
		tc.Offer(batch, fl)
		fl.Abandon()
		batch.Buffer.Release()
		if i == 0 {
			waitUntil(t, "written", func() bool { return rec.count(0, EventWritten) == 1 })
		}
		recs = append(recs, rec)
	}
	tc.Detach()
	tc.CloseTransport()
	tc.Outbox.Wait()
	tc.moveTo(t, next, Position{1, 1}, false, fl)
	fl.Abandon()
	for i, rec := range recs[1:] {
		if i == 2 {
			waitUntil(t, "dropped", func() bool { return rec.count(0, EventLost) == 1 })
			continue
		}
		waitUntil(t, "written", func() bool { return rec.count(0, EventWritten) == 1 })
	}
	if n := recs[3].count(0, EventWritten); n != 0 {
		t.Error("the reply was written")
	}
	tc.Close()
	next.Close()
}

// TestOutbox_DropUnacked_AfterResumable calls DropUnacked between Resumable and Move.
func TestOutbox_DropUnacked_AfterResumable(t *testing.T) {
	tc, next := newTestConn(t, tcp, Config{MaxOutboxBytes: 64 << 10}), newTestConn(t, tcp, Config{MaxOutboxBytes: 64 << 10})
	tc.EnableAcks(1<<20, false)
	next.EnableAcks(1<<20, false)
	rec := &eventRecorder{events: make([][]Event, 1)}
	batch := tc.newBatch(frame(5000))
	batch.Reliable, batch.Options = true, &Options{Events: rec}
	fl := tc.newFlusher()
	tc.Offer(batch, fl)
	fl.Reset()
	batch.Buffer.Release()
	waitUntil(t, "written", func() bool { return rec.count(0, EventWritten) == 1 })
	tc.Detach()
	tc.CloseTransport()
	tc.Outbox.Wait()
	if _, ok := tc.Resumable(Position{0, 0}); !ok {
		t.Fatal("unacknowledged frames cannot be sent again")
	}
	tc.DropUnacked()
	tc.Move(&next.Outbox, Position{0, 0}, false, fl)
	fl.Reset()
	waitUntil(t, "written again", func() bool { return next.Progress().Sent > 0 })
	if n := rec.count(0, EventWritten); n != 1 {
		t.Errorf("EventWritten was reported %d times", n)
	}
	tc.Close()
	next.Close()
}

func TestOutbox_OverflowPolicies(t *testing.T) {
	tc := newTestConn(t, tcp, Config{MaxOutboxBytes: 4 << 10})
	tc.EnableAcks(1<<20, false)
	tc.Detach() // nothing is written
	fl := tc.newFlusher()
	defer fl.Reset()
	offer := func(overflow Overflow, sender any) (Outcome, *eventRecorder) {
		rec := &eventRecorder{events: make([][]Event, 1)}
		batch := tc.newBatch(frame(3000))
		defer batch.Buffer.Release()
		batch.Reliable, batch.Options = true, &Options{Events: rec, Overflow: overflow, Sender: sender}
		return tc.Offer(batch, fl), rec
	}
	want := func(desc string, got, want Outcome) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", desc, got, want)
		}
	}
	o, first := offer(OverflowDropOldest, "me")
	want("room", o, Queued)
	o, second := offer(OverflowDropOldest, "me")
	want("room", o, Queued)
	o, _ = offer(OverflowReject, "me")
	want("refuse", o, Full)
	o, _ = offer(OverflowDropOldest, "you")
	want("nothing of one's own to displace", o, Full)
	o, _ = offer(OverflowDropOldest, "me")
	want("displace", o, Queued)
	if first.count(0, EventDropped) != 1 || second.count(0, EventDropped) != 0 {
		t.Error("the dropped batch was not the oldest")
	}
	o, _ = offer(OverflowForce, nil)
	want("insist", o, Queued)
	o, blocked := offer(OverflowBlock, nil)
	want("park", o, Blocked)
	tc.Close()
	if blocked.count(0, EventLost) != 1 || second.count(0, EventLost) != 1 {
		t.Error("no event of the frames lost with the connection")
	}
	if n := used(tc.batchBudget.Budget); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}
