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
)

// openCork returns a line with a cork of which account is charged, and its other end.
func openCork(t *testing.T, p purse) (*line, *cork, net.Conn) {
	t.Helper()
	near, far := openTCP(t)
	l := Line(near).(*line)
	c := newCork()
	if !c.draw(p.account, nil) {
		t.Fatal("no memory")
	}
	t.Cleanup(c.drop)
	l.setCork(c)
	return l, c, far
}

// uncork writes all that waits.
func uncork(l *line) (n int, err error) {
	for more := true; more; {
		var part int
		part, more, err = l.uncork()
		n += part
	}
	return n, err
}

// put writes n bytes to a line as a record.
func put(t *testing.T, l *line, n int) {
	t.Helper()
	if m, err := l.Write(bytes.Repeat([]byte{byte(n)}, n)); m != n || err != nil {
		t.Fatalf("%d of %d bytes were written: %v", m, n, err)
	}
}

func TestLine_CorkedWritesLeaveTogether(t *testing.T) {
	p := newPurse(corkSize)
	l, c, far := openCork(t, p)
	put(t, l, 10)
	c.wrote(8)
	put(t, l, 3) // of somebody else: an alert
	put(t, l, 20)
	c.wrote(18)
	if c.sent != 0 || c.to != 33 {
		t.Errorf("%d bytes left and %d wait, want 0 and 33", c.sent, c.to)
	}
	if n, err := uncork(l); n != 26 || err != nil {
		t.Errorf("%d bytes of records were written, want 26: %v", n, err)
	}
	put(t, l, 5) // at once
	want := slices.Concat(bytes.Repeat([]byte{10}, 10), bytes.Repeat([]byte{3}, 3), bytes.Repeat([]byte{20}, 20), bytes.Repeat([]byte{5}, 5))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("came %v, want %v: %v", got, want, err)
	}
	c.drop()
	if n := used(p.Budget); n != 0 {
		t.Errorf("%d bytes are still charged", n)
	}
}

func TestLine_MoreThanACorkTakes(t *testing.T) {
	l, c, far := openCork(t, newPurse(corkSize))
	came := make(chan int64, 1)
	go func() { // ends with the connection
		n, _ := io.Copy(io.Discard, far)
		came <- n
	}()
	want := 0
	for range 10 {
		put(t, l, 17<<10)
		c.wrote(16 << 10)
		want += 17 << 10
	}
	if n, err := uncork(l); n != 160<<10 || err != nil {
		t.Errorf("%d bytes of records were written, want %d: %v", n, 160<<10, err)
	}
	l.Close()
	if n := within(t, "the end", came); n != int64(want) {
		t.Errorf("%d bytes came, want %d", n, want)
	}
}

// TestLine_UncorkFailsInTheMiddle has a peer that takes nothing. What was written is what left in
// whole records.
func TestLine_UncorkFailsInTheMiddle(t *testing.T) {
	p := newPurse(corkSize)
	l, c, far := openCork(t, p)
	far.(*net.TCPConn).SetReadBuffer(4 << 10)
	l.SetWriteBuffer(4 << 10)
	l.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	const size = 1000
	var err error
	for err == nil && c.sent < 64<<20 {
		if _, err = l.Write(make([]byte, size)); err == nil {
			c.wrote(size - 22)
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes left: %v", c.sent, err)
	}
	n, err := uncork(l)
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("uncork after that: %v, want %v", err, net.ErrClosed)
	}
	if want := c.sent / size * (size - 22); n != want {
		t.Errorf("%d bytes of records were written, want %d", n, want)
	}
	l.SetWriteDeadline(time.Time{})
	if _, err := l.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after a part of a record: %v, want %v", err, net.ErrClosed)
	}
}

// TestCork_LittleThatIsLeftIsNotCharged waits for a peer with less than a record in hand.
func TestCork_LittleThatIsLeftIsNotCharged(t *testing.T) {
	p := newPurse(corkSize)
	l, c, far := openCork(t, p)
	far.(*net.TCPConn).SetReadBuffer(4 << 10)
	l.SetWriteBuffer(4 << 10)
	for c.from == c.to && c.sent < 8<<20 { // fill the kernel's buffers
		put(t, l, corkRest)
		l.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := uncork(l); err != nil {
			break
		}
		l.setCork(c)
	}
	if left := c.to - c.from; left == 0 || left > corkRest {
		t.Fatalf("%d bytes are left", left)
	}
	if n := used(p.Budget); n != 0 {
		t.Errorf("%d bytes are charged for %d that are left", n, c.to-c.from)
	}
}

// TestOutbox_RecordsWithoutMemoryToLeaveTogether has no memory for a cork, or for one, and looks at
// what comes.
func TestOutbox_RecordsWithoutMemoryToLeaveTogether(t *testing.T) {
	for _, none := range []bool{true, false} {
		writes := newPurse(corkSize)
		if none {
			defer writes.account.TryDraw(corkSize).Release()
		}
		s := newStation(t, secure, Config{OutboxBytes: 4 << 20, UnsentBytes: 64 << 10, Writes: writes.account})
		d := s.dispatch()
		var want []byte
		for _, size := range []int{4, 100, 9_000, 1_025, 2_000, 16_384, 16_385, 61_000, 300_000, 5_000, 5_000, 5_000} {
			s.offer(d, frame(size))
			want = append(want, frame(size)...)
		}
		d.Flush()
		s.wantStream(t, want)
		if most := peak(writes.Budget); most != corkSize {
			t.Errorf("%d bytes were charged at most, want %d", most, corkSize)
		}
		d.Drop()
		s.finish(t)
		if n := used(writes.Budget); !none && n != 0 {
			t.Errorf("%d bytes are still charged", n)
		}
	}
}

// TestOutbox_WithoutRoomNothingIsEncrypted offers to a connection over TLS whose kernel takes
// nothing more: its outbox waits with no memory for records.
func TestOutbox_WithoutRoomNothingIsEncrypted(t *testing.T) {
	writes := newPurse(1 << 20)
	s := newStation(t, secure, Config{OutboxBytes: 16 << 20, UnsentBytes: 64 << 10, Writes: writes.account})
	tcp := beneath(s.Conn.Reader.base.nc)
	tcp.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	for err := error(nil); err == nil; {
		_, err = tcp.Write(make([]byte, 64<<10)) // the peer will never look at it
	}
	tcp.SetWriteDeadline(time.Time{})
	d := s.dispatch()
	for range 20 {
		s.offer(d, frame(10_000))
	}
	d.Flush()
	time.Sleep(20 * time.Millisecond) // for a flusher that would not wait
	if n := peak(writes.Budget); n != 0 {
		t.Errorf("%d bytes were charged", n)
	}
	if n := s.Pulse().Sent; n != 0 {
		t.Errorf("%d bytes were written", n)
	}
	d.Drop()
	s.Close()
	s.Wait()
}
