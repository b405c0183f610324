package socket

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// stallTimeout is the stall timeout of the tests in virtual time.
const stallTimeout = 10 * time.Second

// testConn is an outbox with the other end of its connection, and a handler that records its
// events.
type testConn struct {
	*Conn
	far         net.Conn
	failed      chan error
	account     *body.Account // of the handler; nil: no account
	batchBudget testBudget    // for the buffers of batches
	copyBudget  testBudget    // for the blocks of copies

	mu      sync.Mutex
	written outbox.Counts
	dropped outbox.Counts
	offered outbox.Counts // offered, without the batches that were rejected as Closed
}

// newTestConn returns a testConn whose handler closes the connection on a write error.
func newTestConn(t testing.TB, tr testTransport, config Config) *testConn {
	near, far := tr.open(t)
	tc := &testConn{far: far, failed: make(chan error, 1), batchBudget: newTestBudget(64 << 20), copyBudget: newTestBudget(1 << 20)}
	config.MaxLength, config.FrameTimeout = 8<<20, testTimeout
	tc.Conn = New(near, &config, tc)
	return tc
}

func (tc *testConn) Account() *body.Account          { return tc.account }
func (tc *testConn) Done() <-chan struct{}           { return nil }
func (tc *testConn) OnWritten(written outbox.Counts) { tc.addCounts(&tc.written, written) }
func (tc *testConn) OnLost(dropped outbox.Counts)    { tc.addCounts(&tc.dropped, dropped) }

func (tc *testConn) OnWriteError(err error) {
	tc.failed <- err
	tc.Close()
}

func (tc *testConn) addCounts(to *outbox.Counts, counts outbox.Counts) {
	tc.mu.Lock()
	defer tc.mu.Unlock()
	to.Add(counts)
}

func (tc *testConn) counts(c *outbox.Counts) outbox.Counts {
	tc.mu.Lock()
	defer tc.mu.Unlock()
	return *c
}

// newFlusher returns a Flusher for a sender.
func (tc *testConn) newFlusher() *outbox.Flusher {
	return &outbox.Flusher{CopyAccount: tc.copyBudget.account}
}

// isMessage reports whether a frame of the tests carries a message.
func isMessage(frame []byte) bool {
	t, _ := wire.Split(frame)
	return t == wire.TypeRelay || t == wire.TypeDeliver
}

// countsOf returns the counts of all frames of a batch.
func countsOf(batch *outbox.Batch) outbox.Counts {
	counts := outbox.Counts{Frames: batch.Frames, Bytes: batch.To - batch.From}
	if batch.Messages {
		counts.Deliveries = batch.Frames
	}
	return counts
}

// newBatch copies frames to a buffer. Its caller holds the reference.
func (tc *testConn) newBatch(frames ...[]byte) *outbox.Batch {
	data := slices.Concat(frames...)
	batch := &outbox.Batch{Buffer: tc.batchBudget.account.TryAcquire(len(data)), To: len(data), Frames: len(frames), Messages: isMessage(frames[0])}
	for _, f := range frames {
		if isMessage(f) != batch.Messages {
			panic("a batch of messages and other frames")
		}
	}
	copy(batch.Buffer.Bytes(), data)
	return batch
}

// offer offers frames as one batch, and releases its own reference.
func (tc *testConn) offer(fl *outbox.Flusher, frames ...[]byte) outbox.Outcome {
	batch := tc.newBatch(frames...)
	outcome := tc.Offer(batch, fl)
	if outcome != outbox.Closed {
		tc.addCounts(&tc.offered, countsOf(batch))
	}
	batch.Buffer.Release()
	return outcome
}

// fillQueue offers frames until the queue is full and the flush goroutine is writing the first
// of them.
func (tc *testConn) fillQueue(t testing.TB, fl *outbox.Flusher, f []byte) (n int) {
	t.Helper()
	for n = 1; tc.queuedWeight() < tc.Reader.base.config.Outbox.MaxBytes; n++ {
		if outcome := tc.offer(fl, f); outcome != outbox.Queued {
			t.Fatalf("offer %d to a queue of %d bytes: %v", n, tc.queuedWeight(), outcome)
		}
		fl.Flush()
	}
	return n - 1
}

// loseConn ends the connection as a hub does after a connection loss.
func (tc *testConn) loseConn(t testing.TB) {
	t.Helper()
	if !tc.Detach() {
		t.Fatal("Detach failed")
	}
	tc.CloseTransport()
	tc.Outbox.Wait()
}

// moveTo moves the outbox to another testConn.
func (tc *testConn) moveTo(t testing.TB, next *testConn, pos outbox.Position, giveUp bool, fl *outbox.Flusher) outbox.Omitted {
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
	if tc.Busy() {
		t.Error("the queue is not empty")
	}
	total := tc.counts(&tc.written)
	total.Add(tc.counts(&tc.dropped))
	if want := tc.counts(&tc.offered); total != want {
		t.Errorf("written %+v and lost %+v, want a total of %+v", tc.counts(&tc.written), tc.counts(&tc.dropped), want)
	}
}

func (tc *testConn) Busy() bool { return tc.Progress().Busy }

// pendingOffer is an OfferWait in a goroutine of its own, and its outcome.
type pendingOffer struct {
	flusher *outbox.Flusher
	batch   *outbox.Batch
	cancel  chan struct{}
	outcome chan outbox.Outcome
}

// startOfferWait starts an OfferWait and returns when it has ended or waits. It must be called
// in a bubble.
func (tc *testConn) startOfferWait(f []byte) *pendingOffer {
	e := &pendingOffer{flusher: tc.newFlusher(), batch: tc.newBatch(f), cancel: make(chan struct{}), outcome: make(chan outbox.Outcome, 1)}
	tc.addCounts(&tc.offered, countsOf(e.batch))
	go func() { // ends when the batch is queued, cancelled or lost
		outcome := e.flusher.OfferWait(&tc.Outbox, e.batch, e.cancel)
		e.batch.Buffer.Release()
		e.flusher.Reset()
		e.outcome <- outcome
	}()
	synctest.Wait()
	return e
}

// eventCounts counts the frames of each event, over all batches.
type eventCounts [outbox.EventUnacked + 1]atomic.Int64

func (c *eventCounts) HandleEvent(_ int, event outbox.Event, _, frames int) {
	c[event].Add(int64(frames))
}

// eventRecorder records the events of one batch.
type eventRecorder struct {
	mayExpire bool // the batch can expire

	mu     sync.Mutex
	events [][]outbox.Event // by frame
}

func (rec *eventRecorder) HandleEvent(_ int, event outbox.Event, first, frames int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for i := first; i < first+frames; i++ {
		rec.events[i] = append(rec.events[i], event)
	}
}

// count returns how often an event of a frame was reported so far.
func (rec *eventRecorder) count(frame int, event outbox.Event) (n int) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, p := range rec.events[frame] {
		if p == event {
			n++
		}
	}
	return n
}
