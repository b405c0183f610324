package socket

import (
	"crypto/tls"
	"net"
	"testing"
)

// TestWithRemoteAddr_KeepsTCP checks that a TCP connection with a different remote address is
// still known as a TCP connection, also below TLS.
func TestWithRemoteAddr_KeepsTCP(t *testing.T) {
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
	from := WithRemoteAddr(nc, addr)
	if got := from.RemoteAddr(); got != addr {
		t.Errorf("the address is %v", got)
	}
	if tcp, ok := TCP(from); !ok || tcp != nc || unwrap(from) != nc {
		t.Error("TCP does not return it")
	}
	if secured := WrapForTLS(from); secured.RemoteAddr() != addr || unwrap(secured) != nc {
		t.Errorf("below TLS it is %T from %v", secured, secured.RemoteAddr())
	}
}

func TestWithRemoteAddr_NonTCP(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	addr := &net.TCPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 40000}
	if got := WithRemoteAddr(a, addr).RemoteAddr(); got != addr {
		t.Errorf("the address is %v", got)
	}
}

// TestWithRemoteAddr_KeepsTLS checks that a TLS connection with a different remote address is
// still known as one, over a connection of WrapForTLS and over any other.
func TestWithRemoteAddr_KeepsTLS(t *testing.T) {
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
	for _, below := range []net.Conn{WrapForTLS(nc), nc} {
		from := WithRemoteAddr(tls.Server(below, new(tls.Config)), addr)
		if got := from.RemoteAddr(); got != addr {
			t.Errorf("over %T the address is %v", below, got)
		}
		if unwrap(from) != nc {
			t.Errorf("over %T it is carried by %T", below, unwrap(from))
		}
	}
}
