package socket

import (
	"net"
	"testing"
	"time"
)

// TestReader_Acknowledged is a sign of life of a peer that nobody reads, and whose application says nothing.
func TestReader_Acknowledged(t *testing.T) {
	near, far := openTCP(t)
	c := New(near, readerConfig(), payer{})
	defer c.Close()
	if _, err := far.Write(make([]byte, 1<<10)); err != nil { // which is not read
		t.Fatal(err)
	}
	until(t, "some time has passed", func() bool { ago, known := c.Acknowledged(); return known && ago > 200*time.Millisecond })
	until(t, "the peer has acknowledged", func() bool {
		if _, err := near.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		ago, known := c.Acknowledged()
		return known && ago < 100*time.Millisecond
	})
	if n := c.Waits(); n != 0 {
		t.Errorf("%d waits for the peer, want none", n)
	}
	near.Close()
	if _, known := c.Acknowledged(); known {
		t.Error("of a closed connection it is known")
	}
	over, _ := openPipe(t)
	if _, known := New(over, readerConfig(), payer{}).Acknowledged(); known {
		t.Error("of a pipe it is known")
	}
}

// TestReader_PeerEnded is seen although what came before is not read.
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
		c := New(near, readerConfig(), payer{})
		if _, err := far.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if c.PeerEnded() {
			t.Errorf("%s: it has ended before", name)
		}
		end(far)
		until(t, name, c.PeerEnded)
		c.Close()
	}
}
