package socket

import (
	"net"
	"testing"
)

// TestWithRemoteAddr_KeepsRawAccess checks that a TCP connection with a different remote
// address is still read and written by raw system calls, also below TLS.
func TestWithRemoteAddr_KeepsRawAccess(t *testing.T) {
	nc, _ := openTCP(t)
	from := WithRemoteAddr(nc, &net.TCPAddr{IP: net.IPv4(198, 51, 100, 7), Port: 40000})
	if tr, ok := newTransport(from, new(Reader)).(*tcpTransport); !ok || tr.Conn() != from {
		t.Errorf("over TCP, the transport is %T", newTransport(from, new(Reader)))
	}
	if _, ok := WrapForTLS(from).(*nonblockConn); !ok {
		t.Errorf("below TLS it is %T", WrapForTLS(from))
	}
	near, _ := openTLS(t)
	if _, ok := newTransport(near, new(Reader)).(*tlsTransport); !ok {
		t.Errorf("over TLS, the transport is %T", newTransport(near, new(Reader)))
	}
}
