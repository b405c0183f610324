package socket

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

func TestReader_SinceTCPAck(t *testing.T) {
	near, far := openTCP(t)
	c := New(near, readerConfig(), testHandler{})
	defer c.Close()
	if _, err := far.Write(make([]byte, 1<<10)); err != nil { // not read
		t.Fatal(err)
	}
	waitUntil(t, "some time has passed", func() bool { ago, known := c.SinceTCPAck(); return known && ago > 200*time.Millisecond })
	waitUntil(t, "the peer has acknowledged", func() bool {
		if _, err := near.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		ago, known := c.SinceTCPAck()
		return known && ago < 100*time.Millisecond
	})
	if n := c.WaitSeq(); n != 0 {
		t.Errorf("%d waits for the peer, want none", n)
	}
	near.Close()
	if _, known := c.SinceTCPAck(); known {
		t.Error("known is true for a closed connection")
	}
	pipeConn, _ := openPipe(t)
	if _, known := New(pipeConn, readerConfig(), testHandler{}).SinceTCPAck(); known {
		t.Error("known is true for a pipe")
	}
}

func TestReader_PeerEnded(t *testing.T) {
	for name, end := range map[string]func(net.Conn){
		"closed": func(far net.Conn) { far.Close() },
		"reset": func(far net.Conn) {
			_ = far.(*net.TCPConn).SetLinger(0)
			far.Close()
		},
		"half closed": func(far net.Conn) { _ = far.(*net.TCPConn).CloseWrite() },
	} {
		near, far := openTCP(t)
		c := New(near, readerConfig(), testHandler{})
		if _, err := far.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if c.PeerEnded() {
			t.Errorf("%s: PeerEnded is true before the end", name)
		}
		end(far)
		waitUntil(t, name, c.PeerEnded)
		c.Close()
	}
}

// TestConn_SetsUserTimeout reads TCP_USER_TIMEOUT back from the kernel.
func TestConn_SetsUserTimeout(t *testing.T) {
	for _, want := range []time.Duration{0, 150 * time.Second} {
		tc := newTestConn(t, tcp, Config{Outbox: outbox.Config{MaxBytes: 64 << 10}, UserTimeout: want})
		got := -1
		err := tc.transport().(*tcpTransport).raw.Control(func(fd uintptr) {
			got, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		})
		if err != nil || got != int(want.Milliseconds()) {
			t.Errorf("the kernel gives up after %d ms, want %v (%v)", got, want, err)
		}
		tc.Close()
	}
}

// TestConn_UserTimeoutEndsStalledConn has a peer whose window is closed because it does not
// read.
func TestConn_UserTimeoutEndsStalledConn(t *testing.T) {
	tc := newTestConn(t, tcp, Config{Outbox: outbox.Config{MaxBytes: 64 << 20}, UserTimeout: time.Second})
	fl := tc.newFlusher()
	for range 32 {
		tc.offer(fl, frame(1<<20))
	}
	fl.Reset()
	waitFor(t, "given up", tc.failed)
	tc.Close()
}
