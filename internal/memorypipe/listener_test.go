package memorypipe

import (
	"errors"
	"net"
	"testing"
)

func TestListener_Dial(t *testing.T) {
	ln := NewListener()
	accepted := make(chan net.Conn, 2)
	go func() { // ends with Close
		for {
			nc, err := ln.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- nc
		}
	}()
	addrs := make(map[string]bool)
	for range 2 {
		client, err := ln.Dial()
		if err != nil {
			t.Fatal(err)
		}
		server := <-accepted
		client.Write([]byte{7})
		p := make([]byte, 1)
		if _, err := server.Read(p); err != nil || p[0] != 7 {
			t.Errorf("read %v: %v", p, err)
		}
		if server.RemoteAddr().String() != client.LocalAddr().String() || client.RemoteAddr().String() != ln.Addr().String() {
			t.Errorf("the server's end is from %v to %v, the client's from %v to %v", server.LocalAddr(), server.RemoteAddr(), client.LocalAddr(), client.RemoteAddr())
		}
		addrs[client.LocalAddr().String()] = true
	}
	if len(addrs) != 2 {
		t.Errorf("two clients have the addresses %v", addrs)
	}
	ln.Close()
	for range accepted {
		t.Error("accepted after Close")
	}
	if _, err := ln.Dial(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Dial after Close: %v", err)
	}
}
