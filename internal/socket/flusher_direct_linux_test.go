package socket

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// TestFlusher_WritesSmallBatchDirectly checks that a small batch is written, and that no work
// is left, when Flush returns.
func TestFlusher_WritesSmallBatchDirectly(t *testing.T) {
	tc := newTestConn(t, tcp, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}})
	fl := tc.newFlusher()
	for _, size := range []int{4, 100, 1 << 10, 16 << 10} {
		tc.offer(fl, frame(size))
		fl.Flush()
		if tc.Progress().Busy {
			t.Errorf("a batch of %d bytes is still queued", size)
		}
		tc.wantStream(t, frame(size))
	}
	fl.Reset()
	tc.drainAndClose(t)
}

// TestFlusher_DirectWritePartial fills the kernel's buffers with batches that are small enough
// to be written directly, and then reads all of them.
func TestFlusher_DirectWritePartial(t *testing.T) {
	tc := newTestConn(t, tcp, Config{Outbox: outbox.Config{MaxBytes: 4 << 20}})
	tc.far.(*net.TCPConn).SetReadBuffer(16 << 10)
	tc.transport().Conn().(*net.TCPConn).SetWriteBuffer(16 << 10)
	fl := tc.newFlusher()
	var want []byte
	for size := 5_000; len(want) < 300_000; size++ {
		tc.offer(fl, frame(size))
		fl.Flush()
		want = append(want, frame(size)...)
	}
	if !tc.Progress().Busy {
		t.Fatal("the kernel accepted all frames: the test must offer more")
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(tc.far, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the peer got different bytes than were offered")
	}
	fl.Reset()
	tc.drainAndClose(t)
}

// TestFlusher_DirectWriteToClosedPeer checks that a write that fails in Flush reports its
// error.
func TestFlusher_DirectWriteToClosedPeer(t *testing.T) {
	tc := newTestConn(t, tcp, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}})
	fl := tc.newFlusher()
	tc.far.(*net.TCPConn).SetLinger(0)
	tc.far.Close()
	waitUntil(t, "the failure", func() bool {
		tc.offer(fl, frame(100))
		fl.Flush()
		return len(tc.failed) > 0
	})
	fl.Reset()
	tc.Wait()
	tc.wantAllReleased(t)
}
