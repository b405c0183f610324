package socket

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
)

// throttle redirects the writes below TLS to a pipe of the kernel, without package net. The
// pipe accepts as many bytes as the test has read from it, and a writer that waits for room
// waits in virtual time.
type throttle struct {
	syscall.RawConn // of the connection, for all other calls
	in, out         int
	size            int // capacity of the pipe, in bytes
	space           chan struct{}
	closed          chan struct{}
}

// newThrottle puts a throttle with a capacity of about size bytes below a nonblockConn.
func newThrottle(t *testing.T, nb *nonblockConn, size int) *throttle {
	t.Helper()
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(ends[0])
		unix.Close(ends[1])
	})
	size, err := unix.FcntlInt(uintptr(ends[1]), unix.F_SETPIPE_SZ, size)
	if err != nil {
		t.Fatal(err)
	}
	th := &throttle{nb.raw, ends[1], ends[0], size, make(chan struct{}, 1), make(chan struct{})}
	nb.raw = th
	return th
}

// Write implements syscall.RawConn.
func (th *throttle) Write(f func(fd uintptr) (done bool)) error {
	for !f(uintptr(th.in)) {
		select {
		case <-th.space:
		case <-th.closed:
			return net.ErrClosed
		}
	}
	return nil
}

// drain reads all bytes in the pipe.
func (th *throttle) drain() []byte {
	p := make([]byte, th.size)
	n, _, err := readRaw(uintptr(th.out), p)
	if err != nil {
		panic(err)
	}
	select {
	case th.space <- struct{}{}:
	default:
	}
	return p[:n]
}

// drainAll drains the pipe at the given interval, until the pipe is closed.
func (th *throttle) drainAll(every time.Duration) {
	for {
		select {
		case <-time.After(every):
			th.drain()
		case <-th.closed:
			return
		}
	}
}

// throttledTCP is a throttle that forwards the bytes to the connection by itself, a limited
// number at a time.
type throttledTCP struct {
	*throttle
	to net.Conn
}

// Write implements syscall.RawConn.
func (n *throttledTCP) Write(f func(fd uintptr) (done bool)) error {
	for done := false; !done; {
		done = f(uintptr(n.in))
		if _, err := n.to.Write(n.drain()); err != nil {
			return err
		}
	}
	return nil
}

// newThrottledConn returns a testConn over TLS with a throttle below. It is called in a
// bubble, with a connection that was opened outside.
func newThrottledConn(t *testing.T, near, far net.Conn, size int, config Config) (*testConn, *throttle) {
	open := func(testing.TB) (net.Conn, net.Conn) { return near, far }
	tc := newTestConn(t, testTransport{name: "throttle", open: open}, config)
	return tc, newThrottle(t, tc.transport().(*tlsTransport).lower, size)
}

// newSlowTLSConn returns a testConn over TLS whose outbox is full, and whose peer accepts the
// given number of bytes within the stall timeout.
func newSlowTLSConn(t *testing.T, near, far net.Conn, bytes int) (tc *testConn, th *throttle, wg *sync.WaitGroup) {
	tc, th = newThrottledConn(t, near, far, 4<<10, Config{Outbox: outbox.Config{MaxBytes: 100_000, StallTimeout: stallTimeout}})
	wg = new(sync.WaitGroup)
	wg.Go(func() { th.drainAll(stallTimeout * time.Duration(th.size) / time.Duration(bytes)) })
	fl := tc.newFlusher()
	for tc.queuedWeight() < tc.Reader.base.config.Outbox.MaxBytes {
		tc.offer(fl, frame(1000))
	}
	fl.Reset()
	return tc, th, wg
}

// TestOutbox_Stall_TLSRecordInTime has a peer that accepts, within the stall timeout, two of
// the records that are written together.
func TestOutbox_Stall_TLSRecordInTime(t *testing.T) {
	near, far := openTLS(t)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		tc, th, wg := newSlowTLSConn(t, near, far, 40<<10)
		blocked := tc.startOfferWait(frame(1000))
		if got := <-blocked.outcome; got != outbox.Queued {
			t.Errorf("a sender that waited: %v, want %v", got, outbox.Queued)
		}
		if sent := tc.Progress().Sent; sent == 0 || sent > maxRecordSize {
			t.Errorf("%d bytes are written when there is room, want a record", sent)
		}
		if took := time.Since(begin); took > stallTimeout/2 {
			t.Errorf("the sender waited %v, longer than a record takes", took)
		}
		if !tc.Drain(nil) {
			t.Error("Drain has given up")
		}
		if took := time.Since(begin); took < 2*stallTimeout {
			t.Errorf("all bytes were accepted within %v: too fast for this test", took)
		}
		close(th.closed)
		wg.Wait()
		tc.Close()
		tc.Wait()
		tc.wantAllReleased(t)
	})
}

// TestOutbox_Stall_TLSRecordTooLate has a peer that accepts less than one record within the
// stall timeout.
func TestOutbox_Stall_TLSRecordTooLate(t *testing.T) {
	near, far := openTLS(t)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		tc, th, wg := newSlowTLSConn(t, near, far, 10<<10)
		wg.Go(func() {
			if err := <-tc.failed; !errors.Is(err, outbox.ErrStalled) {
				t.Errorf("failed with %v, want %v", err, outbox.ErrStalled)
			}
			close(th.closed)
		})
		if tc.Drain(nil) {
			t.Error("a stalled peer has accepted all bytes")
		}
		if took := time.Since(begin); took != stallTimeout {
			t.Errorf("cut after %v, want %v", took, stallTimeout)
		}
		wg.Wait()
		tc.Wait()
		tc.wantAllReleased(t)
	})
}

// TestOutbox_TLSUnsentChargedToPeer has a peer that accepts a part of the records that are
// written together, and then nothing, with and without room in its account for the rest.
func TestOutbox_TLSUnsentChargedToPeer(t *testing.T) {
	const limit = 1 << 20
	for _, hasRoom := range []bool{true, false} {
		near, far := openTLS(t)
		synctest.Test(t, func(t *testing.T) {
			bodies, writes := newTestBudget(limit), newTestBudget(corkSize)
			tc, th := newThrottledConn(t, near, far, 16<<10, Config{Outbox: outbox.Config{MaxBytes: limit}, WriteAccount: writes.account})
			tc.account = bodies.account
			full := int64(0)
			if !hasRoom {
				full = limit
				defer bodies.account.TryAcquire(limit).Release()
			}
			fl := tc.newFlusher()
			for range 50 {
				tc.offer(fl, frame(2000))
			}
			held, sent := used(tc.batchBudget.Budget), int64(0)
			fl.Reset()
			for unsent := corkSize; unsent > maxCorkUncharged; th.drain() {
				synctest.Wait() // the flush goroutine waits for room
				c := tc.transport().(*tlsTransport).lower.cork
				if c.to-c.from == 0 || c.to-c.from >= unsent {
					t.Fatalf("%d bytes are unsent after %d", c.to-c.from, unsent)
				}
				unsent = c.to - c.from
				wantBodies, wantWrites := full, int64(0)
				switch {
				case unsent <= maxCorkUncharged:
				case hasRoom:
					wantBodies += int64(body.Capacity(unsent))
				default:
					wantWrites = corkSize
				}
				if b, w := used(bodies.Budget), used(writes.Budget); b != wantBodies || w != wantWrites {
					t.Errorf("while %d bytes are unsent, %d and %d are charged, want %d to the peer and %d to the shared account",
						unsent, b, w, wantBodies, wantWrites)
				}
				now, sentNow := used(tc.batchBudget.Budget), tc.Progress().Sent
				if now >= held || sentNow <= sent {
					t.Errorf("%d bytes are queued after %d, and %d written after %d", now, held, sentNow, sent)
				}
				held, sent = now, sentNow
			}
			close(th.closed)
			tc.Close()
			tc.Wait()
			tc.wantAllReleased(t)
			if b, w := used(bodies.Budget), used(writes.Budget); b != full || w != 0 {
				t.Errorf("at the end, %d and %d bytes are charged", b, w)
			}
		})
	}
}

// TestOutbox_Retract_LeavesEncryptedRecords retracts frames after a part of the records that
// are written together was sent: the frames in the other records must be sent as well.
func TestOutbox_Retract_LeavesEncryptedRecords(t *testing.T) {
	near, far := openTLS(t)
	synctest.Test(t, func(t *testing.T) {
		const frames, size = 50, 2000
		tc, th := newThrottledConn(t, near, far, 16<<10, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}})
		var seen eventCounts
		options := &outbox.Options{Events: &seen, Expires: time.Now().Add(time.Hour).UnixNano()}
		fl := tc.newFlusher()
		for range frames {
			batch := tc.newBatch(frame(size))
			batch.Options = options
			tc.Offer(batch, fl)
			batch.Buffer.Release()
		}
		fl.Reset()
		synctest.Wait()
		const encrypted = (corkPlainSize + size - 1) / size
		first := seen[outbox.EventWritten].Load()
		if stillQueued := tc.Retract(options); !stillQueued || first == 0 || seen[outbox.EventExpired].Load() != frames-encrypted {
			t.Errorf("with %d written, stillQueued is %v and %d are retracted, want %d",
				first, stillQueued, seen[outbox.EventExpired].Load(), frames-encrypted)
		}
		for range 5 {
			th.drain()
			synctest.Wait()
		}
		if n := seen[outbox.EventWritten].Load(); n < encrypted-1 || n > encrypted {
			t.Errorf("%d are written, want the %d encrypted frames", n, encrypted)
		}
		if n := tc.Progress().Sent; n < corkPlainSize {
			t.Errorf("%d bytes are written, want %d", n, corkPlainSize)
		}
		tc.Drain(nil)
		if n := seen[outbox.EventWritten].Load(); n != encrypted || used(tc.batchBudget.Budget) != 0 {
			t.Errorf("%d are written at the end, want %d, and %d bytes are held", n, encrypted, used(tc.batchBudget.Budget))
		}
		tc.Close()
		tc.Wait()
	})
}

// TestCork_WriteBetweenParts writes an alert when a part of the collected records was sent.
func TestCork_WriteBetweenParts(t *testing.T) {
	tb := newTestBudget(corkSize)
	nb, c, _ := openCork(t, tb)
	th := newThrottle(t, nb, 16<<10)
	var want, got []byte
	for _, size := range []int{20_000, 5_000, 15_000} {
		mustWrite(t, nb, size)
		c.addRecord(size - 22)
		want = append(want, bytes.Repeat([]byte{byte(size)}, size)...)
	}
	if n, more, err := nb.uncork(); n != 0 || !more || err != nil {
		t.Fatalf("a part of the first record: %d bytes, more: %v (%v)", n, more, err)
	}
	mustWrite(t, nb, 5)
	want = append(want, 5, 5, 5, 5, 5)
	sent := 0
	for more := true; more; {
		got = append(got, th.drain()...)
		var n int
		var err error
		if n, more, err = nb.uncork(); err != nil {
			t.Fatal(err)
		}
		sent += n
	}
	got = append(got, th.drain()...)
	if want := 40_000 - 3*22; sent != want {
		t.Errorf("%d bytes were sent in whole records, want %d", sent, want)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, want %d in order", len(got), len(want))
	}
}

// TestOutbox_TLSRecordsInParts has a connection that accepts a quarter of a record at a time,
// and checks the received bytes.
func TestOutbox_TLSRecordsInParts(t *testing.T) {
	bodies, writes := newTestBudget(1<<20), newTestBudget(1<<20)
	tc := newTestConn(t, overTLS, Config{Outbox: outbox.Config{MaxBytes: 8 << 20}, WriteAccount: writes.account})
	tc.account = bodies.account
	nb := tc.transport().(*tlsTransport).lower
	nb.raw = &throttledTCP{newThrottle(t, nb, 4<<10), nb.TCPConn}
	fl := tc.newFlusher()
	var want []byte
	for i := range 1000 {
		f := frame(100 + 7*i)
		tc.offer(fl, f)
		want = append(want, f...)
	}
	fl.Reset()
	tc.wantStream(t, want)
	tc.drainAndClose(t)
	if b, w := used(bodies.Budget), used(writes.Budget); b != 0 || w != 0 {
		t.Errorf("%d and %d bytes are still charged", b, w)
	}
}
