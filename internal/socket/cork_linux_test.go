package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// openCork returns a nonblockConn with a cork charged to account, and its other end.
func openCork(t *testing.T, tb testBudget) (*nonblockConn, *cork, net.Conn) {
	t.Helper()
	near, far := openTCP(t)
	nb := WrapForTLS(near).(*nonblockConn)
	c := newCork()
	if !c.acquire(tb.account, nil) {
		t.Fatal("no memory")
	}
	t.Cleanup(c.release)
	nb.setCork(c)
	return nb, c, far
}

// uncorkAll writes all collected records.
func uncorkAll(nb *nonblockConn) (n int, err error) {
	for more := true; more; {
		var part int
		part, more, err = nb.uncork()
		n += part
	}
	return n, err
}

// mustWrite writes n bytes to a nonblockConn as one record.
func mustWrite(t *testing.T, nb *nonblockConn, n int) {
	t.Helper()
	if m, err := nb.Write(bytes.Repeat([]byte{byte(n)}, n)); m != n || err != nil {
		t.Fatalf("%d of %d bytes were written: %v", m, n, err)
	}
}

func TestCork_WritesRecordsTogether(t *testing.T) {
	tb := newTestBudget(corkSize)
	nb, c, far := openCork(t, tb)
	mustWrite(t, nb, 10)
	c.addRecord(8)
	mustWrite(t, nb, 3) // written by crypto/tls itself: an alert
	mustWrite(t, nb, 20)
	c.addRecord(18)
	if c.sent != 0 || c.to != 33 {
		t.Errorf("%d bytes were sent and %d are collected, want 0 and 33", c.sent, c.to)
	}
	if n, err := uncorkAll(nb); n != 26 || err != nil {
		t.Errorf("%d bytes of records were written, want 26: %v", n, err)
	}
	mustWrite(t, nb, 5) // without a cork
	want := slices.Concat(bytes.Repeat([]byte{10}, 10), bytes.Repeat([]byte{3}, 3), bytes.Repeat([]byte{20}, 20), bytes.Repeat([]byte{5}, 5))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %v, want %v: %v", got, want, err)
	}
	c.release()
	if n := used(tb.Budget); n != 0 {
		t.Errorf("%d bytes are still charged", n)
	}
}

func TestCork_MoreThanItsSize(t *testing.T) {
	nb, c, far := openCork(t, newTestBudget(corkSize))
	received := make(chan int64, 1)
	go func() { // ends with the connection
		n, _ := io.Copy(io.Discard, far)
		received <- n
	}()
	want := 0
	for range 10 {
		mustWrite(t, nb, 17<<10)
		c.addRecord(16 << 10)
		want += 17 << 10
	}
	if n, err := uncorkAll(nb); n != 160<<10 || err != nil {
		t.Errorf("%d bytes of records were written, want %d: %v", n, 160<<10, err)
	}
	nb.Close()
	if n := waitFor(t, "the end", received); n != int64(want) {
		t.Errorf("%d bytes arrived, want %d", n, want)
	}
}

// TestCork_UncorkFailsPartway has a peer that accepts no data. The bytes reported as written
// are those of whole records.
func TestCork_UncorkFailsPartway(t *testing.T) {
	tb := newTestBudget(corkSize)
	nb, c, far := openCork(t, tb)
	far.(*net.TCPConn).SetReadBuffer(4 << 10)
	nb.SetWriteBuffer(4 << 10)
	nb.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	const size = 1000
	var err error
	for err == nil && c.sent < 64<<20 {
		if _, err = nb.Write(make([]byte, size)); err == nil {
			c.addRecord(size - 22)
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes were sent: %v", c.sent, err)
	}
	n, err := uncorkAll(nb)
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("uncork after that: %v, want %v", err, net.ErrClosed)
	}
	if want := c.sent / size * (size - 22); n != want {
		t.Errorf("%d bytes of records were written, want %d", n, want)
	}
	nb.SetWriteDeadline(time.Time{})
	if _, err := nb.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after a part of a record: %v, want %v", err, net.ErrClosed)
	}
}

// TestCork_SmallRemainderNotCharged waits for the peer with less than one record left.
func TestCork_SmallRemainderNotCharged(t *testing.T) {
	tb := newTestBudget(corkSize)
	nb, c, far := openCork(t, tb)
	far.(*net.TCPConn).SetReadBuffer(4 << 10)
	nb.SetWriteBuffer(4 << 10)
	for c.from == c.to && c.sent < 8<<20 { // fill the kernel's buffers
		mustWrite(t, nb, maxCorkUncharged)
		nb.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := uncorkAll(nb); err != nil {
			break
		}
		nb.setCork(c)
	}
	if unsent := c.to - c.from; unsent == 0 || unsent > maxCorkUncharged {
		t.Fatalf("%d bytes remain", unsent)
	}
	if n := used(tb.Budget); n != 0 {
		t.Errorf("%d bytes are charged for %d that remain", n, c.to-c.from)
	}
}

// TestOutbox_TLSWithoutCorkMemory writes with no memory for a cork, and with memory for a
// single cork.
func TestOutbox_TLSWithoutCorkMemory(t *testing.T) {
	for _, exhausted := range []bool{true, false} {
		writes := newTestBudget(corkSize)
		if exhausted {
			defer writes.account.TryAcquire(corkSize).Release()
		}
		tc := newTestConn(t, overTLS, Config{Outbox: outbox.Config{MaxBytes: 4 << 20}, MaxUnsentBytes: 64 << 10, WriteAccount: writes.account})
		fl := tc.newFlusher()
		var want []byte
		for _, size := range []int{4, 100, 9_000, 1_025, 2_000, 16_384, 16_385, 61_000, 300_000, 5_000, 5_000, 5_000} {
			tc.offer(fl, frame(size))
			want = append(want, frame(size)...)
		}
		fl.Flush()
		tc.wantStream(t, want)
		if maxCharged := peak(writes.Budget); maxCharged != corkSize {
			t.Errorf("%d bytes were charged at most, want %d", maxCharged, corkSize)
		}
		fl.Reset()
		tc.drainAndClose(t)
		if n := used(writes.Budget); !exhausted && n != 0 {
			t.Errorf("%d bytes are still charged", n)
		}
	}
}

// TestOutbox_TLSFullSocketEncryptsNothing offers frames to a TLS connection whose socket is
// full: its outbox holds no memory for records while it waits.
func TestOutbox_TLSFullSocketEncryptsNothing(t *testing.T) {
	writes := newTestBudget(1 << 20)
	tc := newTestConn(t, overTLS, Config{Outbox: outbox.Config{MaxBytes: 16 << 20}, MaxUnsentBytes: 64 << 10, WriteAccount: writes.account})
	tcp := unwrap(tc.transport().Conn())
	tcp.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	for err := error(nil); err == nil; {
		_, err = tcp.Write(make([]byte, 64<<10)) // the peer never reads it
	}
	tcp.SetWriteDeadline(time.Time{})
	fl := tc.newFlusher()
	for range 20 {
		tc.offer(fl, frame(10_000))
	}
	tcp.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) // ends the wait for room
	fl.Flush()
	if err := waitFor(t, "the write deadline", tc.failed); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the flush goroutine ended with %v, want %v", err, os.ErrDeadlineExceeded)
	}
	if n := peak(writes.Budget); n != 0 {
		t.Errorf("%d bytes were charged", n)
	}
	if n := tc.Progress().Sent; n != 0 {
		t.Errorf("%d bytes were written", n)
	}
	fl.Reset()
	tc.Close()
	tc.Wait()
}
