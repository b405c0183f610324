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
	"sync"
	"syscall"
	"testing"
	"time"
	"weak"

	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

func TestOutbox_KeepsOrder(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		for seed := range uint64(5) {
			tc, random := newTestConn(t, tr, Config{Outbox: outbox.Config{MaxBytes: 100_000}}), rand.New(rand.NewPCG(seed, 1))
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
		tc := newTestConn(t, tr, Config{Outbox: outbox.Config{MaxBytes: 8 << 10}})
		var wg sync.WaitGroup
		for sender := range senders {
			wg.Go(func() {
				fl, random := tc.newFlusher(), rand.New(rand.NewPCG(uint64(sender), 1))
				defer fl.Reset()
				for n := range each {
					if tc.offer(fl, numberedFrame(sender, n, random.IntN(3<<10))) == outbox.Closed {
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

// TestOutbox_PartialWrites has a peer that accepts any number of bytes at a time.
func TestOutbox_PartialWrites(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		for _, maxRead := range []int{3, 700, 100_000} {
			tc, random := newTestConn(t, tr, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}}), rand.New(rand.NewPCG(uint64(maxRead), 1))
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

func TestOutbox_CountsAfterConnectionLoss(t *testing.T) {
	tc := newTestConn(t, tcp, Config{Outbox: outbox.Config{MaxBytes: 4 << 20}})
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
	if err := waitFor(t, "the failure", tc.failed); err == nil || errors.Is(err, outbox.ErrStalled) {
		t.Errorf("failed with %v", err)
	}
	fl.Reset()
	tc.Wait()
	tc.wantAllReleased(t)
}

func TestConn_Reset_DiscardsUnsent(t *testing.T) {
	tc := newTestConn(t, tcp, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}})
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

// TestOutbox_IdleHoldsNothing checks that an idle outbox holds nothing: no flush goroutine, no
// queue, and no buffer of its last write.
func TestOutbox_IdleHoldsNothing(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		tc := newTestConn(t, tr, Config{Outbox: outbox.Config{MaxBytes: 8 << 20}})
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
		waitUntil(t, "the queue is empty", func() bool { return !tc.Busy() })
		if n := tc.queuedWeight(); n != 0 {
			t.Errorf("an empty outbox has a weight of %d", n)
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
			if tr.name == webSocketMemory.name && size > 4<<10 {
				continue // an empty memorypipe keeps no more, and grows for each slice of a vector
			}
			tc := newTestConn(t, tr, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}})
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
				tc := newTestConn(b, tr, Config{Outbox: outbox.Config{MaxBytes: 256 << 10}})
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
					if tc.Offer(batch, fl) == outbox.Blocked {
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
	tc := newTestConn(t, pipe, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}})
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

func TestOutbox_Stall_OverTCP(t *testing.T) {
	tc := newTestConn(t, tcp, Config{Outbox: outbox.Config{MaxBytes: 100_000, StallTimeout: 50 * time.Millisecond}, MaxUnsentBytes: 16 << 10})
	tc.far.(*net.TCPConn).SetReadBuffer(4 << 10)
	fl := tc.newFlusher()
	for tc.offer(fl, frame(100_000)) != outbox.Closed { // until the peer is cut
		if !fl.Wait(nil) {
			t.Error("Wait returned false without a stop")
		}
	}
	if err := waitFor(t, "the cut", tc.failed); !errors.Is(err, outbox.ErrStalled) {
		t.Errorf("failed with %v, want %v", err, outbox.ErrStalled)
	}
	fl.Reset()
	tc.Wait()
	tc.wantAllReleased(t)
}

// TestOutbox_ExpiresWhileSocketFull fills a connection with frames that expire while the flush
// goroutine waits for room. Gathered frames are not written when there is room again, except
// the frame whose start was written and, over TLS, frames that are already encrypted.
func TestOutbox_ExpiresWhileSocketFull(t *testing.T) {
	for tr, maxStarted := range map[*testTransport]int64{&tcp: 1, &overTLS: outbox.MinProgress/expiringFrameSize + 1} {
		t.Run(tr.name, func(t *testing.T) {
			// In real time, because the buffers are those of the kernel.
			ttl := 300 * time.Millisecond
			for !expireWhileFull(t, *tr, maxStarted, ttl) && ttl < testTimeout { // a busy machine needs more
				ttl *= 2
			}
		})
	}
}

// expiringFrameSize is the size of the frames that expire, in bytes.
const expiringFrameSize = 1000

// expireWhileFull reports whether the socket was full before the offered frames had expired.
// maxStarted is the maximum number of frames that can have been started by then.
func expireWhileFull(t *testing.T, tr testTransport, maxStarted int64, ttl time.Duration) bool {
	const frames = 2000
	tc := newTestConn(t, tr, Config{Outbox: outbox.Config{MaxBytes: 64 << 10}, MaxUnsentBytes: 64 << 10})
	SetReadBuffer(tc.far, 32<<10)
	var seen eventCounts
	options := &outbox.Options{Events: &seen, Overflow: outbox.OverflowForce, Expires: time.Now().Add(ttl).UnixNano()}
	fl, offered := tc.newFlusher(), int64(0)
	for range frames {
		batch := tc.newBatch(frame(expiringFrameSize))
		batch.Options = options
		if tc.Offer(batch, fl) == outbox.Queued {
			offered++
		}
		batch.Buffer.Release()
		fl.Abandon()
	}
	waitUntil(t, "the frames have expired", func() bool { return time.Now().UnixNano() > options.Expires })
	tc.Retract(options)
	waitUntil(t, "all frames that were not started have expired or are written", func() bool {
		return seen[outbox.EventExpired].Load()+seen[outbox.EventWritten].Load() >= offered-maxStarted
	})
	written := seen[outbox.EventWritten].Load()
	go io.Copy(io.Discard, tc.far) // ends with the connection
	tc.Drain(nil)
	tc.Close()
	tc.Wait()
	if n := used(tc.batchBudget.Budget); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
	if lateWrites := seen[outbox.EventWritten].Load() - written; lateWrites > maxStarted {
		t.Errorf("%d frames were written after they had expired", lateWrites)
	}
	return offered == frames
}
