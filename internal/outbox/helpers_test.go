package outbox

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/memorypipe"
	"github.com/sechlol/go-message-hub/wire"
)

// testTimeout is the maximum time that a test waits for an event.
const testTimeout = 30 * time.Second

// testWriter is the near end of the connection of a test.
type testWriter interface {
	Write(v [][]byte, wait bool) (n, pending int, err error)
	Close() error
}

// testTransport connects two ends.
type testTransport struct {
	name     string
	maxWrite int
	open     func(t testing.TB) (near testWriter, far net.Conn)
}

var (
	// memory accepts bytes that were not read, and need not wait, as TCP does.
	memory = testTransport{"memory", 0, func(testing.TB) (testWriter, net.Conn) {
		near, far := memorypipe.New()
		return memoryWriter{near}, far
	}}

	// pipe accepts bytes only when they are read, and always waits, as net.Conn does.
	pipe = testTransport{"pipe", MinProgress, func(testing.TB) (testWriter, net.Conn) {
		near, far := net.Pipe()
		return pipeWriter{near}, far
	}}

	// records accepts a vector at once and writes it in parts, as TLS does.
	records = testTransport{"records", 60 << 10, func(testing.TB) (testWriter, net.Conn) {
		near, far := memorypipe.New()
		return &recordWriter{conn: near}, far
	}}

	// messages must write the rest of what it has begun, up to the end of a segment, and need not
	// wait, as a WebSocket.
	messages = testTransport{"messages", 0, func(testing.TB) (testWriter, net.Conn) {
		near, far := memorypipe.New()
		return &messageWriter{conn: near}, far
	}}

	transports = []testTransport{memory, pipe, records, messages}
)

// onTransports runs a test over every transport.
func onTransports(t *testing.T, test func(t *testing.T, tr testTransport)) {
	for _, tr := range transports {
		t.Run(tr.name, func(t *testing.T) { test(t, tr) })
	}
}

type memoryWriter struct{ conn *memorypipe.Conn }

func (m memoryWriter) Close() error { return m.conn.Close() }

func (m memoryWriter) Write(v [][]byte, wait bool) (n, pending int, err error) {
	n, err = m.conn.WriteVector(v, wait)
	return n, 0, err
}

type pipeWriter struct{ conn net.Conn }

func (p pipeWriter) Close() error { return p.conn.Close() }

func (p pipeWriter) Write(v [][]byte, _ bool) (n, pending int, err error) {
	if len(v) == 0 {
		return 0, 0, nil
	}
	if n, err = p.conn.Write(v[0]); err != nil {
		pending = len(v[0]) - n
	}
	return n, pending, err
}

// recordWriter holds a vector as a copy, until it has written all of the copy.
type recordWriter struct {
	conn *memorypipe.Conn
	held []byte
}

func (r *recordWriter) Close() error { return r.conn.Close() }

func (r *recordWriter) Write(v [][]byte, wait bool) (n, pending int, err error) {
	if len(r.held) == 0 {
		if n, err := r.conn.WriteVector(nil, wait); n != 0 || err != nil {
			return 0, 0, err
		}
		r.held = slices.Concat(v...)
		return 0, len(r.held), nil
	}
	n, err = r.conn.WriteVector([][]byte{r.held[:min(len(r.held), 10_000)]}, true)
	r.held = r.held[n:]
	return n, len(r.held), err
}

// messageWriter takes whole segments of a vector. If the connection accepts only a part of the
// first of them, the rest is pending.
type messageWriter struct {
	conn *memorypipe.Conn
	rest []byte
}

func (m *messageWriter) Close() error { return m.conn.Close() }

func (m *messageWriter) Write(v [][]byte, wait bool) (n, pending int, err error) {
	if len(v) > 0 {
		if len(m.rest) > 0 {
			panic("a vector before the pending bytes are written")
		}
		if n, err = m.conn.WriteVector(v[:1], wait); n > 0 {
			m.rest = v[0][n:]
		}
		return n, len(m.rest), err
	}
	if len(m.rest) == 0 {
		_, err = m.conn.WriteVector(nil, wait)
		return 0, 0, err
	}
	n, err = m.conn.WriteVector([][]byte{m.rest}, wait)
	m.rest = m.rest[n:]
	return n, len(m.rest), err
}

// waitUntil polls for a condition that has no notification.
func waitUntil(t testing.TB, desc string, happened func() bool) {
	t.Helper()
	deadline := time.After(testTimeout)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timeout: %s", desc)
		}
	}
}

// used returns the bytes of a budget that are in use.
func used(b *body.Budget) int64 {
	now, _ := b.Used()
	return now
}

// sleep lets virtual time pass.
func sleep(d time.Duration) { <-time.After(d) }

// testBudget is a budget with the account of one connection.
type testBudget struct {
	*body.Budget
	account *body.Account
}

func newTestBudget(limit int64) testBudget {
	b := body.NewBudget(limit, 0)
	return testBudget{b, b.NewAccount(limit)}
}

// frame returns a frame of size bytes on the wire, filled with bytes that depend on their
// position and on the size.
func frame(size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint32(b, uint32(size-wire.LengthSize))
	for i := wire.LengthSize; i < size; i++ {
		b[i] = byte(i*7 + i>>8 + size*13)
	}
	if size > wire.LengthSize {
		b[wire.LengthSize] = byte(wire.TypeRelay)
	}
	return b
}

// testConn is an outbox with both ends of its connection. It records the events.
type testConn struct {
	Outbox
	near        testWriter
	far         net.Conn
	failed      chan error
	batchBudget testBudget // for the buffers of batches
	copyBudget  testBudget // for the blocks of copies

	mu      sync.Mutex
	written Counts
	dropped Counts
	offered Counts // offered, without the batches that were rejected as Closed
}

// newTestConn returns a testConn that closes the connection on a write error.
func newTestConn(t testing.TB, tr testTransport, config Config) *testConn {
	near, far := tr.open(t)
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	tc := &testConn{near: near, far: far, failed: make(chan error, 1), batchBudget: newTestBudget(64 << 20), copyBudget: newTestBudget(1 << 20)}
	tc.Init(tc, &config, tr.maxWrite)
	return tc
}

func (tc *testConn) Write(v [][]byte, wait bool) (n, pending int, err error) {
	return tc.near.Write(v, wait)
}

func (tc *testConn) OnWritten(written Counts) { tc.addCounts(&tc.written, written) }
func (tc *testConn) OnLost(dropped Counts)    { tc.addCounts(&tc.dropped, dropped) }

func (tc *testConn) OnWriteError(err error) {
	tc.failed <- err
	tc.Close()
}

// Close closes the outbox and the connection.
func (tc *testConn) Close() {
	tc.Outbox.Close()
	tc.CloseTransport()
}

// CloseTransport closes the connection.
func (tc *testConn) CloseTransport() { tc.near.Close() }

func (tc *testConn) addCounts(to *Counts, counts Counts) {
	tc.mu.Lock()
	defer tc.mu.Unlock()
	to.Add(counts)
}

func (tc *testConn) counts(c *Counts) Counts {
	tc.mu.Lock()
	defer tc.mu.Unlock()
	return *c
}

// newFlusher returns a Flusher for a sender.
func (tc *testConn) newFlusher() *Flusher { return &Flusher{CopyAccount: tc.copyBudget.account} }

// isMessage reports whether a frame of the tests carries a message.
func isMessage(frame []byte) bool {
	t, _ := wire.Split(frame)
	return t == wire.TypeRelay || t == wire.TypeDeliver
}

// countsOf returns the counts of all frames of a batch.
func countsOf(batch *Batch) Counts {
	s := segmentOf(batch)
	return Counts{s.frames, s.deliveries(), s.to - s.from}
}

// newBatch copies frames to a buffer. Its caller holds the reference.
func (tc *testConn) newBatch(frames ...[]byte) *Batch {
	data := slices.Concat(frames...)
	batch := &Batch{Buffer: tc.batchBudget.account.TryAcquire(len(data)), To: len(data), Frames: len(frames), Messages: isMessage(frames[0])}
	for _, f := range frames {
		if isMessage(f) != batch.Messages {
			panic("a batch of messages and other frames")
		}
	}
	copy(batch.Buffer.Bytes(), data)
	return batch
}

// offer offers frames as one batch, and releases its own reference.
func (tc *testConn) offer(fl *Flusher, frames ...[]byte) Outcome {
	batch := tc.newBatch(frames...)
	outcome := tc.Offer(batch, fl)
	if outcome != Closed {
		tc.addCounts(&tc.offered, countsOf(batch))
	}
	batch.Buffer.Release()
	return outcome
}

// loseConn ends the connection as a hub does after a connection loss.
func (tc *testConn) loseConn(t testing.TB) {
	t.Helper()
	if !tc.Detach() {
		t.Fatal("Detach failed")
	}
	tc.CloseTransport()
	tc.Wait()
}

// moveTo moves the outbox to another testConn.
func (tc *testConn) moveTo(t testing.TB, next *testConn, pos Position, giveUp bool, fl *Flusher) Omitted {
	t.Helper()
	if _, ok := tc.Resumable(pos); !ok {
		t.Fatalf("not resumable at %+v", pos)
	}
	omitted, ok := tc.Move(&next.Outbox, pos, giveUp, fl)
	if !ok {
		t.Fatal("Move failed: an outbox is closed")
	}
	return omitted
}

func (tc *testConn) queuedWeight() int { return tc.Progress().Queued }

// wantStream reads the expected bytes, which must come next.
func (tc *testConn) wantStream(t testing.TB, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(tc.far, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes arrived, or with different contents (%v)", n, len(want), err)
	}
}

// drainAndClose reads the remaining bytes, closes the connection, and checks that all memory
// is released and all frames are accounted for.
func (tc *testConn) drainAndClose(t testing.TB) {
	t.Helper()
	done := make(chan struct{})
	go func() { // ends with the connection
		defer close(done)
		io.Copy(io.Discard, tc.far)
	}()
	tc.Drain(nil)
	tc.Close()
	tc.Wait()
	<-done
	tc.wantAllReleased(t)
}

// wantAllReleased is for a closed connection without further offers.
func (tc *testConn) wantAllReleased(t testing.TB) {
	t.Helper()
	waitUntil(t, "all batches are released", func() bool { return used(tc.batchBudget.Budget) == 0 })
	if tc.Busy() || tc.isFlushing() {
		t.Error("the queue is not empty, or the flush goroutine runs")
	}
	total := tc.counts(&tc.written)
	total.Add(tc.counts(&tc.dropped))
	if want := tc.counts(&tc.offered); total != want {
		t.Errorf("written %+v and lost %+v, want a total of %+v", tc.counts(&tc.written), tc.counts(&tc.dropped), want)
	}
}

func (tc *testConn) Busy() bool { return tc.Progress().Busy }

func (tc *testConn) isFlushing() bool {
	tc.Outbox.mu.Lock()
	defer tc.Outbox.mu.Unlock()
	return tc.flushing
}

// usedBlocks returns the number of blocks in use.
func (tc *testConn) usedBlocks() int {
	return int(used(tc.copyBudget.Budget)) / body.Capacity(blockSize)
}
