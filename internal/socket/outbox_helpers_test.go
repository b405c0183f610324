package socket

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// testConn is an outbox with its other end, and what it has told its owner.
type testConn struct {
	*Conn
	far         net.Conn
	failed      chan error
	account     *body.Account // of the owner; nil: nobody is charged
	batchBudget testBudget    // what the pieces are drawn from
	copyBudget  testBudget    // what the copies are drawn from

	mu      sync.Mutex
	written Counts
	dropped Counts
	offered Counts // what offer has offered and was not told to be gone
}

// newTestConn makes a station whose owner closes the connection when it has failed.
func newTestConn(t testing.TB, tr testTransport, config Config) *testConn {
	near, far := tr.open(t)
	tc := &testConn{far: far, failed: make(chan error, 1), batchBudget: newTestBudget(64 << 20), copyBudget: newTestBudget(1 << 20)}
	config.MaxLength, config.FrameTimeout = 8<<20, testTimeout
	tc.Conn = New(near, &config, tc)
	return tc
}

func (tc *testConn) Account() *body.Account   { return tc.account }
func (tc *testConn) Done() <-chan struct{}    { return nil }
func (tc *testConn) OnWritten(written Counts) { tc.addCounts(&tc.written, written) }
func (tc *testConn) OnLost(dropped Counts)    { tc.addCounts(&tc.dropped, dropped) }

func (tc *testConn) OnWriteError(err error) {
	tc.failed <- err
	tc.Close()
}

func (tc *testConn) addCounts(to *Counts, counts Counts) {
	tc.mu.Lock()
	defer tc.mu.Unlock()
	to.add(counts)
}

func (tc *testConn) counts(c *Counts) Counts {
	tc.mu.Lock()
	defer tc.mu.Unlock()
	return *c
}

// newFlusher returns what a sender offers with.
func (tc *testConn) newFlusher() *Flusher { return &Flusher{CopyAccount: tc.copyBudget.account} }

// newBatch puts frames into a buffer. Its caller holds the reference.
func (tc *testConn) newBatch(frames ...[]byte) *Batch {
	data := slices.Concat(frames...)
	batch := &Batch{Buffer: tc.batchBudget.account.TryAcquire(len(data)), To: len(data), Frames: len(frames)}
	for _, f := range frames {
		if t, _ := wire.Split(f); t == wire.TypeRelay {
			batch.Deliveries++
		}
	}
	copy(batch.Buffer.Bytes(), data)
	return batch
}

// offer offers frames as one piece, of which it keeps nothing.
func (tc *testConn) offer(fl *Flusher, frames ...[]byte) Outcome {
	batch := tc.newBatch(frames...)
	outcome := tc.Offer(batch, fl)
	if outcome != Closed {
		tc.addCounts(&tc.offered, Counts{batch.Frames, batch.Deliveries, batch.To})
	}
	batch.Buffer.Release()
	return outcome
}

// fillQueue offers frames until the queue is full, and sees to it that the flusher has
// the first of them in hand.
func (tc *testConn) fillQueue(t testing.TB, fl *Flusher, f []byte) (n int) {
	t.Helper()
	for n = 1; tc.queuedWeight() < tc.Reader.base.config.MaxOutboxBytes; n++ {
		if outcome := tc.offer(fl, f); outcome != Queued {
			t.Fatalf("offer %d to a queue of %d bytes: %v", n, tc.queuedWeight(), outcome)
		}
		fl.Flush()
	}
	return n - 1
}

// loseConn ends the connection as a hub does that finds it lost.
func (tc *testConn) loseConn(t testing.TB) {
	t.Helper()
	if !tc.Detach() {
		t.Fatal("cannot be detached")
	}
	tc.CloseTransport()
	tc.Outbox.Wait()
}

// moveTo goes on at another station.
func (tc *testConn) moveTo(t testing.TB, next *testConn, pos Position, giveUp bool, fl *Flusher) Omitted {
	t.Helper()
	if _, ok := tc.Resumable(pos); !ok {
		t.Fatalf("cannot go on at %+v", pos)
	}
	omitted, ok := tc.Move(&next.Outbox, pos, giveUp, fl)
	if !ok {
		t.Fatal("closed meanwhile")
	}
	return omitted
}

func (tc *testConn) queuedWeight() int {
	tc.Outbox.mu.Lock()
	defer tc.Outbox.mu.Unlock()
	return tc.weight
}

// wantStream reads what must come, and nothing else before it.
func (tc *testConn) wantStream(t testing.TB, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(tc.far, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes came, and not as they should (%v)", n, len(want), err)
	}
}

// drainAndClose reads what is left, closes, and looks whether everything is given back
// and accounted for.
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

// wantAllReleased is for a connection that is closed, and that nobody offers to.
func (tc *testConn) wantAllReleased(t testing.TB) {
	t.Helper()
	waitUntil(t, "all pieces are given back", func() bool { return used(tc.batchBudget.Budget) == 0 })
	if tc.Busy() || tc.isFlushing() {
		t.Error("something is still in the queue, or a flusher runs")
	}
	total := tc.counts(&tc.written)
	total.add(tc.counts(&tc.dropped))
	if want := tc.counts(&tc.offered); total != want {
		t.Errorf("sent %+v and lost %+v, want %+v together", tc.counts(&tc.written), tc.counts(&tc.dropped), want)
	}
}

func (tc *testConn) Busy() bool { return tc.Progress().Busy }

func (tc *testConn) isFlushing() bool {
	tc.Outbox.mu.Lock()
	defer tc.Outbox.mu.Unlock()
	return tc.flushing
}

// usedBlocks returns how many blocks are held.
func (tc *testConn) usedBlocks() int {
	return int(used(tc.copyBudget.Budget)) / body.Capacity(blockSize)
}
