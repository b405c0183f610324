package socket

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// TestALittleLeavesWithoutAFlusher looks at what has become of an offer when Flush
// has returned: nothing is left for anybody else to do.
func TestALittleLeavesWithoutAFlusher(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 1 << 20})
	d := s.dispatch()
	for _, size := range []int{4, 100, copyMost, directMost} {
		s.offer(d, frame(size))
		d.Flush()
		if s.Pulse().Busy {
			t.Errorf("something of %d bytes is still queued", size)
		}
		s.wantStream(t, frame(size))
	}
	d.Drop()
	s.finish(t)
}

// TestWhatDoesNotFitIsLeftToAFlusher fills the kernel's buffers with pieces that
// are each small enough to be written directly, and then takes everything.
func TestWhatDoesNotFitIsLeftToAFlusher(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 4 << 20})
	s.far.(*net.TCPConn).SetReadBuffer(16 << 10)
	s.Reader.base.nc.(*net.TCPConn).SetWriteBuffer(16 << 10)
	d := s.dispatch()
	var want []byte
	for size := 5_000; len(want) < 300_000; size++ {
		s.offer(d, frame(size))
		d.Flush()
		want = append(want, frame(size)...)
	}
	if !s.Pulse().Busy {
		t.Fatal("the kernel took everything: the test has to offer more")
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s.far, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the peer got something else than was offered")
	}
	d.Drop()
	s.finish(t)
}

// TestADirectWriteFindsThePeerGone fails in Flush, and says so like any other.
func TestADirectWriteFindsThePeerGone(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 1 << 20})
	d := s.dispatch()
	s.far.(*net.TCPConn).SetLinger(0)
	s.far.Close()
	until(t, "the failure", func() bool {
		s.offer(d, frame(100))
		d.Flush()
		return len(s.failed) > 0
	})
	d.Drop()
	s.Wait()
	s.wantSettled(t)
}

// TestWhoOffersOnAndOnIsLeftToAFlusher offers twice within the time that an outbox
// has to be quiet for.
func TestWhoOffersOnAndOnIsLeftToAFlusher(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 1 << 20, Quiet: time.Hour})
	d := s.dispatch()
	for i, direct := range []bool{true, false} {
		s.offer(d, frame(100))
		if got := s.quiet(); got != direct {
			t.Errorf("offer %d is written directly: %v, want %v", i+1, got, direct)
		}
		d.Flush()
		s.wantStream(t, frame(100))
		until(t, "the queue is dry", func() bool { return !s.Pulse().Busy })
	}
	d.Drop()
	s.finish(t)
}
