package socket

import (
	"net"
)

// newTransport returns the transport of nc for a Reader.
func newTransport(nc net.Conn, r *Reader) transport {
	if tlsConn, nb, ok := overNonblockConn(nc); ok {
		return newTLSTransport(tlsConn, nb, r)
	}
	if raw := rawConn(nc); raw != nil {
		return newTCPTransport(nc, raw, r)
	}
	return &netConnTransport{nc, r}
}
