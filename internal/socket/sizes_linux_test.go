package socket

import (
	"testing"
	"unsafe"
)

// TestTransport_Size checks that a transport, which an idle connection has besides a Conn, fits
// into a size class of Go's allocator.
func TestTransport_Size(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("pointers have a different size here")
	}
	const maxSize = 48
	if ws := unsafe.Sizeof(webSocketTransport{}); ws > 128 {
		t.Errorf("a WebSocket has %d bytes besides its inner transport, want at most 128", ws)
	}
	if tcp, tls := unsafe.Sizeof(tcpTransport{}), unsafe.Sizeof(tlsTransport{}); tcp > maxSize || tls > maxSize {
		t.Errorf("the transports have %d and %d bytes, want at most %d", tcp, tls, maxSize)
	}
}
