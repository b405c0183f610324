package socket

import (
	"io"
	"net"
	"testing"
)

func TestNetConnTransport_Write_ReportsUncertainBytes(t *testing.T) {
	near, far := net.Pipe()
	c := New(near, readerConfig(), nopHandler{})
	go func() { // ends with the connection
		io.ReadFull(far, make([]byte, 100))
		far.Close()
	}()
	n, pending, err := c.transport().Write([][]byte{make([]byte, 1000), make([]byte, 50)}, true)
	if n != 100 || pending != 950 || err == nil {
		t.Errorf("%d bytes were written, %d can have arrived: %v", n, pending, err)
	}
}
