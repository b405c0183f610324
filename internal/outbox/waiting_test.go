package outbox

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

// stallTimeout is the stall timeout of the tests in virtual time.
const stallTimeout = 10 * time.Second

// newSlowTestConn returns a testConn with a stall timeout and a slow peer, with one queued
// frame and blocked senders.
func newSlowTestConn(t *testing.T, peer slowPeer, size, senders int) (tc *testConn, waiting []*pendingOffer) {
	tc = newTestConn(t, peer.transport(), Config{MaxBytes: 1000, StallTimeout: stallTimeout})
	tc.startOfferWait(frame(size))
	for range senders {
		waiting = append(waiting, tc.startOfferWait(frame(size)))
	}
	return tc, waiting
}

// slowPeer accepts some bytes per interval.
type slowPeer struct {
	bytes int
	every time.Duration
}

// slowPeerConn is the near end of a connection to a slowPeer: a write takes as long as the
// peer needs and returns how many bytes the peer has accepted, as that of a socket does.
type slowPeerConn struct {
	net.Conn
	slowPeer
}

func (p slowPeer) transport() testTransport {
	return testTransport{"slow peer", MinProgress, func(testing.TB) (testWriter, net.Conn) {
		near, far := net.Pipe()
		return pipeWriter{slowPeerConn{near, p}}, far
	}}
}

func (k slowPeerConn) Write(b []byte) (int, error) {
	closed := make(chan struct{})
	go func() { // ends with the connection, or with a byte that never arrives
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

// wantStalled waits for ErrStalled, which must come at the given time, and checks that all
// senders have continued and no frame is left.
func (tc *testConn) wantStalled(t *testing.T, at time.Time) {
	t.Helper()
	if err := <-tc.failed; !errors.Is(err, ErrStalled) {
		t.Fatalf("failed with %v, want %v", err, ErrStalled)
	}
	if delay := time.Since(at); delay != 0 {
		t.Errorf("cut %v too late", delay)
	}
	tc.Wait()
	synctest.Wait()
	tc.wantAllReleased(t)
}

func (tc *testConn) wantAlive(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-tc.failed:
		t.Fatalf("failed with %v", err)
	default:
	}
}

func TestOutbox_Stall_TooSlowPeer(t *testing.T) {
	for _, test := range []struct {
		name string
		size int // of the frames
		peer slowPeer
	}{
		{"nothing", 10_000, slowPeer{1, time.Hour}},
		{"one byte now and then", 10_000, slowPeer{1, time.Second}},
		{"a frame, but for a byte", 10_000, slowPeer{9_999 / 3, 3 * time.Second}},
		{"a frame too late", 10_000, slowPeer{10_000, stallTimeout + 1}},
		{"less than 64 KiB of a large frame", 1 << 20, slowPeer{10_000, 2 * time.Second}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc, waiting := newSlowTestConn(t, test.peer, test.size, 2)
				tc.wantStalled(t, time.Now().Add(stallTimeout))
				if got := <-waiting[1].outcome; got != Closed { // the first sender can have got room
					t.Errorf("a blocked sender: %v, want %v", got, Closed)
				}
			})
		})
	}
}

func TestOutbox_Stall_FastEnoughPeer(t *testing.T) {
	for _, test := range []struct {
		name string
		size int // of the frames
		peer slowPeer
	}{
		{"a frame in time", 10_000, slowPeer{10_000, stallTimeout - 1}},
		{"a frame in two parts", 10_000, slowPeer{5_000, stallTimeout/2 - 1}},
		{"64 KiB of a large frame", 1 << 20, slowPeer{MinProgress, stallTimeout - 1}},
		{"64 KiB of a large frame, bit by bit", 1 << 20, slowPeer{1000, 100 * time.Millisecond}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc, waiting := newSlowTestConn(t, test.peer, test.size, 5) // there is always a blocked sender
				for _, w := range waiting {
					if got := <-w.outcome; got != Queued {
						t.Fatalf("a blocked sender: %v, want %v", got, Queued)
					}
				}
				tc.wantAlive(t)
				if !tc.Drain(nil) {
					t.Error("Drain has failed")
				}
				tc.Close()
				tc.Wait()
				tc.wantAllReleased(t)
			})
		})
	}
}

// TestOutbox_Stall_NewSendersKeepTimer checks that new blocked senders, each of which waits a
// short time, do not restart the timer.
func TestOutbox_Stall_NewSendersKeepTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, _ := newSlowTestConn(t, slowPeer{1, time.Second}, 10_000, 1)
		begin := time.Now()
		for range 3 {
			sleep(3 * time.Second)
			tc.startOfferWait(frame(100))
		}
		tc.wantStalled(t, begin.Add(stallTimeout))
	})
}

func TestOutbox_Stall_NoWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, pipe, Config{MaxBytes: 1000, StallTimeout: stallTimeout})
		tc.startOfferWait(frame(10_000))
		sleep(time.Hour)
		tc.wantAlive(t)
		tc.startOfferWait(frame(100)) // from now on a sender waits
		tc.wantStalled(t, time.Now().Add(stallTimeout))
	})
}

func TestOutbox_Stall_TimerRestartsForNextWaiter(t *testing.T) {
	for _, pause := range []time.Duration{time.Second, 5 * time.Second} { // timer running, or over
		synctest.Test(t, func(t *testing.T) {
			tc, offers := newSlowTestConn(t, slowPeer{1, time.Second}, 10_000, 1)
			waiting := offers[0]
			for range 3 {
				sleep(stallTimeout - 2*time.Second)
				close(waiting.cancel)
				if got := <-waiting.outcome; got != Blocked {
					t.Fatalf("cancelled send: %v, want %v", got, Blocked)
				}
				tc.addCounts(&tc.offered, Counts{-1, -1, -10_000})
				sleep(pause)
				waiting = tc.startOfferWait(frame(10_000))
			}
			tc.wantStalled(t, time.Now().Add(stallTimeout))
		})
	}
}

func TestOutbox_Stall_ZeroTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, pipe, Config{MaxBytes: 1000})
		tc.startOfferWait(frame(10_000))
		tc.startOfferWait(frame(10_000))
		sleep(1000 * time.Hour)
		tc.wantAlive(t)
		tc.drainAndClose(t)
	})
}

func TestOutbox_Drain_WaitsUntilWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, pipe, Config{MaxBytes: 1000, StallTimeout: stallTimeout})
		if !tc.Drain(nil) {
			t.Error("Drain of an empty outbox failed")
		}
		tc.startOfferWait(frame(10_000))
		blocked := tc.startOfferWait(frame(10_001))
		drained := make(chan bool, 1)
		go func() { drained <- tc.Drain(nil) }() // ends when all is written
		tc.wantStream(t, frame(10_000))
		synctest.Wait()
		if len(drained) > 0 || blocked.isWaiting() {
			t.Fatal("Drain has returned before the blocked send was written")
		}
		tc.wantStream(t, frame(10_001))
		if !<-drained {
			t.Error("all frames are written, and Drain returned false")
		}
		tc.drainAndClose(t)
	})
}

func TestOutbox_Drain_Stops(t *testing.T) {
	for _, test := range []struct {
		name  string
		after time.Duration
		do    func(tc *testConn, stop chan struct{})
	}{
		{"when it is stopped", time.Second, func(_ *testConn, stop chan struct{}) { close(stop) }},
		{"when the connection is closed", time.Second, func(tc *testConn, _ chan struct{}) { tc.Close() }},
		{"when the peer stalls", stallTimeout, func(*testConn, chan struct{}) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc := newTestConn(t, pipe, Config{MaxBytes: 100_000, StallTimeout: stallTimeout})
				tc.startOfferWait(frame(10_000))
				begin, stop := time.Now(), make(chan struct{})
				time.AfterFunc(test.after, func() { test.do(tc, stop) })
				if tc.Drain(stop) {
					t.Error("no frame was written, and Drain returned true")
				}
				if took := time.Since(begin); took != test.after {
					t.Errorf("gave up after %v, want %v", took, test.after)
				}
				tc.Close()
				tc.Wait()
				tc.wantAllReleased(t)
			})
		})
	}
}

// TestOutbox_Drain_StoppedDrainKeepsStallTimer stops one of two concurrent Drains.
func TestOutbox_Drain_StoppedDrainKeepsStallTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, pipe, Config{MaxBytes: 100_000, StallTimeout: stallTimeout})
		tc.startOfferWait(frame(10_000))
		begin, drained := time.Now(), make(chan bool, 1)
		go func() { drained <- tc.Drain(nil) }() // ends when the peer stalls
		synctest.Wait()
		if tc.Drain(closedChan()) {
			t.Error("no frame was written, and Drain returned true")
		}
		tc.wantStalled(t, begin.Add(stallTimeout))
		if <-drained {
			t.Error("no frame was written, and Drain returned true")
		}
	})
}

// TestOutbox_Drain_ConcurrentOffers offers more frames all the time. Drain can wait for these
// or not, but must not fail.
func TestOutbox_Drain_ConcurrentOffers(t *testing.T) {
	tc := newTestConn(t, memory, Config{MaxBytes: 100_000})
	go io.Copy(io.Discard, tc.far) // ends with the connection
	ended := make(chan struct{})
	var drainers sync.WaitGroup
	for range 20 {
		drainers.Go(func() {
			for stopped := false; !stopped; {
				select {
				case <-ended:
					stopped = true
				default:
				}
				if !tc.Drain(nil) {
					t.Error("Drain returned false")
					return
				}
				runtime.Gosched()
			}
		})
	}
	fl := tc.newFlusher()
	for range 3000 {
		tc.offer(fl, frame(100))
		fl.Wait(nil)
	}
	fl.Reset()
	close(ended)
	drainers.Wait()
	tc.Close()
	tc.Wait()
	tc.wantAllReleased(t)
}

// TestOutbox_Stall_StartAndStopTimer checks that a peer must accept data only between
// StartStallTimer and StopStallTimer.
func TestOutbox_Stall_StartAndStopTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc := newTestConn(t, pipe, Config{MaxBytes: 100_000, StallTimeout: stallTimeout})
		tc.startOfferWait(frame(10_000))
		tc.StartStallTimer()
		time.Sleep(stallTimeout - time.Nanosecond)
		tc.StopStallTimer()
		time.Sleep(3 * stallTimeout)
		tc.wantStream(t, frame(10_000)) // the connection is alive

		tc.startOfferWait(frame(10_000))
		begin := time.Now()
		tc.StartStallTimer()
		tc.wantStalled(t, begin.Add(stallTimeout))
		tc.StopStallTimer()
	})
}
