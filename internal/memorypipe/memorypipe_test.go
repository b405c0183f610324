package memorypipe

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestConn_ReadAndWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := New()
		sent := make(chan error, 1)
		go func() { // ends when all is read
			_, err := near.Write(make([]byte, 3*Size))
			sent <- errors.Join(err, near.CloseWrite())
		}()
		synctest.Wait()
		if len(sent) > 0 {
			t.Error("more bytes were accepted than the pipe holds")
		}
		if n, err := io.Copy(io.Discard, far); n != 3*Size || err != nil {
			t.Errorf("%d bytes arrived, want %d: %v", n, 3*Size, err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

func TestConn_WriteVector_DoesNotWait(t *testing.T) {
	near, _ := New()
	for _, want := range []int{Size, 0} {
		if n, err := near.WriteVector([][]byte{make([]byte, 10), make([]byte, Size)}, false); n != want || err != nil {
			t.Errorf("%d bytes were accepted, want %d: %v", n, want, err)
		}
	}
}

func TestConn_ReadAvailable_DoesNotWait(t *testing.T) {
	near, far := New()
	for _, want := range []int{0, 1} {
		if n, err := near.ReadAvailable(make([]byte, 2)); n != want || err != nil {
			t.Errorf("%d bytes were read, want %d: %v", n, want, err)
		}
		far.Write([]byte{1})
	}
}

func TestConn_WaitReadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, makeReadable := range map[string]func(*Conn){
			"data":  func(far *Conn) { far.Write([]byte{1}) },
			"end":   func(far *Conn) { far.CloseWrite() },
			"reset": (*Conn).Reset,
		} {
			near, far := New()
			waited := make(chan error, 1)
			go func() { waited <- near.WaitReadable() }() // ends with makeReadable
			synctest.Wait()
			if len(waited) > 0 {
				t.Errorf("%s: readable too early", name)
			}
			makeReadable(far)
			if err := <-waited; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestConn_WaitReadable_DataBeforeDeadline checks that bytes that have arrived are readable
// after the deadline.
func TestConn_WaitReadable_DataBeforeDeadline(t *testing.T) {
	near, far := New()
	near.SetReadDeadline(time.Unix(1, 0))
	if err := near.WaitReadable(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("without data: %v", err)
	}
	far.Write([]byte{1})
	if err := near.WaitReadable(); err != nil {
		t.Errorf("with data: %v", err)
	}
}

func TestConn_SetReadDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := New()
		begin := time.Now()
		near.SetReadDeadline(begin.Add(time.Minute))
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Minute {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		near.SetReadDeadline(time.Time{})
		far.Write([]byte{1})
		if n, err := near.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("%d bytes after that: %v", n, err)
		}
	})
}

func TestConn_SetWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := New()
		begin := time.Now()
		near.SetDeadline(begin.Add(time.Minute))
		if n, err := near.Write(make([]byte, Size+1)); n != Size || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begin) != time.Minute {
			t.Errorf("%d bytes after %v: %v", n, time.Since(begin), err)
		}
		near.SetDeadline(time.Time{})
		far.Read(make([]byte, 1))
		if n, err := near.Write([]byte{1}); n != 1 || err != nil {
			t.Errorf("%d bytes after that: %v", n, err)
		}
	})
}

func TestConn_SetReadBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := New()
		near.SetReadBuffer(10)
		if n, err := far.WriteVector([][]byte{make([]byte, 20)}, false); n != 10 || err != nil {
			t.Errorf("%d bytes were accepted, want 10: %v", n, err)
		}
		near.Read(make([]byte, 10))
		near.SetReadBuffer(0)
		written := make(chan error, 1)
		go func() { // ends when all is read
			_, err := far.Write([]byte{1, 2, 3})
			written <- err
		}()
		for i := range byte(3) {
			synctest.Wait()
			if len(written) > 0 {
				t.Error("bytes were accepted that no Read waits for")
			}
			p := make([]byte, 1)
			if n, err := near.Read(p); n != 1 || err != nil || p[0] != i+1 {
				t.Errorf("read %d bytes %v: %v", n, p, err)
			}
		}
		if err := <-written; err != nil {
			t.Error(err)
		}
		if n, err := near.ReadAvailable(make([]byte, 1)); n != 0 || err != nil {
			t.Errorf("%d more bytes: %v", n, err)
		}
	})
}

// TestConn_Write_IsNotInterleaved writes from two goroutines at the same time.
func TestConn_Write_IsNotInterleaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := New()
		for i := range byte(2) {
			go near.Write(bytes.Repeat([]byte{i}, 2*Size)) // ends when all is read
		}
		got := make([]byte, 4*Size)
		if _, err := io.ReadFull(far, got); err != nil {
			t.Fatal(err)
		}
		for i, b := range got {
			if b != got[i/(2*Size)*2*Size] {
				t.Fatalf("byte %d is from the other goroutine", i)
			}
		}
	})
}

// TestConn_SmallReads compares many small reads with what was written, in chunks that leave bytes
// unread.
func TestConn_SmallReads(t *testing.T) {
	near, far := New()
	var wrote, read byte
	for range 3000 {
		chunk := make([]byte, 100)
		for i := range chunk {
			chunk[i] = wrote
			wrote++
		}
		near.Write(chunk)
		for p := make([]byte, 33); far.in.unread() > 1000; {
			n, err := far.Read(p)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range p[:n] {
				if b != read {
					t.Fatalf("byte %d, want %d", b, read)
				}
				read++
			}
		}
	}
	if n := cap(far.in.data); n > 4000 {
		t.Errorf("at most 1,100 unread bytes take %d bytes of memory", n)
	}
}

func TestConn_Reset(t *testing.T) {
	near, far := New()
	near.Write([]byte{1})
	near.Reset()
	if n, err := far.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Errorf("%d bytes, written before: %v", n, err)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the other end reads: %v", err)
	}
	if _, err := far.Write([]byte{1}); err == nil {
		t.Error("the other end can still write")
	}
}

func TestConn_Close(t *testing.T) {
	near, far := New()
	near.Write([]byte{1})
	near.Close()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read of a closed end: %v", err)
	}
	if _, err := near.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write to a closed end: %v", err)
	}
	if n, err := far.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Errorf("%d bytes, written before: %v", n, err)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the other end reads: %v", err)
	}
	if _, err := far.Write([]byte{1}); err == nil {
		t.Error("the other end can still write")
	}
}
