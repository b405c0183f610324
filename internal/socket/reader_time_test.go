package socket

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// frameTimeout is that of the tests in virtual time.
const frameTimeout = 30 * time.Second

func timed(t *testing.T) *bench {
	config := readerConfig()
	config.FrameTimeout = frameTimeout
	b := newBench(t, pipe, config)
	b.serve()
	return b
}

// wantCut waits for the end of the reading, which must come when the rest of a
// frame has taken too long since begin.
func wantCut(t *testing.T, b *bench, begin time.Time) {
	t.Helper()
	if err := <-b.ended; !errors.Is(err, ErrFrameTimeout) {
		t.Fatalf("ended with %v, want %v", err, ErrFrameTimeout)
	}
	if took := time.Since(begin); took != frameTimeout {
		t.Errorf("cut after %v, want %v", took, frameTimeout)
	}
}

func wantAlive(t *testing.T, b *bench) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-b.ended:
		t.Fatalf("ended with %v", err)
	default:
	}
}

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }

func TestHalfAFrameIsCut(t *testing.T) {
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
				b := timed(t)
				pass(time.Hour) // before it, the client may be silent
				b.write(test.parts...)
				wantCut(t, b, time.Now())
			})
		})
	}
}

func TestDrippingDoesNotSaveAFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := timed(t)
		begin := time.Now()
		f := frame(1000)
		for i := range 3 {
			b.write(f[i : i+1])
			pass(9 * time.Second)
		}
		wantAlive(t, b)
		b.write(f[3:4])
		wantCut(t, b, begin)
	})
}

// TestReader_FrameThatProgresses brings frames, second by second, at a rate a little above and a little below the least one.
func TestReader_FrameThatProgresses(t *testing.T) {
	for _, size := range []int{minFrameRate * 50, 1 << 20} { // held as the start of a frame, and in its own memory
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := timed(t)
				for range 2 {
					for _, part := range chunks(frame(size), minFrameRate+40) {
						b.write(part)
						wantAlive(t, b)
						pass(time.Second)
					}
				}
				begin := time.Now()
				for _, part := range chunks(frame(size), minFrameRate-40)[:frameTimeout/time.Second] {
					b.write(part)
					wantAlive(t, b)
					pass(time.Second - 1)
				}
				wantCut(t, b, begin)
			})
		})
	}
}

// TestReader_FrameThatStopsIsCutToTheMoment has one that came fast enough until then.
func TestReader_FrameThatStopsIsCutToTheMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := timed(t)
		for _, part := range chunks(frame(1 << 20)[:200_000], 12_000) {
			b.write(part)
			pass(9 * time.Second)
		}
		b.write(frame(1 << 20)[200_000:250_000])
		wantCut(t, b, time.Now())
	})
}

func TestAnIdleConnectionIsNeverCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := timed(t)
		for range 3 {
			pass(1000 * time.Hour)
			b.write(frame(10))
			b.write(frame(100_000))
			wantAlive(t, b)
		}
		b.end(t)
	})
}

// TestAnOldDeadlineDoesNotCut finishes frames just in time, so that the deadline
// of one expires between two frames, and in the middle of another.
func TestAnOldDeadlineDoesNotCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := timed(t)
		f := frame(10)
		b.write(f[:5])
		pass(29 * time.Second)
		b.write(f[5:])
		pass(5 * time.Second) // expires while the client is idle
		wantAlive(t, b)
		for range 3 {
			b.write(f[:5])
			pass(20 * time.Second)
			b.write(f[5:])
			pass(5 * time.Second)
			b.write(f[:5]) // the deadline of the one before expires in this one
			pass(29 * time.Second)
			wantAlive(t, b)
			b.write(f[5:])
		}
		b.write(f[:5])
		wantCut(t, b, time.Now())
	})
}

func TestFramesThatGoOnAreNotCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := timed(t)
		f := frame(10)
		b.write(f[:5])
		for range 100 { // never between two frames
			pass(frameTimeout - 1)
			b.write(slices.Concat(f[5:], f[:5]))
		}
		wantAlive(t, b)
		wantCut(t, b, time.Now())
	})
}

// TestWaitingForMemoryIsNotThePeersTime has a frame wait for memory for longer
// than its rest may take.
func TestWaitingForMemoryIsNotThePeersTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := timed(t)
		other := b.bodies.Budget.Account(4 << 20).TryDraw(4 << 20)
		f := frame(100_000)
		b.write(f[:readSize])
		pass(10 * frameTimeout)
		wantAlive(t, b)
		other.Release()
		pass(frameTimeout - 1)
		b.write(f[readSize:90_000])
		wantAlive(t, b)
		pass(1)
		if err := <-b.ended; !errors.Is(err, ErrFrameTimeout) {
			t.Errorf("ended with %v, want %v", err, ErrFrameTimeout)
		}
	})
}

// TestTimeSpentOnAFrameIsNotThePeersTime has the owner take its time over a frame
// behind which the start of another lies.
func TestTimeSpentOnAFrameIsNotThePeersTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := readerConfig()
		config.FrameTimeout = frameTimeout
		b := newBench(t, pipe, config)
		b.handle = func(Frame) { pass(10 * frameTimeout) }
		b.serve()
		f := frame(10)
		b.write(slices.Concat(f, f[:5]))
		pass(10*frameTimeout + frameTimeout - 1)
		wantAlive(t, b)
		b.write(f[5:])
		pass(10 * frameTimeout)
		wantAlive(t, b)
		b.end(t)
	})
}

func TestInterrupt(t *testing.T) {
	for _, test := range []struct {
		name      string
		interrupt func(*Conn)
	}{
		{"at once", func(c *Conn) { c.Interrupt() }},
		{"when all is read", func(c *Conn) { c.Finish() }},
		{"twice", func(c *Conn) { c.Interrupt(); c.Finish() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			onLinks(t, func(t *testing.T, l link) {
				for _, part := range [][]byte{nil, smallStream(), frame(10)[:5], frame(100_000)[:80_000]} {
					b := newBench(t, l, readerConfig())
					b.serve()
					b.write(part)
					until(t, "all is read", func() bool { return b.Brought() == int64(len(part)) })
					test.interrupt(b.Conn)
					if err := within(t, "the end", b.ended); !errors.Is(err, ErrInterrupted) {
						t.Errorf("ended with %v, want %v", err, ErrInterrupted)
					}
				}
			})
		})
	}
}

func TestInterruptHoldsForEveryFillToCome(t *testing.T) {
	onLinks(t, func(t *testing.T, l link) {
		near, _ := l.open(t)
		c := New(near, readerConfig(), nobody{})
		defer c.Drop()
		c.Interrupt()
		for range 3 {
			if err := c.Fill(); !errors.Is(err, ErrInterrupted) {
				t.Errorf("ended with %v, want %v", err, ErrInterrupted)
			}
		}
	})
}
