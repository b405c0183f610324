package socket

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// TestTransport_Interrupt_LeavesUsable interrupts a Read that waits, and reads again.
func TestTransport_Interrupt_LeavesUsable(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		near, far := tr.open(t)
		c := New(near, readerConfig(), nopHandler{})
		defer c.ReleaseAll()
		ended := make(chan error, 1)
		read := func() { // ends with the Read
			_, err := c.transport().Read()
			ended <- err
		}
		go read()
		c.transport().Interrupt(pastDeadline)
		if err := waitFor(t, "the Read", ended); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("an interrupted Read: %v", err)
		}
		c.Reader.returnBuffer()
		c.transport().Interrupt(time.Time{})
		go read()
		if _, err := far.Write(frame(10)); err != nil {
			t.Fatal(err)
		}
		if err := waitFor(t, "the Read", ended); err != nil {
			t.Errorf("a Read after that: %v", err)
		}
	})
}

// TestTransport_Write_DoesNotWait fills a connection without waiting, and then waits for room.
func TestTransport_Write_DoesNotWait(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		near, far := tr.open(t)
		c := New(near, readerConfig(), nopHandler{})
		if c.transport().MaxWrite() > 0 {
			t.Skip("it can wait")
		}
		if tr.webSocket {
			t.Skip("a message that is begun is pending: see TestWebSocketTransport_Write_Model")
		}
		want := 0
		for n := 1; n > 0; want += n {
			var pending int
			var err error
			if n, pending, err = c.transport().Write([][]byte{make([]byte, 1000), make([]byte, 20_000)}, false); err != nil || pending != 0 {
				t.Fatalf("%d bytes are pending: %v", pending, err)
			}
		}
		received := make(chan int64, 1)
		go func() { // ends with the connection
			n, _ := io.Copy(io.Discard, far)
			received <- n
		}()
		if n, pending, err := c.transport().Write(nil, true); n != 0 || pending != 0 || err != nil {
			t.Errorf("waiting for room: %d bytes, %d pending, %v", n, pending, err)
		}
		n, _, err := c.transport().Write([][]byte{{1}}, false)
		if n != 1 || err != nil {
			t.Errorf("with room: %d bytes, %v", n, err)
		}
		c.Close()
		if got := waitFor(t, "the end", received); got != int64(want+1) {
			t.Errorf("%d bytes arrived, want %d", got, want+1)
		}
	})
}

func TestTransport_Close_EndsReadAndWrite(t *testing.T) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		for _, how := range []closeMode{closeNow, closeReset} {
			near, far := tr.open(t)
			c := New(near, readerConfig(), nopHandler{})
			ended := make(chan error, 1)
			go func() { // ends with the connection
				_, err := c.transport().Read()
				ended <- err
			}()
			if err := c.transport().Close(how); err != nil {
				t.Error(err)
			}
			if err := waitFor(t, "the Read", ended); err == nil {
				t.Error("the Read has no error")
			}
			if _, _, err := c.transport().Write([][]byte{{1}}, true); err == nil {
				t.Error("the Write has no error")
			}
			if _, err := far.Read(make([]byte, 1)); err == nil {
				t.Error("the peer does not see the end")
			}
			c.ReleaseAll()
		}
	})
}
