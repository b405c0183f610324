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

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// TestOutbox_Resumable_AcceptsAllReceived loses connections in the middle of many small
// frames, also within TLS records that were written together. A peer can claim to have read
// all frames that have arrived, but no frame that was never passed to a write.
func TestOutbox_Resumable_AcceptsAllReceived(t *testing.T) {
	const pieces, each, size = 100, 100, 100
	onTransports(t, func(t *testing.T, tr testTransport) {
		for round := range 10 {
			tc := newTestConn(t, tr, Config{Outbox: outbox.Config{MaxBytes: 64 << 20}})
			if nc, ok := unwrap(tc.transport().Conn()).(*net.TCPConn); ok {
				nc.SetWriteBuffer(4 << 10)
			}
			tc.EnableAcks(64<<20, true)
			started, received := make(chan bool), make(chan uint64)
			go func() { // ends with the connection
				n := uint64(0)
				for {
					if _, _, err := readFrame(tc.far); err != nil {
						break
					}
					if n++; n == uint64(1+round*37) {
						close(started)
					}
				}
				received <- n
			}()
			fl := tc.newFlusher()
			batch := tc.newBatch(slices.Repeat([][]byte{frame(size)}, each)...)
			batch.Reliable, batch.Options = true, &outbox.Options{Overflow: outbox.OverflowForce}
			for range pieces {
				tc.Offer(batch, fl)
			}
			batch.Buffer.Release()
			fl.Reset()
			waitFor(t, "some frames", started)
			tc.loseConn(t)
			read := waitFor(t, "the end", received)
			beyond := tc.AckStats().Written + outbox.MinProgress/size + 10
			if _, ok := tc.Resumable(outbox.Position{Read: beyond}); ok {
				t.Errorf("%d frames were written, and a peer that has read %d was accepted", tc.AckStats().Written, beyond)
			}
			if _, ok := tc.Resumable(outbox.Position{Read: read}); !ok {
				t.Errorf("%d frames were written, and a peer that has read the %d received frames was rejected", tc.AckStats().Written, read)
			}
			next := newTestConn(t, pipe, Config{Outbox: outbox.Config{MaxBytes: 64 << 20}})
			next.EnableAcks(64<<20, true)
			tc.moveTo(t, next, outbox.Position{Read: read}, false, fl)
			next.Detach() // before anything is written to it
			fl.Reset()
			next.loseConn(t)
			if _, ok := next.Resumable(outbox.Position{Read: read}); !ok {
				t.Errorf("a peer was rejected with its position of the previous connection")
			}
			tc.Close()
			next.Close()
		}
	})
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
	expiries  []int64 // when frames offered since the last awaitExpiry expire, in Unix nanoseconds

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
func (c *flakyClient) choosePosition(prev *testConn) (pos outbox.Position, giveUp bool) {
	received := c.received.Load()
	if !c.skipSupported {
		return outbox.Position{Acked: received, Read: received}, false
	}
	acked := c.acked.Load()
	pos = outbox.Position{Acked: acked + c.random.Uint64N(received-acked+1), Read: received}
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
	next := newTestConn(c.t, tcp, Config{Outbox: outbox.Config{MaxBytes: 64 << 10, StallTimeout: testTimeout}})
	next.EnableAcks(c.window, c.skipSupported)
	fl := next.newFlusher()
	var pos outbox.Position
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
func (c *flakyClient) receive(tc *testConn, pos outbox.Position, random *rand.Rand, done chan struct{}) {
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
func (c *flakyClient) offer(fl *outbox.Flusher) {
	c.t.Helper()
	if c.random.IntN(5) == 0 {
		batch := c.conn.newBatch(wire.AppendPing(nil, 1))
		if c.random.IntN(2) == 0 {
			batch.Options = &outbox.Options{Overflow: outbox.OverflowPriority}
		}
		c.conn.Offer(batch, fl)
		batch.Buffer.Release()
		return
	}
	var frames [][]byte
	for range 1 + c.random.IntN(4) {
		size := c.random.IntN(3 << 10)
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
		rec := &eventRecorder{events: make([][]outbox.Event, len(frames))}
		c.recorders = append(c.recorders, rec)
		batch.Options = &outbox.Options{Events: rec}
		if c.random.IntN(2) == 0 {
			rec.mayExpire = true
			batch.Options.Expires = time.Now().Add(time.Duration(c.random.IntN(20)) * time.Millisecond).UnixNano()
			c.expiries = append(c.expiries, batch.Options.Expires)
			c.mu.Lock()
			for i := range frames {
				c.mayExpire[c.lastSent-uint64(i)] = true
			}
			c.mu.Unlock()
		}
	}
	switch c.conn.Offer(batch, fl) {
	case outbox.AlreadyExpired:
		batch.Options.Events.HandleEvent(0, outbox.EventExpired, 0, len(frames))
	case outbox.TooLarge: // no frame of the batch was queued
		c.mu.Lock()
		for i := range frames {
			c.large[c.lastSent-uint64(i)] = true
		}
		c.mu.Unlock()
		if batch.Options != nil {
			batch.Options.Events.HandleEvent(0, outbox.EventTooLarge, 0, len(frames))
		}
	}
	batch.Buffer.Release()
}

// awaitExpiry waits until a random one of the batches that can expire has expired.
func (c *flakyClient) awaitExpiry() {
	c.t.Helper()
	if len(c.expiries) == 0 {
		return
	}
	expires := c.expiries[c.random.IntN(len(c.expiries))]
	c.expiries = c.expiries[:0]
	waitUntil(c.t, "a batch has expired", func() bool { return time.Now().UnixNano() > expires })
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
				c.awaitExpiry()
				c.connect()
			}
		}
		waitUntil(t, "all frames have arrived", func() bool { return c.isComplete() || t.Failed() })
		c.disconnect()
		if _, ok := c.conn.Resumable(outbox.Position{Acked: c.received.Load(), Read: c.received.Load()}); !ok {
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
	unreachable, large := rec.count(i, outbox.EventUnreachable), rec.count(i, outbox.EventTooLarge)
	return unreachable+large == 1 && (unreachable == 0 || c.skipSupported) && (large == 0 || c.limitsFrames) &&
		rec.count(i, outbox.EventAcked)+rec.count(i, outbox.EventExpired)+rec.count(i, outbox.EventUnacked) == 0
}

// isPlausible reports whether the events of a frame are possible: the frame was acknowledged,
// or it expired, and then it is known whether it was written before.
func (rec *eventRecorder) isPlausible(i int, skipSupported bool) bool {
	written, acked, expired, unacked := rec.count(i, outbox.EventWritten), rec.count(i, outbox.EventAcked), rec.count(i, outbox.EventExpired), rec.count(i, outbox.EventUnacked)
	switch {
	case acked == 1:
		return written == 1 && expired == 0 && unacked == 0
	case unacked == 1:
		return rec.mayExpire && skipSupported && written == 1 && expired == 0
	default:
		return rec.mayExpire && written == 0 && expired == 1 && acked == 0 && unacked == 0
	}
}
