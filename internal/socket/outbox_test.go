package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"weak"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

func TestOutbox_KeepsOrder(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		for seed := range uint64(5) {
			tc, random := newTestConn(t, tr, Config{MaxOutboxBytes: 100_000}), rand.New(rand.NewPCG(seed, 1))
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
			if got := waitFor(t, "the end", received); !bytes.Equal(got, want) {
				t.Errorf("%d bytes arrived, or with different contents (want %d bytes)", len(got), len(want))
			}
			tc.Wait()
			tc.wantAllReleased(t)
			if n := used(tc.copyBudget.Budget); n != 0 {
				t.Errorf("%d bytes of copies are held", n)
			}
		}
	})
}

// numberedFrame returns a frame that contains the number of its sender and its own number.
func numberedFrame(sender, n, size int) []byte {
	f := frame(max(size, wire.HeaderSize+16))
	binary.BigEndian.PutUint64(f[wire.HeaderSize:], uint64(sender))
	binary.BigEndian.PutUint64(f[wire.HeaderSize+8:], uint64(n))
	return f
}

// TestOutbox_ManySenders has several senders offer at the same time to a slower receiver. The
// frames of each sender must arrive whole and in order.
func TestOutbox_ManySenders(t *testing.T) {
	const senders, each = 6, 200
	onTransports(t, func(t *testing.T, tr testTransport) {
		tc := newTestConn(t, tr, Config{MaxOutboxBytes: 8 << 10})
		var wg sync.WaitGroup
		for sender := range senders {
			wg.Go(func() {
				fl, random := tc.newFlusher(), rand.New(rand.NewPCG(uint64(sender), 1))
				defer fl.Reset()
				for n := range each {
					if tc.offer(fl, numberedFrame(sender, n, random.IntN(3*maxCopy))) == Closed {
						t.Error("the outbox is closed")
					}
					if !fl.Wait(nil) {
						t.Error("stopped")
					}
				}
			})
		}
		c := New(tc.far, readerConfig(), nopHandler{})
		next := map[uint64]uint64{}
		for range senders * each {
			payload := nextFrame(t, c).Payload
			sender, n := binary.BigEndian.Uint64(payload), binary.BigEndian.Uint64(payload[8:])
			if n != next[sender] {
				t.Fatalf("frame %d of sender %d arrived, want %d", n, sender, next[sender])
			}
			next[sender]++
		}
		c.ReleaseAll()
		wg.Wait()
		tc.drainAndClose(t)
	})
}

func nextFrame(t *testing.T, c *Conn) Frame {
	t.Helper()
	for {
		f, ok, err := readNext(c)
		if ok {
			return f
		}
		if err == nil {
			err = c.Fill()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOutbox_CopiesSmallReferencesLarge(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		for _, test := range []struct {
			size   int
			copied bool
		}{{wire.LengthSize, true}, {100, true}, {maxCopy, true}, {maxCopy + 1, false}, {100_000, false}} {
			tc := newTestConn(t, tr, Config{MaxOutboxBytes: 1 << 20})
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
		tc := newTestConn(t, tr, Config{MaxOutboxBytes: 1 << 20})
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
		tc := newTestConn(t, tr, Config{MaxOutboxBytes: 1 << 20})
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

// TestOutbox_PartialWrites has a peer that accepts any number of bytes at a time.
func TestOutbox_PartialWrites(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		for _, maxRead := range []int{3, 700, 100_000} {
			tc, random := newTestConn(t, tr, Config{MaxOutboxBytes: 1 << 20}), rand.New(rand.NewPCG(uint64(maxRead), 1))
			fl := tc.newFlusher()
			var want []byte
			for i := range 40 {
				f := [][]byte{frame(10_000), frame(5 + i), {0, 0, 0, 1, 9}, frame(4)}[i%4]
				want = append(want, f...)
				tc.offer(fl, f)
			}
			fl.Flush()
			got, b := []byte(nil), make([]byte, maxRead)
			for len(got) < len(want) {
				n, err := tc.far.Read(b[:1+random.IntN(maxRead)])
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, b[:n]...)
			}
			if !bytes.Equal(got, want) {
				t.Error("the received bytes differ from the sent bytes")
			}
			fl.Reset()
			tc.drainAndClose(t)
		}
	})
}

// TestOutbox_CountsAfterCloseInMidFrame closes the connection after the peer has accepted a
// part of a batch, with more batches queued and blocked behind it.
func TestOutbox_CountsAfterCloseInMidFrame(t *testing.T) {
	for _, consumed := range []int{0, 1, 4, 999, 1000, 1001, 2500, 6999, 7001, 8004, 9999, 10_000, 10_001, 12_345} {
		tc := newTestConn(t, pipe, Config{MaxOutboxBytes: 20_000})
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

func TestOutbox_CountsAfterConnectionLoss(t *testing.T) {
	tc := newTestConn(t, tcp, Config{MaxOutboxBytes: 4 << 20})
	tc.far.(*net.TCPConn).SetReadBuffer(16 << 10) // too small for the kernel to accept all bytes
	tc.transport().Conn().(*net.TCPConn).SetWriteBuffer(16 << 10)
	fl := tc.newFlusher()
	for range 50 {
		tc.offer(fl, frame(50_000))
		tc.offer(fl, frame(4), []byte{0, 0, 0, 1, 9})
		tc.offer(fl, frame(100))
		fl.Flush()
	}
	tc.far.(*net.TCPConn).SetLinger(0)
	tc.far.Close()
	if err := waitFor(t, "the failure", tc.failed); err == nil || errors.Is(err, ErrStalled) {
		t.Errorf("failed with %v", err)
	}
	fl.Reset()
	tc.Wait()
	tc.wantAllReleased(t)
}

func closedChan() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func TestConn_Reset_DiscardsUnsent(t *testing.T) {
	tc := newTestConn(t, tcp, Config{MaxOutboxBytes: 1 << 20})
	fl := tc.newFlusher()
	tc.fillQueue(t, fl, frame(100_000))
	fl.Reset()
	if err := tc.Reset(); err != nil {
		t.Error(err)
	}
	tc.Wait()
	tc.wantAllReleased(t)
	if _, err := io.Copy(io.Discard, tc.far); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer sees %v, want a reset", err)
	}
}

func TestOutbox_ClosedRejectsOffers(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		tc := newTestConn(t, tr, Config{MaxOutboxBytes: 1 << 20})
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
	tc := newTestConn(t, pipe, Config{MaxOutboxBytes: 1 << 20})
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

// TestOutbox_IdleHoldsNothing checks that an idle outbox holds nothing: no flush goroutine, no
// queue, and no buffer of its last write.
func TestOutbox_IdleHoldsNothing(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		tc := newTestConn(t, tr, Config{MaxOutboxBytes: 8 << 20})
		fl := tc.newFlusher()
		go io.Copy(io.Discard, tc.far) // ends with the connection
		last := func() weak.Pointer[byte] {
			batch := tc.newBatch(frame(3 << 20)) // too large for a pool
			defer batch.Buffer.Release()
			tc.addCounts(&tc.offered, countsOf(batch))
			tc.Offer(batch, fl)
			return weak.Make(&batch.Buffer.Bytes()[0])
		}()
		fl.Reset()
		waitUntil(t, "the queue is empty", func() bool { return !tc.Busy() && !tc.isFlushing() })
		if tc.queue != nil || tc.weight != 0 || tc.blocked != nil {
			t.Errorf("an empty outbox has a queue %v of weight %d", tc.queue, tc.weight)
		}
		waitUntil(t, "the memory of the written frame is free", func() bool {
			runtime.GC()
			return last.Value() == nil
		})
		tc.drainAndClose(t)
	})
}

func TestOutbox_ZeroAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop items under the race detector")
	}
	onTransports(t, func(t *testing.T, tr testTransport) {
		for _, size := range []int{100, 10_000} {
			tc := newTestConn(t, tr, Config{MaxOutboxBytes: 1 << 20})
			done, sink := make(chan struct{}), make([]byte, 1<<20)
			go func() { // ends with the connection
				defer close(done)
				for err := error(nil); err == nil; {
					_, err = tc.far.Read(sink)
				}
			}()
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
				t.Errorf("sending %d bytes allocates %v times", size, got)
			}
			batch.Buffer.Release()
			fl.Reset()
			tc.Close()
			tc.Wait()
			<-done
		}
	})
}

func BenchmarkOutbox(b *testing.B) {
	for _, tr := range transports {
		for _, size := range []int{128, 10 << 10, 1 << 20} {
			b.Run(fmt.Sprint(tr.name, "/", size), func(b *testing.B) {
				tc := newTestConn(b, tr, Config{MaxOutboxBytes: 256 << 10})
				done, sink := make(chan struct{}), make([]byte, 1<<20)
				go func() { // ends with the connection
					defer close(done)
					for err := error(nil); err == nil; {
						_, err = tc.far.Read(sink)
					}
				}()
				fl, batch := tc.newFlusher(), tc.newBatch(frame(size))
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if tc.Offer(batch, fl) == Blocked {
						fl.Wait(nil)
					}
				}
				fl.Reset()
				tc.Drain(nil)
				batch.Buffer.Release()
				tc.Close()
				tc.Wait()
				<-done
			})
		}
	}
}

// TestOutbox_CoalescesSmallBatches checks that small frames are copied together for a
// connection without vectored writes: over TLS each frame would need its own record and system
// call.
func TestOutbox_CoalescesSmallBatches(t *testing.T) {
	tc := newTestConn(t, pipe, Config{MaxOutboxBytes: 1 << 20})
	fl := tc.newFlusher()
	var want []byte
	for _, size := range []int{2000, 2000, 40_000, 30_000, 2000, 100, 3000} {
		f := frame(size)
		want = append(want, f...)
		tc.offer(fl, f)
	}
	fl.Reset()
	got := make([]byte, 1<<20) // larger than any write: a pipe transfers one write at a time
	for _, size := range []int{4000, 40_000, 30_000, 5100} {
		n, err := tc.far.Read(got)
		if err != nil || n != size || !bytes.Equal(got[:n], want[:n]) {
			t.Fatalf("%d bytes arrived in one write (%v), want the %d queued bytes", n, err, size)
		}
		want = want[n:]
	}
	tc.drainAndClose(t)
}
