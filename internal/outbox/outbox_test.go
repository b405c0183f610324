package outbox

import (
	"bytes"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

func TestOutbox_CopiesSmallReferencesLarge(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		for _, test := range []struct {
			size   int
			copied bool
		}{{wire.LengthSize, true}, {100, true}, {maxCopy, true}, {maxCopy + 1, false}, {100_000, false}} {
			tc := newTestConn(t, tr, Config{MaxBytes: 1 << 20})
			fl, batch := tc.newFlusher(), tc.newBatch(frame(test.size))
			tc.addCounts(&tc.offered, countsOf(batch))
			tc.Offer(batch, fl) // not flushed yet
			if test.copied {
				clear(batch.Buffer.Bytes()) // a copy does not change
			}
			batch.Buffer.Release()
			if held := used(tc.batchBudget.Budget) > 0; held == test.copied {
				t.Errorf("a batch of %d bytes is held by reference: %v", test.size, held)
			}
			if blocks := tc.usedBlocks(); (blocks == 1) != test.copied {
				t.Errorf("a batch of %d bytes lies in %d blocks", test.size, blocks)
			}
			fl.Reset()
			tc.wantStream(t, frame(test.size))
			tc.drainAndClose(t)
		}
	})
}

func TestOutbox_CopiesShareBlocks(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		tc := newTestConn(t, tr, Config{MaxBytes: 1 << 20})
		fl := tc.newFlusher()
		var want []byte
		for range 2*blockSize/100 - 1 { // two full blocks
			tc.offer(fl, frame(100))
			want = append(want, frame(100)...)
		}
		if n := tc.usedBlocks(); n > 3 { // one of them is spare
			t.Errorf("%d bytes lie in %d blocks", len(want), n)
		}
		tc.offer(fl, frame(maxCopy+1)) // by reference: the next frame needs another block
		tc.offer(fl, frame(100))
		want = slices.Concat(want, frame(maxCopy+1), frame(100))
		fl.Reset()
		tc.wantStream(t, want)
		tc.drainAndClose(t)
	})
}

func TestOutbox_ReferencesWithoutCopyMemory(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		tc := newTestConn(t, tr, Config{MaxBytes: 1 << 20})
		exhausted := newTestBudget(1)
		defer exhausted.account.TryAcquire(1).Release()
		fl := &Flusher{CopyAccount: exhausted.account}
		var want []byte
		for i := range 100 {
			tc.offer(fl, frame(100+i))
			want = append(want, frame(100+i)...)
		}
		fl.Reset()
		tc.wantStream(t, want)
		tc.drainAndClose(t)
	})
}

// TestOutbox_CountsAfterCloseInMidFrame closes the connection after the peer has accepted a
// part of a batch, with more batches queued and blocked behind it.
func TestOutbox_CountsAfterCloseInMidFrame(t *testing.T) {
	for _, consumed := range []int{0, 1, 4, 999, 1000, 1001, 2500, 6999, 7001, 8004, 9999, 10_000, 10_001, 12_345} {
		tc := newTestConn(t, pipe, Config{MaxBytes: 20_000})
		first, second, third := tc.newFlusher(), tc.newFlusher(), tc.newFlusher()
		tc.offer(first, slices.Repeat([][]byte{frame(1000)}, 6)...)
		other := frame(1000)
		other[wire.LengthSize] = 9 // carries no message
		tc.offer(first, other, other, []byte{0, 0, 0, 1, 9})
		tc.offer(first, frame(1000), frame(995))
		tc.offer(first, frame(100))
		tc.offer(first, frame(20_000))
		first.Reset()
		for _, fl := range []*Flusher{second, third} {
			if tc.offer(fl, frame(100)) != Blocked {
				t.Fatal("the queue is not full")
			}
		}
		if _, err := io.ReadFull(tc.far, make([]byte, consumed)); err != nil {
			t.Fatal(err)
		}
		tc.Close()
		for _, fl := range []*Flusher{second, third} {
			if !fl.Wait(nil) {
				t.Error("stopped")
			}
			fl.Reset()
		}
		tc.Wait()
		tc.wantAllReleased(t)
		if got := tc.counts(&tc.written).Bytes; got != consumed {
			t.Errorf("%d bytes were written, %d read", got, consumed)
		}
	}
}

func closedChan() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func TestOutbox_ClosedRejectsOffers(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		tc := newTestConn(t, tr, Config{MaxBytes: 1 << 20})
		tc.Close()
		tc.Close()
		fl := tc.newFlusher()
		for _, size := range []int{10, 10_000} {
			if got := tc.offer(fl, frame(size)); got != Closed {
				t.Errorf("a closed outbox says %v", got)
			}
		}
		batch := tc.newBatch(frame(10))
		if got := fl.OfferWait(&tc.Outbox, batch, nil); got != Closed {
			t.Errorf("a closed outbox says %v", got)
		}
		batch.Buffer.Release()
		if !fl.Wait(nil) || tc.Drain(nil) {
			t.Error("Wait must return true and Drain false on a closed outbox")
		}
		fl.Reset()
		tc.Wait()
		tc.wantAllReleased(t)
		select {
		case err := <-tc.failed:
			t.Errorf("OnWriteError was called on Close: %v", err)
		default:
		}
	})
}

func TestOutbox_ProgressAndAccounts(t *testing.T) {
	tc := newTestConn(t, pipe, Config{MaxBytes: 1 << 20})
	if p := tc.Progress(); p != (Progress{}) || len(tc.Accounts(nil)) != 0 {
		t.Errorf("initial progress: %+v", p)
	}
	fl := tc.newFlusher()
	tc.offer(fl, frame(40_000))
	tc.offer(fl, frame(40_000))
	tc.offer(fl, frame(100))
	if p := tc.Progress(); p != (Progress{Busy: true, Queued: 80_100 + 2*segmentCost}) {
		t.Errorf("progress with queued frames: %+v", p)
	}
	want := []*body.Account{tc.batchBudget.account, tc.copyBudget.account}
	if got := tc.Accounts(nil); !slices.Equal(got, want) {
		t.Errorf("%d accounts, want the accounts of the batches and of the copies", len(got))
	}
	fl.Reset()
	tc.wantStream(t, slices.Concat(frame(40_000), frame(40_000)))
	waitUntil(t, "the first frames are counted", func() bool { return tc.Progress() == Progress{Sent: 80_000, Busy: true, Queued: 100} })
	if got := tc.Accounts(nil); !slices.Equal(got, want[1:]) {
		t.Errorf("%d accounts, want the account of the copies", len(got))
	}
	tc.wantStream(t, frame(100))
	waitUntil(t, "the queue is empty", func() bool { return tc.Progress() == Progress{Sent: 80_100, DrainCount: 1} })
	tc.drainAndClose(t)
}

// TestOutbox_OverflowPriority offers frames that the peer must receive although it
// acknowledges nothing.
func TestOutbox_OverflowPriority(t *testing.T) {
	tc := newTestConn(t, memory, Config{MaxBytes: 64 << 10})
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

func TestOutbox_OverflowPolicies(t *testing.T) {
	tc := newTestConn(t, memory, Config{MaxBytes: 4 << 10})
	const me, you = 1, 2 // senders
	tc.EnableAcks(1<<20, false)
	tc.Detach() // nothing is written
	fl := tc.newFlusher()
	defer fl.Reset()
	offer := func(overflow Overflow, sender uint64) (Outcome, *eventRecorder) {
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
	o, first := offer(OverflowDropOldest, me)
	want("room", o, Queued)
	o, second := offer(OverflowDropOldest, me)
	want("room", o, Queued)
	o, _ = offer(OverflowReject, me)
	want("reject", o, Full)
	o, _ = offer(OverflowDropOldest, you)
	want("drop oldest without an own batch", o, Full)
	o, _ = offer(OverflowDropOldest, me)
	want("drop oldest", o, Queued)
	if first.count(0, EventDropped) != 1 || second.count(0, EventDropped) != 0 {
		t.Error("the dropped batch was not the oldest")
	}
	o, _ = offer(OverflowForce, 0)
	want("force", o, Queued)
	o, blocked := offer(OverflowBlock, 0)
	want("block", o, Blocked)
	tc.Close()
	if blocked.count(0, EventLost) != 1 || second.count(0, EventLost) != 1 {
		t.Error("no event of the frames lost with the connection")
	}
	if n := used(tc.batchBudget.Budget); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

func TestOutbox_KeepsOrder_InMemory(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		tc, random := newTestConn(t, tr, Config{MaxBytes: 100_000}), rand.New(rand.NewPCG(1, 1))
		received := make(chan []byte)
		go func() { // ends with the connection
			data, _ := io.ReadAll(tc.far)
			received <- data
		}()
		fl := tc.newFlusher()
		var want []byte
		for range 300 {
			f := frame(4 + random.IntN(1<<(3+random.IntN(14))))
			want = append(want, f...)
			tc.offer(fl, f)
			if random.IntN(3) == 0 {
				fl.Wait(nil)
			}
		}
		if !fl.Wait(nil) || !tc.Drain(nil) {
			t.Error("frames are left in the queue")
		}
		fl.Reset()
		tc.Close()
		if got := <-received; !bytes.Equal(got, want) {
			t.Errorf("%d bytes arrived, or with different contents (want %d bytes)", len(got), len(want))
		}
		tc.Wait()
		tc.wantAllReleased(t)
	})
}

func TestOutbox_ZeroAllocs_InMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop items under the race detector")
	}
	for _, tr := range []testTransport{memory, pipe} {
		for _, size := range []int{100, 10_000} {
			tc := newTestConn(t, tr, Config{MaxBytes: 1 << 20})
			go io.Copy(io.Discard, tc.far) // ends with the connection
			fl, batch := tc.newFlusher(), tc.newBatch(frame(size))
			drainCount := tc.Progress().DrainCount
			got := testing.AllocsPerRun(200, func() {
				tc.Offer(batch, fl)
				fl.Flush()
				for drainCount++; tc.Progress().DrainCount < drainCount; {
					runtime.Gosched()
				}
			})
			if got != 0 {
				t.Errorf("over %s, sending %d bytes allocates %v times", tr.name, size, got)
			}
			batch.Buffer.Release()
			fl.Reset()
			tc.Close()
			tc.Wait()
		}
	}
}
