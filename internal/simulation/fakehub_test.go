package simulation

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// fakeHub is a hub whose behavior is set by its fields. It has no limits and no queues: the
// goroutine that reads a RELAY frame writes its deliveries.
type fakeHub struct {
	// deliver returns the bodies that arrive instead of the n-th delivery (from 0) to the client
	// that connected as number receiver (from 1). nil delivers every body unchanged.
	deliver func(receiver uint64, n int, body []byte) [][]byte

	onRelay func(n int) // called after the n-th relay, from 1
	silent  bool        // never replies
	sameID  bool        // gives every client the id 1
	addr    string

	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	clients map[uint64]*fakeConn
	ids     []uint64
	relays  int
	closed  bool
}

type fakeConn struct {
	conn       net.Conn
	mu         sync.Mutex
	deliveries int
}

// start makes h listen until the test ends.
func (h *fakeHub) start(t *testing.T) *fakeHub {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.listener, h.addr = listener, listener.Addr().String()
	h.clients = make(map[uint64]*fakeConn)
	h.wg.Go(h.accept)
	t.Cleanup(func() {
		h.closeAll()
		h.wg.Wait()
	})
	return h
}

// closeAll closes the listener and all connections.
func (h *fakeHub) closeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.listener.Close()
	for _, c := range h.clients {
		c.conn.Close()
	}
}

func (h *fakeHub) accept() {
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		id := uint64(len(h.ids) + 1)
		c := &fakeConn{conn: conn}
		h.ids = append(h.ids, id)
		h.clients[id] = c
		if h.closed {
			conn.Close()
		}
		h.mu.Unlock()
		h.wg.Go(func() {
			defer conn.Close()
			h.serve(id, c)
		})
	}
}

func (h *fakeHub) serve(id uint64, c *fakeConn) {
	for {
		frame := make([]byte, wire.HeaderSize)
		if _, err := io.ReadFull(c.conn, frame); err != nil {
			return
		}
		size, err := wire.Size(frame, wire.MaxRequestLength(wire.DefaultMaxBody))
		if err != nil {
			return
		}
		frame = append(frame, make([]byte, size-len(frame))...)
		if _, err := io.ReadFull(c.conn, frame[wire.HeaderSize:]); err != nil {
			return
		}
		frameType, payload := wire.Split(frame)
		if !h.silent {
			h.handleFrame(id, c, frameType, payload)
		}
	}
}

func (h *fakeHub) handleFrame(id uint64, c *fakeConn, frameType wire.Type, payload []byte) {
	switch frameType {
	case wire.TypeIdentity:
		if h.sameID {
			id = 1
		}
		c.write(wire.AppendIdentity(nil, id))
	case wire.TypeList:
		h.mu.Lock()
		others := h.ids[:len(h.ids):len(h.ids)]
		h.mu.Unlock()
		c.write(wire.AppendList(nil, others[:id-1], others[id:]))
	case wire.TypeRelay:
		relay, err := wire.ParseRelay(payload)
		if err != nil {
			return
		}
		for to := range relay.To.All() {
			h.writeDelivery(to, relay.Body)
		}
		h.mu.Lock()
		h.relays++
		n := h.relays
		h.mu.Unlock()
		if h.onRelay != nil {
			h.onRelay(n)
		}
	}
}

// writeDelivery writes one delivery, or the bodies that deliver returns instead.
func (h *fakeHub) writeDelivery(to uint64, body []byte) {
	h.mu.Lock()
	c := h.clients[to]
	h.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	bodies := [][]byte{body}
	if h.deliver != nil {
		bodies = h.deliver(to, c.deliveries, body)
	}
	c.deliveries++
	for _, b := range bodies {
		_, _ = c.conn.Write(wire.AppendRelayDelivery(nil, b)) // the reading goroutine sees the error
	}
}

func (c *fakeConn) write(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.conn.Write(frame) // the reading goroutine sees the error
}
