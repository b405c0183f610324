package socket

import (
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stallTimeout is that of the tests in virtual time.
const stallTimeout = 10 * time.Second

// newSlow makes a station with a stall timeout whose peer takes some bytes every
// so often, with one frame queued and senders waiting with others.
func newSlow(t *testing.T, peer peer, size, senders int) (s *station, waiting []*enqueued) {
	s = newStation(t, peer.link(), Config{OutboxBytes: 1000, StallTimeout: stallTimeout})
	s.enqueue(frame(size))
	for range senders {
		waiting = append(waiting, s.enqueue(frame(size)))
	}
	return s, waiting
}

// peer takes some bytes every so often.
type peer struct {
	bytes int
	every time.Duration
}

// taker is the near end of a peer's connection: a write takes as long as the peer
// needs and tells how much it took, as that of a socket does.
type taker struct {
	net.Conn
	peer
}

func (p peer) link() link {
	return link{"taker", func(t testing.TB) (near, far net.Conn) {
		near, far = openPipe(t)
		return taker{near, p}, far
	}}
}

func (k taker) Write(b []byte) (int, error) {
	closed := make(chan struct{})
	go func() { // ends with the connection, or with a byte that never comes
		defer close(closed)
		k.Read(make([]byte, 1))
	}()
	select {
	case <-time.After(k.every):
		k.SetReadDeadline(time.Now())
		<-closed
		k.SetReadDeadline(time.Time{})
		return min(k.bytes, len(b)), nil
	case <-closed:
		return 0, net.ErrClosed
	}
}

// wantStalled waits for the cut, which must come at the given time, and looks
// whether everybody went on and nothing is left.
func (s *station) wantStalled(t *testing.T, at time.Time) {
	t.Helper()
	if err := <-s.failed; !errors.Is(err, ErrStalled) {
		t.Fatalf("failed with %v, want %v", err, ErrStalled)
	}
	if late := time.Since(at); late != 0 {
		t.Errorf("cut %v late", late)
	}
	s.Wait()
	synctest.Wait()
	s.wantSettled(t)
}

func (s *station) wantAlive(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-s.failed:
		t.Fatalf("failed with %v", err)
	default:
	}
}

func TestAPeerThatTakesTooLittleIsCut(t *testing.T) {
	for _, test := range []struct {
		name string
		size int // of the frames
		peer peer
	}{
		{"nothing", 10_000, peer{1, time.Hour}},
		{"one byte now and then", 10_000, peer{1, time.Second}},
		{"a frame, but for a byte", 10_000, peer{9_999 / 3, 3 * time.Second}},
		{"a frame too late", 10_000, peer{10_000, stallTimeout + 1}},
		{"less than 64 KiB of a large frame", 1 << 20, peer{10_000, 2 * time.Second}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, waiting := newSlow(t, test.peer, test.size, 2)
				s.wantStalled(t, time.Now().Add(stallTimeout))
				if got := <-waiting[1].outcome; got != Gone { // the bytes may have made room for the one before
					t.Errorf("a sender that waited: %v, want %v", got, Gone)
				}
			})
		})
	}
}

func TestAPeerThatTakesEnoughIsNotCut(t *testing.T) {
	for _, test := range []struct {
		name string
		size int // of the frames
		peer peer
	}{
		{"a frame in time", 10_000, peer{10_000, stallTimeout - 1}},
		{"a frame in two parts", 10_000, peer{5_000, stallTimeout/2 - 1}},
		{"64 KiB of a large frame", 1 << 20, peer{progressBytes, stallTimeout - 1}},
		{"64 KiB of a large frame, bit by bit", 1 << 20, peer{1000, 100 * time.Millisecond}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, waiting := newSlow(t, test.peer, test.size, 5) // somebody always waits
				for _, w := range waiting {
					if got := <-w.outcome; got != Queued {
						t.Fatalf("a sender that waited: %v, want %v", got, Queued)
					}
				}
				s.wantAlive(t)
				if !s.Drain(nil) {
					t.Error("Drain has given up")
				}
				s.Close()
				s.Wait()
				s.wantSettled(t)
			})
		})
	}
}

// TestAPeerIsCutThoughNewSendersCome, each of whom has not waited long.
func TestAPeerIsCutThoughNewSendersCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSlow(t, peer{1, time.Second}, 10_000, 1)
		begin := time.Now()
		for range 3 {
			pass(3 * time.Second)
			s.enqueue(frame(100))
		}
		s.wantStalled(t, begin.Add(stallTimeout))
	})
}

func TestNobodyIsCutWhileNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, pipe, Config{OutboxBytes: 1000, StallTimeout: stallTimeout})
		s.enqueue(frame(10_000))
		pass(time.Hour)
		s.wantAlive(t)
		s.enqueue(frame(100)) // from now on somebody waits
		s.wantStalled(t, time.Now().Add(stallTimeout))
	})
}

func TestTheClockStartsAnewForTheNextWhoWaits(t *testing.T) {
	for _, pause := range []time.Duration{time.Second, 5 * time.Second} { // the old timer still runs, or has run out
		synctest.Test(t, func(t *testing.T) {
			s, all := newSlow(t, peer{1, time.Second}, 10_000, 1)
			waiting := all[0]
			for range 3 {
				pass(stallTimeout - 2*time.Second)
				close(waiting.cancel)
				if got := <-waiting.outcome; got != Parked {
					t.Fatalf("withdrawn: %v, want %v", got, Parked)
				}
				s.add(&s.offered, Tally{-1, -1, -10_000})
				pass(pause)
				waiting = s.enqueue(frame(10_000))
			}
			s.wantStalled(t, time.Now().Add(stallTimeout))
		})
	}
}

func TestWithoutAStallTimeoutNobodyIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, pipe, Config{OutboxBytes: 1000})
		s.enqueue(frame(10_000))
		s.enqueue(frame(10_000))
		pass(1000 * time.Hour)
		s.wantAlive(t)
		s.finish(t)
	})
}

func TestDrainWaitsUntilAllIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, pipe, Config{OutboxBytes: 1000, StallTimeout: stallTimeout})
		if !s.Drain(nil) {
			t.Error("there is nothing to drain")
		}
		s.enqueue(frame(10_000))
		parked := s.enqueue(frame(10_001))
		drained := make(chan bool, 1)
		go func() { drained <- s.Drain(nil) }() // ends when all is written
		s.wantStream(t, frame(10_000))
		synctest.Wait()
		if len(drained) > 0 || parked.waits() {
			t.Fatal("what was parked is not written yet")
		}
		s.wantStream(t, frame(10_001))
		if !<-drained {
			t.Error("all is written, and Drain says it is not")
		}
		s.finish(t)
	})
}

func TestDrainGivesUp(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration
		do    func(s *station, stop chan struct{})
	}{
		{"when it is stopped", time.Second, func(_ *station, stop chan struct{}) { close(stop) }},
		{"when the connection is closed", time.Second, func(s *station, _ chan struct{}) { s.Close() }},
		{"when the peer stalls", stallTimeout, func(*station, chan struct{}) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStation(t, pipe, Config{OutboxBytes: 100_000, StallTimeout: stallTimeout})
				s.enqueue(frame(10_000))
				begin, stop := time.Now(), make(chan struct{})
				time.AfterFunc(test.after, func() { test.do(s, stop) })
				if s.Drain(stop) {
					t.Error("nothing was written, and Drain says it was")
				}
				if took := time.Since(begin); took != test.after {
					t.Errorf("gave up after %v, want %v", took, test.after)
				}
				s.Close()
				s.Wait()
				s.wantSettled(t)
			})
		})
	}
}

// TestOneDrainDoesNotEndTheClockOfAnother stops one of two who wait for the end.
func TestOneDrainDoesNotEndTheClockOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, pipe, Config{OutboxBytes: 100_000, StallTimeout: stallTimeout})
		s.enqueue(frame(10_000))
		begin, drained := time.Now(), make(chan bool, 1)
		go func() { drained <- s.Drain(nil) }() // ends when the peer stalls
		synctest.Wait()
		if s.Drain(closed()) {
			t.Error("nothing was written, and Drain says it was")
		}
		s.wantStalled(t, begin.Add(stallTimeout))
		if <-drained {
			t.Error("nothing was written, and Drain says it was")
		}
	})
}

// TestDrainWaitsForWhatComesMeanwhile has somebody offer more all the time. Drain
// may wait for that or not, but must not give up.
func TestDrainWaitsForWhatComesMeanwhile(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 100_000})
	go io.Copy(io.Discard, s.far) // ends with the connection
	ended := make(chan struct{})
	var drainers sync.WaitGroup
	for range 20 {
		drainers.Go(func() {
			for over := false; !over; {
				select {
				case <-ended:
					over = true
				default:
				}
				if !s.Drain(nil) {
					t.Error("Drain says that something is left")
					return
				}
				runtime.Gosched()
			}
		})
	}
	d := s.dispatch()
	for range 3000 {
		s.offer(d, frame(100))
		d.Wait(nil)
	}
	d.Drop()
	close(ended)
	drainers.Wait()
	s.Close()
	s.Wait()
	s.wantSettled(t)
}

func TestAStalledPeerIsCutOverTCP(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 100_000, StallTimeout: 50 * time.Millisecond, UnsentBytes: 16 << 10})
	s.far.(*net.TCPConn).SetReadBuffer(4 << 10)
	d := s.dispatch()
	for s.offer(d, frame(100_000)) != Gone { // until the peer is cut
		if !d.Wait(nil) {
			t.Error("Wait says that it was stopped")
		}
	}
	if err := within(t, "the cut", s.failed); !errors.Is(err, ErrStalled) {
		t.Errorf("failed with %v, want %v", err, ErrStalled)
	}
	d.Drop()
	s.Wait()
	s.wantSettled(t)
}

// TestWhoWaitsIsNotKeptByAPeerThatStalls presses and eases: only while somebody waits must the peer take anything.
func TestWhoWaitsIsNotKeptByAPeerThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, pipe, Config{OutboxBytes: 100_000, StallTimeout: stallTimeout})
		s.enqueue(frame(10_000))
		s.Press()
		time.Sleep(stallTimeout - time.Nanosecond)
		s.Ease()
		time.Sleep(3 * stallTimeout)
		s.wantStream(t, frame(10_000)) // it lives

		s.enqueue(frame(10_000))
		begin := time.Now()
		s.Press()
		s.wantStalled(t, begin.Add(stallTimeout))
		s.Ease()
	})
}
