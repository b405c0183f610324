package memorypipe

import (
	"errors"
	"io"
	"net"
	"os"
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
