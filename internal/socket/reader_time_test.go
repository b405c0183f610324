package socket

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// frameTimeout is the frame timeout of the tests in virtual time.
const frameTimeout = 30 * time.Second

func newTimedReader(t *testing.T) *testReader {
	config := readerConfig()
	config.FrameTimeout = frameTimeout
	rd := newTestReader(t, pipe, config)
	rd.serve()
	return rd
}

// wantFrameTimeout waits for the end of the reading, which must come when the rest of a frame
// has taken frameTimeout since begin.
func wantFrameTimeout(t *testing.T, rd *testReader, begin time.Time) {
	t.Helper()
	if err := <-rd.ended; !errors.Is(err, ErrFrameTimeout) {
		t.Fatalf("ended with %v, want %v", err, ErrFrameTimeout)
	}
	if took := time.Since(begin); took != frameTimeout {
		t.Errorf("cut after %v, want %v", took, frameTimeout)
	}
}

func wantAlive(t *testing.T, rd *testReader) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-rd.ended:
		t.Fatalf("ended with %v", err)
	default:
	}
}

// sleep lets virtual time pass.
func sleep(d time.Duration) { <-time.After(d) }

func TestReader_FrameTimeout(t *testing.T) {
	for _, test := range []struct {
		name  string
		parts [][]byte
	}{
		{"one byte", [][]byte{{0}}},
		{"the length", [][]byte{frame(10)[:4]}},
		{"all but one byte", [][]byte{frame(10)[:9]}},
		{"behind a whole frame", [][]byte{slices.Concat(frame(10), frame(10)[:6])}},
		{"of a large frame", [][]byte{frame(1 << 20)[:20_000]}},
		{"of a large frame that has its memory", [][]byte{frame(1 << 20)[:readSize+1]}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rd := newTimedReader(t)
				sleep(time.Hour) // before the frame, the client can be silent
				rd.write(test.parts...)
				wantFrameTimeout(t, rd, time.Now())
			})
		})
	}
}

func TestReader_FrameTimeout_SlowBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rd := newTimedReader(t)
		begin := time.Now()
		f := frame(1000)
		for i := range 3 {
			rd.write(f[i : i+1])
			sleep(9 * time.Second)
		}
		wantAlive(t, rd)
		rd.write(f[3:4])
		wantFrameTimeout(t, rd, begin)
	})
}

// TestReader_MinFrameRate sends frames, second by second, at a rate a little above and a
// little below the minimum rate.
func TestReader_MinFrameRate(t *testing.T) {
	for _, size := range []int{minFrameRate * 50, 1 << 20} { // in a start buffer, and in final memory
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rd := newTimedReader(t)
				for range 2 {
					for _, part := range chunks(frame(size), minFrameRate+40) {
						rd.write(part)
						wantAlive(t, rd)
						sleep(time.Second)
					}
				}
				begin := time.Now()
				for _, part := range chunks(frame(size), minFrameRate-40)[:frameTimeout/time.Second] {
					rd.write(part)
					wantAlive(t, rd)
					sleep(time.Second - 1)
				}
				wantFrameTimeout(t, rd, begin)
			})
		})
	}
}

// TestReader_FrameTimeout_AfterProgressStops sends a frame that progresses fast enough and
// then stops.
func TestReader_FrameTimeout_AfterProgressStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rd := newTimedReader(t)
		for _, part := range chunks(frame(1 << 20)[:200_000], 12_000) {
			rd.write(part)
			sleep(9 * time.Second)
		}
		rd.write(frame(1 << 20)[200_000:250_000])
		wantFrameTimeout(t, rd, time.Now())
	})
}

func TestReader_FrameTimeout_IdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rd := newTimedReader(t)
		for range 3 {
			sleep(1000 * time.Hour)
			rd.write(frame(10))
			rd.write(frame(100_000))
			wantAlive(t, rd)
		}
		rd.closeAndWait(t)
	})
}

// TestReader_FrameTimeout_StaleDeadline finishes frames just in time: the deadline of one
// frame expires between two frames, and that of another in the middle of the next frame.
func TestReader_FrameTimeout_StaleDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rd := newTimedReader(t)
		f := frame(10)
		rd.write(f[:5])
		sleep(29 * time.Second)
		rd.write(f[5:])
		sleep(5 * time.Second) // the deadline expires while the client is idle
		wantAlive(t, rd)
		for range 3 {
			rd.write(f[:5])
			sleep(20 * time.Second)
			rd.write(f[5:])
			sleep(5 * time.Second)
			rd.write(f[:5]) // the deadline of the previous frame expires in this frame
			sleep(29 * time.Second)
			wantAlive(t, rd)
			rd.write(f[5:])
		}
		rd.write(f[:5])
		wantFrameTimeout(t, rd, time.Now())
	})
}

func TestReader_FrameTimeout_ConsecutiveFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rd := newTimedReader(t)
		f := frame(10)
		rd.write(f[:5])
		for range 100 { // never between two frames
			sleep(frameTimeout - 1)
			rd.write(slices.Concat(f[5:], f[:5]))
		}
		wantAlive(t, rd)
		wantFrameTimeout(t, rd, time.Now())
	})
}

// TestReader_FrameTimeout_ExcludesMemoryWait has a frame wait for memory for longer than the
// frame timeout.
func TestReader_FrameTimeout_ExcludesMemoryWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rd := newTimedReader(t)
		other := rd.bodyBudget.Budget.NewAccount(4 << 20).TryAcquire(4 << 20)
		f := frame(100_000)
		rd.write(f[:readSize])
		sleep(10 * frameTimeout)
		wantAlive(t, rd)
		other.Release()
		sleep(frameTimeout - 1)
		rd.write(f[readSize:90_000])
		wantAlive(t, rd)
		sleep(1)
		if err := <-rd.ended; !errors.Is(err, ErrFrameTimeout) {
			t.Errorf("ended with %v, want %v", err, ErrFrameTimeout)
		}
	})
}

// TestReader_FrameTimeout_ExcludesHandling has the owner handle a frame slowly while the start
// of the next frame is already read.
func TestReader_FrameTimeout_ExcludesHandling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := readerConfig()
		config.FrameTimeout = frameTimeout
		rd := newTestReader(t, pipe, config)
		rd.handle = func(Frame) { sleep(10 * frameTimeout) }
		rd.serve()
		f := frame(10)
		rd.write(slices.Concat(f, f[:5]))
		sleep(10*frameTimeout + frameTimeout - 1)
		wantAlive(t, rd)
		rd.write(f[5:])
		sleep(10 * frameTimeout)
		wantAlive(t, rd)
		rd.closeAndWait(t)
	})
}

func TestReader_Interrupt(t *testing.T) {
	for _, test := range []struct {
		name      string
		interrupt func(*Conn)
	}{
		{"at once", func(c *Conn) { c.Interrupt() }},
		{"when all is read", func(c *Conn) { c.StopWhenEmpty() }},
		{"twice", func(c *Conn) { c.Interrupt(); c.StopWhenEmpty() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			onTransports(t, func(t *testing.T, tr testTransport) {
				for _, part := range [][]byte{nil, smallStream(), frame(10)[:5], frame(100_000)[:80_000]} {
					rd := newTestReader(t, tr, readerConfig())
					rd.serve()
					rd.write(part)
					waitUntil(t, "all is read", func() bool { return rd.BytesRead() == tr.wireSize(len(part)) })
					test.interrupt(rd.Conn)
					if err := waitFor(t, "the end", rd.ended); !errors.Is(err, ErrInterrupted) {
						t.Errorf("ended with %v, want %v", err, ErrInterrupted)
					}
				}
			})
		})
	}
}

func TestReader_Interrupt_IsSticky(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		near, _ := tr.open(t)
		c := New(near, readerConfig(), nopHandler{})
		defer c.ReleaseAll()
		c.Interrupt()
		for range 3 {
			if err := c.Fill(); !errors.Is(err, ErrInterrupted) {
				t.Errorf("ended with %v, want %v", err, ErrInterrupted)
			}
		}
	})
}
