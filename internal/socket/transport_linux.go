package socket

import (
	"net"
)

// newKernelTransport returns the transport of nc for a Reader if nc is TCP or TLS over TCP, and
// otherwise nil.
func newKernelTransport(nc net.Conn, r *Reader) transport {
	if tlsConn, nb, ok := overNonblockConn(nc); ok {
		return newTLSTransport(tlsConn, nb, r)
	}
	if raw := rawConn(nc); raw != nil {
		return newTCPTransport(nc, raw, r)
	}
	return nil
}
