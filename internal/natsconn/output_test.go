package natsconn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// dialSink returns a connection over TCP whose other end writes what it reads to w, and a function
// that closes the connection and waits until all is written.
func dialSink(t testing.TB, w io.Writer) (nc net.Conn, finish func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if nc, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with the connection, and finish waits for it
		defer close(done)
		defer server.Close()
		buf := make([]byte, 256<<10)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			w.Write(buf[:n])
		}
	}()
	return nc, func() { nc.Close(); <-done }
}

// newTestConn returns a Conn that only writes.
func newTestConn(nc net.Conn) *Conn {
	c := &Conn{raw: nc, nc: nc, done: make(chan struct{})}
	c.tcp, _ = nc.(*net.TCPConn)
	c.config.WriteTimeout = 2 * time.Second
	return c
}

func TestPublish_Bytes(t *testing.T) {
	for name, hide := range map[string]func(net.Conn) net.Conn{
		"TCP":   func(nc net.Conn) net.Conn { return nc },
		"other": func(nc net.Conn) net.Conn { return struct{ net.Conn }{nc} }, // as TLS is
	} {
		var got, want bytes.Buffer
		nc, finish := dialSink(t, &got)
		c := newTestConn(hide(nc))
		for _, size := range []int{0, 1, maxCopy, maxCopy + 1, 64<<10 - 128, 100_000} {
			payload := bytes.Repeat([]byte{byte(size)}, size)
			want.Write(append(append(appendPub(nil, []byte("a.b"), size), payload...), crlf...))
			if err := c.Publish([]byte("a.b"), payload); err != nil {
				t.Fatal(err)
			}
		}
		finish()
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("%s: %d bytes, want %d", name, got.Len(), want.Len())
		}
	}
}

func TestPublish_DoesNotAllocate(t *testing.T) {
	nc, finish := dialSink(t, io.Discard)
	defer finish()
	c, subject := newTestConn(nc), []byte("hub.a.to.1")
	for _, size := range []int{100, 60_000} {
		payload := make([]byte, size)
		if n := testing.AllocsPerRun(200, func() {
			if err := c.Publish(subject, payload); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%d bytes: %v allocations", size, n)
		}
	}
}

// TestPublish_ServerDoesNotRead checks that a write that takes too long ends the connection, and
// that the others that wait for it fail at once.
func TestPublish_ServerDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t)
		config.PingInterval = time.Hour // virtual time stands still while a ping waits for the mutex
		c, _ := open(t, config)
		start := time.Now()
		for range 3 {
			if err := c.Publish([]byte("a"), []byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("three writes took %v", took)
		}
		<-c.Done()
		if err := c.Err(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestPublish_AfterClose(t *testing.T) {
	c, _ := open(t, testConfig(t))
	c.Close()
	if err := c.Publish([]byte("a"), []byte("x")); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, size := range []int{128, 4 << 10, 16 << 10, 64<<10 - 128} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			nc, finish := dialSink(b, io.Discard)
			defer finish()
			c, subject, payload := newTestConn(nc), []byte("hub.hub.to.1"), make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Publish(subject, payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
