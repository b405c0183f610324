package cluster

import (
	"encoding/binary"
	"encoding/json"
	"sync"

	"github.com/sechlol/go-message-hub/internal/body"
)

const (
	// maxTunnelBytes is the maximum number of bytes of all tunnels to one other hub that were sent,
	// and have not arrived there. It bounds what the link holds for tunnels.
	maxTunnelBytes = 4 << 20

	// minReceived is the number of bytes of tunnels at which the other hub is told that they have
	// arrived.
	minReceived = maxTunnelBytes / 16

	// maxCopiedData is the maximum number of bytes of a record that the link copies. It refers to
	// more.
	maxCopiedData = 1 << 10
)

// tunnels are the tunnels between this hub and another one. Its methods can be called concurrently,
// except body, those that begin with handle, and onBreak: they are called by callbacks of the link.
type tunnels struct {
	// Static after init.
	stream stream
	accept func(c *TunnelConn, r *TunnelRequest) // Config.OnTunnel; nil: all are closed

	// Owned by the callbacks of the link.
	received, said uint64 // bytes that have arrived in this generation, and those that were said to
	accepted       uint64 // number of the last tunnel that the other hub has opened in this generation
	scratch        []byte // body of the current record

	// mu guards the fields below.
	mu       sync.Mutex
	open     map[tunnelKey]*Tunnel
	opened   uint64               // number of the last tunnel that this hub has opened
	underWay int                  // bytes that were sent and are not said to have arrived
	sent     uint64               // bytes that were sent in this generation
	arrived  uint64               // of them, those that are said to have arrived
	waiting  map[*Tunnel]struct{} // tunnels that wait for room
	closed   bool
}

func (ts *tunnels) init(s stream, accept func(*TunnelConn, *TunnelRequest)) {
	ts.stream, ts.accept = s, accept
	ts.open, ts.waiting = make(map[tunnelKey]*Tunnel), make(map[*Tunnel]struct{})
}

// openTunnel opens a tunnel. handler gets what arrives.
func (ts *tunnels) openTunnel(r *TunnelRequest, handler TunnelHandler) (*Tunnel, error) {
	text, err := json.Marshal(r)
	if err != nil || len(text) > maxControlBody {
		return nil, ErrNoTunnel
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.closed {
		return nil, ErrNoTunnel
	}
	ts.opened++
	t := newTunnel(ts, tunnelKey{ts.opened, true}, 0)
	t.handler = handler
	// with mu held: the numbers increase in the order of the stream
	t.generation, _ = ts.stream.Append(appendTunnelOpen(nil, ts.opened, text), nil, 0, 0)
	ts.stream.Flush()
	ts.open[t.key] = t
	return t, nil
}

// append appends a record, and has it sent.
func (ts *tunnels) append(record []byte) {
	ts.stream.Append(record, nil, 0, 0)
	ts.stream.Flush()
}

// appendData appends the next n bytes of data as a record.
func (ts *tunnels) appendData(key tunnelKey, data *pieces, n int) {
	head := appendTunnelData(make([]byte, 0, recordHeaderSize+tunnelDataHeadSize+min(n, maxCopiedData)), key, n)
	if n <= maxCopiedData {
		start := len(head)
		head = head[:start+n]
		data.read(head[start:])
		ts.append(head)
		return
	}
	buffer := body.Get(n)
	data.read(buffer.Bytes()[:n])
	ts.stream.Append(head, buffer, 0, n)
	buffer.Release()
	ts.stream.Flush()
}

// pieces are bytes in several slices, of which those of v[0] before offset were read.
type pieces struct {
	v      [][]byte
	offset int
}

// read fills p with the next bytes, of which there must be as many.
func (d *pieces) read(p []byte) {
	for len(p) > 0 {
		n := copy(p, d.v[0][d.offset:])
		p, d.offset = p[n:], d.offset+n
		if d.offset == len(d.v[0]) {
			d.v, d.offset = d.v[1:], 0
		}
	}
}

// take takes room for at most n bytes of t. If there is none, t is woken when there is.
func (ts *tunnels) take(t *Tunnel, n int) int {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	room := max(0, min(n, maxTunnelBytes-ts.underWay))
	if room == 0 && n > 0 {
		ts.waiting[t] = struct{}{}
	}
	ts.underWay += room
	ts.sent += uint64(room)
	return room
}

// hasRoom reports whether there is room for a byte. If there is none, t is woken when there is.
func (ts *tunnels) hasRoom(t *Tunnel) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.underWay < maxTunnelBytes {
		return true
	}
	ts.waiting[t] = struct{}{}
	return false
}

// remove removes a tunnel that has ended.
func (ts *tunnels) remove(key tunnelKey) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.open[key]; t != nil {
		delete(ts.waiting, t)
		delete(ts.open, key)
	}
}

// serves reports whether a tunnel is open that the other hub has opened: this hub has its session.
func (ts *tunnels) serves() bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for key := range ts.open {
		if !key.opened {
			return true
		}
	}
	return false
}

// body returns where the body of a recordTunnelData goes.
func (ts *tunnels) body(size int) ([]byte, error) {
	if size > maxTunnelData {
		return nil, nonsense("%d bytes in a record of a tunnel", size)
	}
	if ts.scratch == nil {
		ts.scratch = make([]byte, maxTunnelData)
	}
	return ts.scratch[:size], nil
}

// handle handles a record of a tunnel.
func (ts *tunnels) handle(t recordType, head, body []byte) error {
	switch t {
	case recordTunnelOpen:
		return ts.handleOpen(head, body)
	case recordTunnelData:
		return ts.handleData(head, body)
	case recordTunnelCredit:
		return ts.handleCredit(head)
	case recordTunnelClose:
		return ts.handleClose(head)
	}
	return ts.handleReceived(head)
}

// handleOpen handles a recordTunnelOpen.
func (ts *tunnels) handleOpen(head, body []byte) error {
	var r TunnelRequest
	if len(head) < tunnelOpenHeadSize {
		return nonsense("tunnel with a head of %d bytes", len(head))
	}
	number := binary.BigEndian.Uint64(head)
	if number <= ts.accepted {
		return nonsense("tunnel %d after tunnel %d", number, ts.accepted)
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return nonsense("tunnel: %v", err)
	}
	ts.accepted = number
	key := tunnelKey{number, false}
	c := newTunnelConn(newTunnel(ts, key, 0), &r) // generation 0: the next break ends it
	ts.mu.Lock()
	accept := ts.accept != nil && !ts.closed
	if accept {
		ts.open[key] = c.tunnel
	}
	ts.mu.Unlock()
	if !accept {
		c.tunnel.Close(0)
		return nil
	}
	ts.accept(c, &r)
	return nil
}

// handleData handles a recordTunnelData. Bytes of a tunnel that this end has closed are dropped.
func (ts *tunnels) handleData(head, body []byte) error {
	t, err := ts.tunnelOf(recordTunnelData, head, tunnelDataHeadSize)
	if err != nil {
		return err
	}
	ts.received += uint64(len(body))
	if ts.received-ts.said >= minReceived {
		ts.said = ts.received
		ts.append(appendTunnelReceived(nil, ts.received))
	}
	if t == nil {
		return nil
	}
	return t.receive(body)
}

// handleCredit handles a recordTunnelCredit.
func (ts *tunnels) handleCredit(head []byte) error {
	t, err := ts.tunnelOf(recordTunnelCredit, head, tunnelCreditHeadSize)
	if t == nil || err != nil {
		return err
	}
	return t.permit(binary.BigEndian.Uint64(head[9:]))
}

// handleClose handles a recordTunnelClose.
func (ts *tunnels) handleClose(head []byte) error {
	t, err := ts.tunnelOf(recordTunnelClose, head, tunnelCloseHeadSize)
	if t == nil || err != nil {
		return err
	}
	ts.remove(t.key)
	t.finish(&TunnelEndError{binary.BigEndian.Uint16(head[9:])})
	return nil
}

// handleReceived handles a recordTunnelReceived.
func (ts *tunnels) handleReceived(head []byte) error {
	if len(head) < tunnelReceivedHeadSize {
		return nonsense("record of type %d with a head of %d bytes", recordTunnelReceived, len(head))
	}
	total := binary.BigEndian.Uint64(head)
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if total < ts.arrived {
		return nonsense("%d bytes of tunnels have arrived, after %d", total, ts.arrived)
	}
	ts.arrived = min(total, ts.sent) // sent lacks bytes of the time in which the streams began anew
	ts.underWay = int(ts.sent - ts.arrived)
	for t := range ts.waiting {
		t.signalWritable()
	}
	clear(ts.waiting)
	return nil
}

// tunnelOf returns the tunnel that a record names, or nil if this end has closed it, or the request
// to open it has never arrived.
func (ts *tunnels) tunnelOf(t recordType, head []byte, size int) (*Tunnel, error) {
	key, err := parseTunnelKey(t, head, size)
	if err != nil {
		return nil, err
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if key.number == 0 || key.opened && key.number > ts.opened {
		return nil, nonsense("record of type %d for tunnel %d, which was never opened", t, key.number)
	}
	return ts.open[key], nil
}

// close lets no tunnel be opened any more. Those that are open end when the link breaks.
func (ts *tunnels) close() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.closed = true
}

// onBreak ends the tunnels of a generation of the link, and of those before.
func (ts *tunnels) onBreak(generation uint64) {
	ts.received, ts.said, ts.accepted = 0, 0, 0
	var ended []*Tunnel
	ts.mu.Lock()
	ts.sent, ts.arrived, ts.underWay = 0, 0, 0
	for key, t := range ts.open {
		if t.generation <= generation {
			ended = append(ended, t)
			delete(ts.open, key)
			delete(ts.waiting, t)
		}
	}
	ts.mu.Unlock()
	for _, t := range ended {
		t.finish(ErrTunnelBroken)
	}
}
