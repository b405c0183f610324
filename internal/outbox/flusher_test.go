package outbox

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/memorypipe"
)

// pendingOffer is an OfferWait in a goroutine of its own, and its outcome.
type pendingOffer struct {
	flusher *Flusher
	batch   *Batch
	cancel  chan struct{}
	outcome chan Outcome
}

// startOfferWait starts an OfferWait and returns when it has ended or waits. It must be called
// in a bubble.
func (tc *testConn) startOfferWait(f []byte) *pendingOffer {
	e := &pendingOffer{flusher: tc.newFlusher(), batch: tc.newBatch(f), cancel: make(chan struct{}), outcome: make(chan Outcome, 1)}
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

func (e *pendingOffer) isWaiting() bool { return len(e.outcome) == 0 }

func TestOutbox_FullBlocksSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, pipe, Config{MaxBytes: 10_000})
		first := tc.startOfferWait(frame(9_000))
		second := tc.startOfferWait(frame(9_001)) // the queue is below its limit: queued whole
		third := tc.startOfferWait(frame(9_002))
		if first.isWaiting() || second.isWaiting() || !third.isWaiting() {
			t.Fatalf("waiting: %v, %v, %v, want only the third", first.isWaiting(), second.isWaiting(), third.isWaiting())
		}
		tc.wantStream(t, frame(9_000))
		synctest.Wait()
		if third.isWaiting() {
			t.Fatal("the third waits although there is room")
		}
		for _, e := range []*pendingOffer{first, second, third} {
			if got := <-e.outcome; got != Queued {
				t.Errorf("outcome %v, want %v", got, Queued)
			}
		}
		tc.wantStream(t, slices.Concat(frame(9_001), frame(9_002)))
		tc.drainAndClose(t)
	})
}

func TestOutbox_UnblocksInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, pipe, Config{MaxBytes: 10_000})
		tc.startOfferWait(frame(9_000))
		tc.startOfferWait(frame(9_001))
		var waiting []*pendingOffer
		var want []byte
		for i := range 20 { // small batches too: none of them overtakes
			f := frame([]int{100, 9_000}[i%2] + i)
			waiting = append(waiting, tc.startOfferWait(f))
			want = append(want, f...)
		}
		tc.wantStream(t, slices.Concat(frame(9_000), frame(9_001), want))
		synctest.Wait()
		for i, e := range waiting {
			if e.isWaiting() {
				t.Errorf("sender %d still waits", i)
			}
		}
		tc.drainAndClose(t)
	})
}

func TestFlusher_OfferWait_CancelledBatchNotSent(t *testing.T) {
	for _, index := range []int{0, 1, 2} {
		synctest.Test(t, func(t *testing.T) {
			tc := newTestConn(t, pipe, Config{MaxBytes: 10_000})
			tc.startOfferWait(frame(20_000))
			waiting := []*pendingOffer{tc.startOfferWait(frame(1_000)), tc.startOfferWait(frame(8_000)), tc.startOfferWait(frame(1_001))}
			cancelled := waiting[index]
			close(cancelled.cancel)
			synctest.Wait()
			if cancelled.isWaiting() || <-cancelled.outcome != Blocked {
				t.Fatal("a cancelled send did not return Blocked")
			}
			tc.addCounts(&tc.offered, Counts{-1, -1, -cancelled.batch.To})
			want := frame(20_000)
			for _, e := range slices.Delete(waiting, index, index+1) {
				want = append(want, frame(e.batch.To)...)
			}
			tc.wantStream(t, want)
			tc.drainAndClose(t)
		})
	}
}

func TestFlusher_OfferWait_CancelAfterQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, pipe, Config{MaxBytes: 10_000})
		cancel := make(chan struct{})
		close(cancel)
		fl, batch := tc.newFlusher(), tc.newBatch(frame(100))
		tc.addCounts(&tc.offered, Counts{1, 1, 100})
		if got := fl.OfferWait(&tc.Outbox, batch, cancel); got != Queued {
			t.Errorf("outcome %v, want %v", got, Queued)
		}
		batch.Buffer.Release()
		fl.Reset()
		tc.wantStream(t, frame(100))
		tc.drainAndClose(t)
	})
}

func TestOutbox_CloseUnblocksSenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, pipe, Config{MaxBytes: 10_000})
		tc.startOfferWait(frame(20_000))
		waiting := []*pendingOffer{tc.startOfferWait(frame(100)), tc.startOfferWait(frame(101))}
		tc.Close()
		synctest.Wait()
		for _, e := range waiting {
			if e.isWaiting() || <-e.outcome != Closed {
				t.Error("a sender to a closed outbox must get Closed")
			}
		}
		tc.Wait()
		tc.wantAllReleased(t)
	})
}

// TestFlusher_Wait_ManyReceivers offers to all receivers first, and then waits for the full
// ones.
func TestFlusher_Wait_ManyReceivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast, slow, slower := newTestConn(t, pipe, Config{MaxBytes: 1 << 20}),
			newTestConn(t, pipe, Config{MaxBytes: 10_000}), newTestConn(t, pipe, Config{MaxBytes: 10_000})
		conns := []*testConn{slow, fast, slower}
		fl := fast.newFlusher()
		for i, want := range []Outcome{Queued, Blocked} {
			for _, tc := range conns {
				if got := tc.offer(fl, frame(10_000+i)); got != want && tc != fast {
					t.Errorf("offer %d: %v, want %v", i, got, want)
				}
			}
		}
		waited := make(chan bool, 1)
		go func() { waited <- fl.Wait(nil) }() // ends when the slow receivers have accepted enough
		fast.wantStream(t, slices.Concat(frame(10_000), frame(10_001)))
		slow.wantStream(t, frame(10_000))
		synctest.Wait()
		if len(waited) > 0 {
			t.Fatal("Wait has returned while one receiver is full")
		}
		slower.wantStream(t, frame(10_000))
		if !<-waited {
			t.Error("Wait returned false without a stop")
		}
		fl.Reset()
		for _, tc := range conns {
			tc.drainAndClose(t)
		}
	})
}

func TestFlusher_Wait_UsableAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full, other := newTestConn(t, pipe, Config{MaxBytes: 10_000}), newTestConn(t, pipe, Config{MaxBytes: 10_000})
		fl := full.newFlusher()
		full.offer(fl, frame(10_000))
		full.offer(fl, frame(10_001))
		if fl.Wait(closedChan()) {
			t.Fatal("Wait returned true after a stop")
		}
		for range 2 {
			other.offer(fl, frame(10_000))
		}
		waited := make(chan bool, 1)
		go func() { waited <- fl.Wait(nil) }()                          // ends when other has room
		full.wantStream(t, slices.Concat(frame(10_000), frame(10_001))) // queues the abandoned send
		synctest.Wait()
		if len(waited) > 0 {
			t.Fatal("a send of an earlier Wait ended this Wait")
		}
		other.wantStream(t, frame(10_000))
		if !<-waited {
			t.Error("Wait returned false without a stop")
		}
		fl.Reset()
		full.drainAndClose(t)
		other.drainAndClose(t)
	})
}

// TestFlusher_Wait_AlreadyUnblocked queues a blocked send before Wait is called.
func TestFlusher_Wait_AlreadyUnblocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, pipe, Config{MaxBytes: 10_000})
		fl := tc.newFlusher()
		for i := range 3 {
			tc.offer(fl, frame(10_000))
			if tc.offer(fl, frame(10_001)) != Blocked {
				t.Fatal("the queue is not full")
			}
			fl.Flush()
			if i < 2 {
				tc.wantStream(t, slices.Concat(frame(10_000), frame(10_001)))
				synctest.Wait()
				if !fl.Wait(nil) {
					t.Error("Wait returned false without a stop")
				}
			}
		}
		waited := make(chan bool, 1)
		go func() { waited <- fl.Wait(nil) }() // ends when the first batch is written
		synctest.Wait()
		if len(waited) > 0 {
			t.Fatal("Wait has not waited")
		}
		tc.wantStream(t, frame(10_000))
		if !<-waited {
			t.Error("Wait returned false without a stop")
		}
		fl.Reset()
		tc.drainAndClose(t)
	})
}

func TestFlusher_Reset_ReleasesSpareBlock(t *testing.T) {
	tc := newTestConn(t, pipe, Config{MaxBytes: 1 << 20})
	fl := tc.newFlusher()
	for range 2 {
		tc.offer(fl, frame(100))
		tc.offer(fl, frame(100)) // there is room in the block: another block is spare
		if n := tc.usedBlocks(); n != 2 {
			t.Errorf("%d blocks, want the block of the queue and the spare block", n)
		}
		fl.Reset()
		tc.wantStream(t, slices.Concat(frame(100), frame(100)))
		waitUntil(t, "the blocks are given back", func() bool { return tc.usedBlocks() == 0 })
	}
	tc.drainAndClose(t)
}

// TestFlusher_CoalesceDelayPreventsDirectWrite offers twice within CoalesceDelay.
func TestFlusher_CoalesceDelayPreventsDirectWrite(t *testing.T) {
	tc := newTestConn(t, memory, Config{MaxBytes: 1 << 20, CoalesceDelay: time.Hour})
	fl := tc.newFlusher()
	for i, direct := range []bool{true, false} {
		tc.offer(fl, frame(100))
		if got := tc.coalesceDelayPassed(); got != direct {
			t.Errorf("offer %d is written directly: %v, want %v", i+1, got, direct)
		}
		fl.Flush()
		tc.wantStream(t, frame(100))
		waitUntil(t, "the queue is empty", func() bool { return !tc.Progress().Busy })
	}
	fl.Reset()
	tc.drainAndClose(t)
}

// TestFlusher_Flush_DoesNotWaitForPending writes directly to a connection that accepts a part of a
// frame and must write the rest: the sender does not wait, and the frame can no longer be
// retracted.
func TestFlusher_Flush_DoesNotWaitForPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, messages, Config{MaxBytes: 1 << 20})
		const accepted = 30
		tc.far.(*memorypipe.Conn).SetReadBuffer(accepted)
		fl := tc.newFlusher()
		options := [3]Options{}
		events := [3]eventCounts{}
		for i := range options {
			options[i] = Options{Events: &events[i], Expires: time.Now().Add(time.Hour).UnixNano()}
			batch := tc.newBatch(frame(2000))
			batch.Options = &options[i]
			tc.Offer(batch, fl)
			tc.addCounts(&tc.offered, countsOf(batch))
			batch.Buffer.Release()
		}
		fl.Flush()
		if n := tc.Progress().Sent; n != accepted {
			t.Errorf("Flush has written %d bytes, want %d", n, accepted)
		}
		synctest.Wait() // the flush goroutine waits for the peer
		for i, wantQueued := range []bool{true, false, false} {
			if queued := tc.Retract(&options[i]); queued != wantQueued || events[i][EventExpired].Load() == 1 == wantQueued {
				t.Errorf("frame %d: still queued: %v, expired: %d times", i, queued, events[i][EventExpired].Load())
			}
		}
		tc.addCounts(&tc.offered, Counts{-2, -2, -4000})
		tc.wantStream(t, frame(2000))
		synctest.Wait()
		if n := events[0][EventWritten].Load(); n != 1 {
			t.Errorf("the first frame was written %d times", n)
		}
		fl.Reset()
		tc.drainAndClose(t)
	})
}
