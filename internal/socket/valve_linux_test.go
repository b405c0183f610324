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
)

// valve leads what is written beneath TLS, around the net package, into a pipe of the kernel: that
// takes as many bytes as a test has read from it, and who waits for room waits in virtual time.
type valve struct {
	syscall.RawConn // of the connection, for all else
	in, out         int
	size            int // how many bytes fit into the pipe
	room            chan struct{}
	closed          chan struct{}
}

// newValve puts one that holds about size bytes beneath a line.
func newValve(t *testing.T, l *line, size int) *valve {
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
	v := &valve{l.raw, ends[1], ends[0], size, make(chan struct{}, 1), make(chan struct{})}
	l.raw = v
	return v
}

// Write implements syscall.RawConn.
func (v *valve) Write(attempt func(fd uintptr) (done bool)) error {
	for !attempt(uintptr(v.in)) {
		select {
		case <-v.room:
		case <-v.closed:
			return net.ErrClosed
		}
	}
	return nil
}

// take takes what is in the pipe.
func (v *valve) take() []byte {
	p := make([]byte, v.size)
	n, _, err := readRaw(uintptr(v.out), p)
	if err != nil {
		panic(err)
	}
	select {
	case v.room <- struct{}{}:
	default:
	}
	return p[:n]
}

// takeAll takes the whole pipe every so often, until it is closed.
func (v *valve) takeAll(every time.Duration) {
	for {
		select {
		case <-time.After(every):
			v.take()
		case <-v.closed:
			return
		}
	}
}

// narrow is a valve that leads what it has taken to the connection by itself: so much at a time.
type narrow struct {
	*valve
	to net.Conn
}

// Write implements syscall.RawConn.
func (n *narrow) Write(attempt func(fd uintptr) (done bool)) error {
	for done := false; !done; {
		done = attempt(uintptr(n.in))
		if _, err := n.to.Write(n.take()); err != nil {
			return err
		}
	}
	return nil
}

// openValve makes a station over TLS with a valve beneath. It is called in a bubble, with a
// connection that was made outside.
func openValve(t *testing.T, near, far net.Conn, size int, config Config) (*station, *valve) {
	open := func(testing.TB) (net.Conn, net.Conn) { return near, far }
	s := newStation(t, link{"valve", open}, config)
	return s, newValve(t, s.Reader.base.line, size)
}

// newSlowTLS makes a station over TLS whose outbox is full, and whose peer takes so many bytes
// within the stall timeout.
func newSlowTLS(t *testing.T, near, far net.Conn, bytes int) (s *station, v *valve, peer *sync.WaitGroup) {
	s, v = openValve(t, near, far, 4<<10, Config{OutboxBytes: 100_000, StallTimeout: stallTimeout})
	peer = new(sync.WaitGroup)
	peer.Go(func() { v.takeAll(stallTimeout * time.Duration(v.size) / time.Duration(bytes)) })
	d := s.dispatch()
	for s.weigh() < s.Reader.base.config.OutboxBytes {
		s.offer(d, frame(1000))
	}
	d.Drop()
	return s, v, peer
}

// TestOutbox_PeerThatTakesARecordInTimeIsNotCut has a peer that takes two of the records that leave
// together within the stall timeout.
func TestOutbox_PeerThatTakesARecordInTimeIsNotCut(t *testing.T) {
	near, far := openTLS(t)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		s, v, peer := newSlowTLS(t, near, far, 40<<10)
		parked := s.enqueue(frame(1000))
		if got := <-parked.outcome; got != Queued {
			t.Errorf("a sender that waited: %v, want %v", got, Queued)
		}
		if sent := s.Pulse().Sent; sent == 0 || sent > recordSize {
			t.Errorf("%d bytes are sent when there is room, want a record", sent)
		}
		if took := time.Since(begin); took > stallTimeout/2 {
			t.Errorf("it waited %v, longer than a record takes", took)
		}
		if !s.Drain(nil) {
			t.Error("Drain has given up")
		}
		if took := time.Since(begin); took < 2*stallTimeout {
			t.Errorf("everything was taken within %v: too fast for this test", took)
		}
		close(v.closed)
		peer.Wait()
		s.Close()
		s.Wait()
		s.wantSettled(t)
	})
}

// TestOutbox_PeerThatTakesNoRecordInTimeIsCut has a peer that takes less than one.
func TestOutbox_PeerThatTakesNoRecordInTimeIsCut(t *testing.T) {
	near, far := openTLS(t)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		s, v, peer := newSlowTLS(t, near, far, 10<<10)
		peer.Go(func() {
			if err := <-s.failed; !errors.Is(err, ErrStalled) {
				t.Errorf("failed with %v, want %v", err, ErrStalled)
			}
			close(v.closed)
		})
		if s.Drain(nil) {
			t.Error("a stalled peer has taken everything")
		}
		if took := time.Since(begin); took != stallTimeout {
			t.Errorf("it is cut after %v, want %v", took, stallTimeout)
		}
		peer.Wait()
		s.Wait()
		s.wantSettled(t)
	})
}

// TestOutbox_WhatAPeerMakesNoRoomForIsItsOwn has a peer that takes a part of the records that leave
// together, and then nothing, with and without room in its account for the rest.
func TestOutbox_WhatAPeerMakesNoRoomForIsItsOwn(t *testing.T) {
	const limit = 1 << 20
	for _, room := range []bool{true, false} {
		near, far := openTLS(t)
		synctest.Test(t, func(t *testing.T) {
			bodies, writes := newPurse(limit), newPurse(corkSize)
			s, v := openValve(t, near, far, 16<<10, Config{OutboxBytes: limit, Writes: writes.account})
			s.owned = bodies.account
			full := int64(0)
			if !room {
				full = limit
				defer bodies.account.TryDraw(limit).Release()
			}
			d := s.dispatch()
			for range 50 {
				s.offer(d, frame(2000))
			}
			held, sent := used(s.pieces.Budget), int64(0)
			d.Drop()
			for rest := corkSize; rest > corkRest; v.take() {
				synctest.Wait() // the flusher waits for room
				c := s.queue.cork
				if c.to-c.from == 0 || c.to-c.from >= rest {
					t.Fatalf("%d bytes wait, and %d before", c.to-c.from, rest)
				}
				rest = c.to - c.from
				wantBodies, wantWrites := full, int64(0)
				switch {
				case rest <= corkRest:
				case room:
					wantBodies += int64(body.Capacity(rest))
				default:
					wantWrites = corkSize
				}
				if b, w := used(bodies.Budget), used(writes.Budget); b != wantBodies || w != wantWrites {
					t.Errorf("while %d bytes wait, %d and %d are charged, want %d to the peer and %d to all",
						rest, b, w, wantBodies, wantWrites)
				}
				if s.queue.joined != nil || len(s.queue.pieces) > 0 {
					t.Error("what the records were made of is still held")
				}
				now, left := used(s.pieces.Budget), s.Pulse().Sent
				if now >= held || left <= sent {
					t.Errorf("%d bytes are queued after %d, and %d sent after %d", now, held, left, sent)
				}
				held, sent = now, left
			}
			close(v.closed)
			s.Close()
			s.Wait()
			s.wantSettled(t)
			if b, w := used(bodies.Budget), used(writes.Budget); b != full || w != 0 {
				t.Errorf("at the end, %d and %d bytes are charged", b, w)
			}
		})
	}
}

// TestOutbox_WhatIsARecordIsNotTakenBack takes back what was offered when a part of the records
// that leave together has left: what is in the others must leave as well.
func TestOutbox_WhatIsARecordIsNotTakenBack(t *testing.T) {
	near, far := openTLS(t)
	synctest.Test(t, func(t *testing.T) {
		const frames, size = 50, 2000
		s, v := openValve(t, near, far, 16<<10, Config{OutboxBytes: 1 << 20})
		var seen tally
		terms := &Terms{Tracker: &seen, Expires: time.Now().Add(time.Hour).UnixNano()}
		d := s.dispatch()
		for range frames {
			p := s.piece(frame(size))
			p.Terms = terms
			s.Offer(p, d)
			p.Buffer.Release()
		}
		d.Drop()
		synctest.Wait()
		const encrypted = (corkPlain + size - 1) / size
		first := seen[Written].Load()
		if held := s.Retract(terms); !held || first == 0 || seen[Expired].Load() != frames-encrypted {
			t.Errorf("with %d written, held is %v and %d are taken back, want %d",
				first, held, seen[Expired].Load(), frames-encrypted)
		}
		for range 5 {
			v.take()
			synctest.Wait()
		}
		if n := seen[Written].Load(); n < encrypted-1 || n > encrypted {
			t.Errorf("%d are written, want what was made records, %d", n, encrypted)
		}
		if n := s.Pulse().Sent; n < corkPlain {
			t.Errorf("%d bytes are sent, want %d", n, corkPlain)
		}
		s.Drain(nil)
		if n := seen[Written].Load(); n != encrypted || used(s.pieces.Budget) != 0 {
			t.Errorf("%d are written at last, want %d, and %d bytes are held", n, encrypted, used(s.pieces.Budget))
		}
		s.Close()
		s.Wait()
	})
}

// TestLine_WriteBetweenParts has somebody else write, an alert, when a part of what waits has left.
func TestLine_WriteBetweenParts(t *testing.T) {
	p := newPurse(corkSize)
	l, c, _ := openCork(t, p)
	v := newValve(t, l, 16<<10)
	var want, got []byte
	for _, size := range []int{20_000, 5_000, 15_000} {
		put(t, l, size)
		c.wrote(size - 22)
		want = append(want, bytes.Repeat([]byte{byte(size)}, size)...)
	}
	if n, more, err := l.uncork(); n != 0 || !more || err != nil {
		t.Fatalf("a part of the first record: %d bytes and more: %v (%v)", n, more, err)
	}
	put(t, l, 5)
	want = append(want, 5, 5, 5, 5, 5)
	left := 0
	for more := true; more; {
		got = append(got, v.take()...)
		var n int
		var err error
		if n, more, err = l.uncork(); err != nil {
			t.Fatal(err)
		}
		left += n
	}
	got = append(got, v.take()...)
	if want := 40_000 - 3*22; left != want {
		t.Errorf("%d bytes left in whole records, want %d", left, want)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes came, want %d in their order", len(got), len(want))
	}
}

// TestOutbox_RecordsThatLeaveInParts has a connection that takes a quarter of a record at a time,
// and looks at what comes.
func TestOutbox_RecordsThatLeaveInParts(t *testing.T) {
	bodies, writes := newPurse(1<<20), newPurse(1<<20)
	s := newStation(t, secure, Config{OutboxBytes: 8 << 20, Writes: writes.account})
	s.owned = bodies.account
	l := s.Reader.base.line
	l.raw = &narrow{newValve(t, l, 4<<10), l.TCPConn}
	d := s.dispatch()
	var want []byte
	for i := range 1000 {
		f := frame(100 + 7*i)
		s.offer(d, f)
		want = append(want, f...)
	}
	d.Drop()
	s.wantStream(t, want)
	s.finish(t)
	if b, w := used(bodies.Budget), used(writes.Budget); b != 0 || w != 0 {
		t.Errorf("%d and %d bytes are still charged", b, w)
	}
}
