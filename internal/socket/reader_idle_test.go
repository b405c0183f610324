package socket

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// fillIdle calls Fill until it has returned ErrIdle or a frame, and reports whether it was
// ErrIdle.
func fillIdle(t *testing.T, c *Conn) (idle bool) {
	t.Helper()
	for {
		err := c.Fill()
		if errors.Is(err, ErrIdle) {
			return true
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := readNext(c); err != nil {
			t.Fatal(err)
		} else if ok {
			return false
		}
	}
}

// TestReader_NotifyIdle checks the result of Fill when no data arrives, in the middle of a
// frame, and after a whole frame.
func TestReader_NotifyIdle(t *testing.T) {
	for _, tr := range []testTransport{tcp, overTLS} {
		t.Run(tr.name, func(t *testing.T) {
			near, far := tr.open(t)
			c := New(near, readerConfig(), nopHandler{})
			defer c.ReleaseAll()
			write := func(b []byte) {
				if _, err := far.Write(b); err != nil {
					t.Error(err)
				}
			}
			write(frame(10))
			if fillIdle(t, c) {
				t.Fatal("ErrIdle without NotifyIdle")
			}
			for range 2 {
				c.NotifyIdle(time.Millisecond)
				if !fillIdle(t, c) {
					t.Fatal("a frame was read, and none was written")
				}
				write(slices.Concat(frame(10), frame(100)[:50])) // the connection is still usable
				if fillIdle(t, c) {
					t.Fatal("a second ErrIdle after one NotifyIdle")
				}
				c.NotifyIdle(time.Millisecond)
				time.AfterFunc(20*time.Millisecond, func() { write(frame(100)[50:]) })
				if fillIdle(t, c) {
					t.Fatal("ErrIdle in the middle of a frame")
				}
			}
		})
	}
}

// TestReader_NotifyIdle_Interrupted interrupts the reading while a deadline for ErrIdle is
// set.
func TestReader_NotifyIdle_Interrupted(t *testing.T) {
	near, far := openTCP(t)
	c := New(near, readerConfig(), nopHandler{})
	defer c.ReleaseAll()
	if _, err := far.Write(frame(10)); err != nil {
		t.Fatal(err)
	}
	fillIdle(t, c)
	c.NotifyIdle(time.Hour)
	time.AfterFunc(time.Millisecond, c.Interrupt)
	if err := c.Fill(); !errors.Is(err, ErrInterrupted) {
		t.Errorf("got %v, want %v", err, ErrInterrupted)
	}
}
