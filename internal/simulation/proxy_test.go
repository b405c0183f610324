package simulation

import (
	"io"
	"net"
	"testing"
	"time"
)

// startEcho starts a server that returns what it receives, and a proxy before it.
func startEcho(t *testing.T) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with the listener and the connections
		defer close(done)
		for {
			nc, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(nc, nc)
			nc.Close()
		}
	}()
	p, err := newProxy(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.close()
		listener.Close()
		<-done
	})
	return p
}

// exchange sends text through a connection and returns an error unless it comes back.
func exchange(nc net.Conn, text string) error {
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := nc.Write([]byte(text)); err != nil {
		return err
	}
	_, err := io.ReadFull(nc, make([]byte, len(text)))
	return err
}

func TestProxyDialer_BreaksOwnConnection(t *testing.T) {
	for _, reset := range []bool{false, true} {
		p := startEcho(t)
		pd := &proxyDialer{proxy: p}
		nc, err := pd.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if err := exchange(nc, "hello"); err != nil {
			t.Fatal(err)
		}
		if !pd.breakConn(reset) || p.breakCount() != 1 {
			t.Errorf("reset=%v: %d connections broken, want 1", reset, p.breakCount())
		}
		if err := exchange(nc, "hello"); err == nil {
			t.Errorf("reset=%v: the connection still works", reset)
		}
		if pd.breakConn(reset) {
			t.Errorf("reset=%v: a broken connection was broken again", reset)
		}
	}
}

func TestProxy_ForwardsEndOfStream(t *testing.T) {
	nc, err := (&proxyDialer{proxy: startEcho(t)}).dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(nc); err != nil || string(got) != "last words" {
		t.Errorf("%q, %v", got, err)
	}
}
