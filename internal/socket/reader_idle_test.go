package socket

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// fillIdle calls Fill until it has returned ErrIdle or a frame, and reports which.
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

// TestReader_NotifyIdle looks at what Fill returns when nothing comes, a part of a frame, and more
// than that.
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
				t.Fatal("idle, and nobody has asked for that")
			}
			for range 2 {
				c.NotifyIdle(time.Millisecond)
				if !fillIdle(t, c) {
					t.Fatal("a frame, and none was written")
				}
				write(slices.Concat(frame(10), frame(100)[:50])) // as good as before
				if fillIdle(t, c) {
					t.Fatal("idle a second time, and nobody has asked again")
				}
				c.NotifyIdle(time.Millisecond)
				time.AfterFunc(20*time.Millisecond, func() { write(frame(100)[50:]) })
				if fillIdle(t, c) {
					t.Fatal("idle in the middle of a frame")
				}
			}
		})
	}
}

// TestReader_NotifyIdle_Interrupted has the reading interrupted when a deadline is set for idleness.
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
