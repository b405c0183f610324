package simulation

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// fakeHub is a hub that does as its fields say. It has no limits and no queues:
// whoever reads a relay writes its deliveries.
type fakeHub struct {
	// deliver returns what arrives in place of the n-th delivery (from 0) to the
	// client that connected as number receiver (from 1). nil is an honest hub.
	deliver func(receiver uint64, n int, body []byte) [][]byte

	relayed func(n int) // called after the n-th relay, from 1
	mute    bool        // never answers at all
	sameID  bool        // tells everybody that he is number 1
	addr    string

	listener net.Listener
	serving  sync.WaitGroup

	mu      sync.Mutex
	clients map[uint64]*fakeSession
	ids     []uint64
	relays  int
	closed  bool
}

type fakeSession struct {
	conn  net.Conn
	mu    sync.Mutex
	count int // deliveries so far
}

// start makes h listen until the test ends.
func (h *fakeHub) start(t *testing.T) *fakeHub {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.listener, h.addr = listener, listener.Addr().String()
	h.clients = make(map[uint64]*fakeSession)
	h.serving.Go(h.accept)
	t.Cleanup(func() {
		h.vanish()
		h.serving.Wait()
	})
	return h
}

// vanish cuts all connections.
func (h *fakeHub) vanish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.listener.Close()
	for _, s := range h.clients {
		s.conn.Close()
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
		session := &fakeSession{conn: conn}
		h.ids = append(h.ids, id)
		h.clients[id] = session
		if h.closed {
			conn.Close()
		}
		h.mu.Unlock()
		h.serving.Go(func() {
			defer conn.Close()
			h.serve(id, session)
		})
	}
}

func (h *fakeHub) serve(id uint64, s *fakeSession) {
	for {
		frame := make([]byte, wire.HeaderSize)
		if _, err := io.ReadFull(s.conn, frame); err != nil {
			return
		}
		size, err := wire.Size(frame, wire.MaxRequest(wire.DefaultMaxBody))
		if err != nil {
			return
		}
		frame = append(frame, make([]byte, size-len(frame))...)
		if _, err := io.ReadFull(s.conn, frame[wire.HeaderSize:]); err != nil {
			return
		}
		kind, payload := wire.Split(frame)
		if !h.mute {
			h.answer(id, s, kind, payload)
		}
	}
}

func (h *fakeHub) answer(id uint64, s *fakeSession, kind wire.Type, payload []byte) {
	switch kind {
	case wire.TypeIdentity:
		if h.sameID {
			id = 1
		}
		s.write(wire.AppendIdentity(nil, id))
	case wire.TypeList:
		h.mu.Lock()
		others := h.ids[:len(h.ids):len(h.ids)]
		h.mu.Unlock()
		s.write(wire.AppendList(nil, others[:id-1], others[id:]))
	case wire.TypeRelay:
		relay, err := wire.ParseRelay(payload)
		if err != nil {
			return
		}
		for to := range relay.To.All() {
			h.relay(to, relay.Body)
		}
		h.mu.Lock()
		h.relays++
		n := h.relays
		h.mu.Unlock()
		if h.relayed != nil {
			h.relayed(n)
		}
	}
}

// relay writes one delivery, or what stands for it.
func (h *fakeHub) relay(to uint64, body []byte) {
	h.mu.Lock()
	s := h.clients[to]
	h.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	bodies := [][]byte{body}
	if h.deliver != nil {
		bodies = h.deliver(to, s.count, body)
	}
	s.count++
	for _, b := range bodies {
		_, _ = s.conn.Write(wire.AppendDelivery(nil, b)) // the reader learns of it
	}
}

func (s *fakeSession) write(frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.conn.Write(frame) // the reader learns of it
}
