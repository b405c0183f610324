package socket

import (
	"net"
	"testing"
	"time"
)

// TestReader_SinceTCPAck checks the sign of life of a peer whose data is not read, and whose
// application sends nothing.
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

// TestReader_PeerEnded checks that PeerEnded sees the end behind unread data.
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
