package socket

import (
	"net"
	"testing"
)

// TestFrom_KeepsTheFastWay looks that a TCP connection of which only the address is another one is read and written around
// package net as ever, also beneath TLS.
func TestFrom_KeepsTheFastWay(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	addr := &net.TCPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 40000}
	from := From(nc, addr)
	if got := from.RemoteAddr(); got != addr {
		t.Errorf("the address is %v", got)
	}
	if tcp, ok := TCP(from); !ok || tcp != nc || beneath(from) != nc {
		t.Error("it is not known as a TCP connection")
	}
	if (rawConn(from) != nil) != rawSupported {
		t.Error("there is no way around package net")
	}
	if secured := Line(from); secured.RemoteAddr() != addr || rawSupported && beneath(secured) != nc {
		t.Errorf("beneath TLS it is %T from %v", secured, secured.RemoteAddr())
	}
}

func TestFrom_OtherConnections(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	addr := &net.TCPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 40000}
	if got := From(a, addr).RemoteAddr(); got != addr {
		t.Errorf("the address is %v", got)
	}
}
