package hub

import (
	"encoding/binary"
	"errors"
	"net"
	"runtime"
	"testing"
)

// strangerConn is a connection from an address of its own.
type strangerConn struct {
	net.Conn
	n uint32
}

// RemoteAddr implements net.Conn.
func (c strangerConn) RemoteAddr() net.Addr {
	ip := make(net.IP, net.IPv6len) // of the n-th /64 prefix
	binary.BigEndian.PutUint64(ip, 0x2001_0db8<<32|uint64(c.n))
	return &net.TCPAddr{IP: ip, Port: 1}
}

// TestAdmitter_RejectedConns_HoldNoMemory rejects connections of many addresses at a full hub with
// rate limits. Nothing of them stays.
func TestAdmitter_RejectedConns_HoldNoMemory(t *testing.T) {
	h, err := New(Config{MaxClients: 1, MaxPerAddress: 10, MessageRate: 10, ByteRate: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	reject := func(from, to uint32) {
		for n := from; n < to; n++ {
			if _, err := h.admission.accept(strangerConn{near, n}, 0); !errors.As(err, new(rejectedError)) {
				t.Fatal(err)
			}
		}
	}
	c, err := h.admission.accept(near, 0)
	if err != nil {
		t.Fatal(err)
	}
	heap := func() int64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	const conns = 10_000
	reject(0, conns/10) // fills pools
	before := heap()
	reject(conns/10, conns)
	if grown := heap() - before; grown > 50*conns {
		t.Errorf("the heap has grown by %d bytes for %d rejected connections", grown, conns)
	}
	c.finishReading(ErrClosed)
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
}
