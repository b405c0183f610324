package cluster_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/cluster/membus"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/presence"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	worldReportTimeout = 5 * time.Second
	worldQueue         = 8 << 10 // bytes at which the outbox of a client is full
	worldMaxBody       = 1 << 20
)

// world is a cluster of hubs without connections: clients are outboxes, whose connections record
// what they are sent. It checks each delivery, and collects the reports.
type world struct {
	t        rapid.TB
	bus      *membus.Bus
	hubs     []*worldHub // those that run
	lastNode cluster.Node
	sendings *body.Budget // for what clients send

	// mu guards the fields below.
	mu       sync.Mutex
	problems []string
	sessions []*worldSession // all that ever were
	sent     []*worldMessage
	offers   []*worldOffer
}

// worldHub is one start of a hub.
type worldHub struct {
	world    *world
	node     cluster.Node
	carrier  cluster.Carrier
	registry *cluster.Registry
	relay    *relay.Relay
	cluster  *cluster.Cluster
	budget   *body.Budget
	timers   sync.WaitGroup
	started  chan struct{} // closed when cluster is set
}

// String is for the log of rapid.
func (h *worldHub) String() string { return fmt.Sprintf("hub %d", h.node) }

// worldOffer is a batch of messages that was sent.
type worldOffer struct{ unblocked int }

// worldMessage is one message. Guarded by world.mu.
type worldMessage struct {
	sender    *worldSession
	seq       uint64
	receivers []uint64
	level     wire.Level
	sentAt    time.Time
	reportBy  time.Time

	fates      []wire.Fate
	reportedAt time.Time
	delivered  map[uint64]int
}

// worldSession is the session of a client. It is a relay.Destination and a relay.Origin.
type worldSession struct {
	outbox.Outbox
	hub      *worldHub
	id       uint64
	number   int // in world.sessions
	since    int64
	conn     *worldConn
	verdicts relay.Verdicts

	// Guarded by world.mu.
	seq   uint64
	sent  map[uint64]*worldMessage // by seq
	lasts map[int]uint64           // the last seq that it got from each session
	read  uint64                   // reliable frames
	ended bool
}

func newWorld(t rapid.TB, seed uint64) *world {
	return &world{t: t, bus: membus.New(seed), sendings: body.NewBudget(1<<40, 0)}
}

// problem records what must not happen.
func (w *world) problem(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.problems = append(w.problems, fmt.Sprintf(format, args...))
}

// check reports problems.
func (w *world) check() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.problems {
		w.t.Error(p)
	}
	if len(w.problems) > 0 {
		w.t.FailNow()
	}
}

// startHub starts a hub with a budget of memory for batches.
func (w *world) startHub(budget int64) *worldHub {
	w.lastNode++
	return w.startHubAt(w.lastNode, w.bus.Join(w.lastNode), budget, "key")
}

func (w *world) startHubAt(node cluster.Node, carrier cluster.Carrier, budget int64, key string) *worldHub {
	h := &worldHub{
		world: w, node: node, carrier: carrier, started: make(chan struct{}),
		registry: presence.New[relay.Destination](), budget: body.NewBudget(budget, 0),
	}
	h.relay = relay.New(relay.Config{
		Find:   h.registry.Find,
		IsLost: func(id uint64) bool { return h.cluster.IsLost(id) },

		ReportTimeout: worldReportTimeout, MaxReportTimeout: time.Minute,
		OnDrop:      func(wire.Fate, int) {},
		OnForbidden: func(relay.Origin, uint64) {},
		Traces:      relay.TraceConfig{OnTrace: func(relay.Trace) bool { return true }, SampleRate: 3, Timeout: worldReportTimeout, Timers: &h.timers},
		Timers:      &h.timers,
	})
	h.cluster = cluster.New(cluster.Config{
		Node: node, Name: fmt.Sprintf("hub-%d", node), Key: []byte(key), Carrier: carrier,
		Registry: h.registry, Relay: h.relay, MaxBody: worldMaxBody,
		NewAccount:  func() *body.Account { return h.budget.NewAccount(budget / 2) },
		RequestAck:  func(uint64) {},
		ConnectTime: h.connectTime,
		OnClaim:     h.handleClaim,
		OnDrop:      func(wire.Fate, int) {},
		Logger:      slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	close(h.started)
	w.hubs = append(w.hubs, h)
	return h
}

// endHub ends a hub. With crash, the others see nothing of it.
func (w *world) endHub(h *worldHub, crash bool) {
	w.hubs = slices.DeleteFunc(w.hubs, func(other *worldHub) bool { return other == h })
	if crash {
		h.carrier.Close()
	}
	for _, s := range w.sessionsOf(h) {
		s.end()
	}
	stop := make(chan struct{})
	close(stop)
	h.cluster.Close(stop)
	h.carrier.Close()
}

// sessionsOf returns the sessions at a hub that have not ended; nil: at all hubs.
func (w *world) sessionsOf(h *worldHub) (sessions []*worldSession) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sessions {
		if !s.ended && (h == nil || s.hub == h) {
			sessions = append(sessions, s)
		}
	}
	return sessions
}

func (h *worldHub) session(id uint64) *worldSession {
	var found [1]relay.Destination
	h.registry.Find([]uint64{id}, found[:])
	s, _ := found[0].(*worldSession)
	return s
}

func (h *worldHub) connectTime(id uint64) int64 {
	if s := h.session(id); s != nil {
		return s.since
	}
	return 0
}

// handleClaim does what a hub does.
func (h *worldHub) handleClaim(id uint64, since int64, node cluster.Node) (yields bool) {
	s := h.session(id)
	if s == nil {
		return true
	}
	if s.since > since || s.since == since && h.node > node {
		return false
	}
	s.end()
	return true
}

// join connects a client.
func (h *worldHub) join(id uint64) *worldSession {
	w := h.world
	s := &worldSession{
		hub: h, id: id, since: time.Now().UnixMicro(), sent: make(map[uint64]*worldMessage), lasts: make(map[int]uint64),
	}
	s.conn = &worldConn{session: s, accepts: make(chan struct{}, 1), closed: make(chan struct{})}
	s.conn.accepts <- struct{}{}
	s.Init(s.conn, &outbox.Config{MaxBytes: worldQueue}, 0)
	s.EnableAcks(1<<30, true)
	w.mu.Lock()
	s.number = len(w.sessions)
	w.sessions = append(w.sessions, s)
	w.mu.Unlock()
	if prev, ok := h.registry.Join(id, s).(*worldSession); ok {
		prev.end()
	}
	return s
}

// end ends the session, as if its connection had been lost and nothing could resume it.
func (s *worldSession) end() {
	w := s.hub.world
	w.mu.Lock()
	ended := s.ended
	s.ended = true
	w.mu.Unlock()
	if !ended {
		s.hub.registry.Leave(s.id, s)
		s.Close()
		s.conn.close()
	}
}

// String is for the log of rapid.
func (s *worldSession) String() string { return fmt.Sprintf("session %d", s.number) }

func (s *worldSession) Version() int                  { return wire.Version2 }
func (s *worldSession) Verdicts() *relay.Verdicts     { return &s.verdicts }
func (s *worldSession) ID() uint64                    { return s.id }
func (s *worldSession) CanSend() func(to uint64) bool { return nil }

// SendReports implements relay.Origin.
func (s *worldSession) SendReports(frames []byte, n int) {
	for frame := range wire.Frames(frames) {
		n--
		_, payload := wire.Split(frame)
		r, err := wire.ParseReport(payload)
		if err != nil {
			s.hub.world.problem("REPORT: %v", err)
			return
		}
		s.report(r)
	}
	if n != 0 {
		s.hub.world.problem("%d REPORTs are missing", n)
	}
}

func (s *worldSession) report(r wire.Report) {
	w := s.hub.world
	w.mu.Lock()
	defer w.mu.Unlock()
	m := s.sent[r.Seq]
	if m == nil || m.fates != nil || len(r.Fates) != len(m.receivers) {
		w.problems = append(w.problems, fmt.Sprintf("wrong or second REPORT of message %d of session %d", r.Seq, s.number))
		return
	}
	for _, fate := range r.Fates {
		m.fates = append(m.fates, wire.Fate(fate))
	}
	m.reportedAt = time.Now()
}

// send sends n messages with bodies of size bytes as one batch.
func (s *worldSession) send(options relay.Options, n, size int, to ...uint64) []*worldMessage {
	w := s.hub.world
	var frames []byte
	var messages []*worldMessage
	offer := new(worldOffer)
	w.mu.Lock()
	first := s.seq + 1
	for range n {
		s.seq++
		m := s.newMessage(options, to)
		messages = append(messages, m)
		content := make([]byte, max(size, 8))
		binary.BigEndian.PutUint64(content, uint64(s.number))
		frames = wire.AppendDeliver(frames, &wire.Deliver{Sender: s.id, Seq: s.seq, Body: content})
	}
	w.sent, w.offers = append(w.sent, messages...), append(w.offers, offer)
	w.mu.Unlock()
	buffer := w.sendings.NewAccount(1 << 40).ForceAcquire(len(frames))
	copy(buffer.Bytes(), frames)
	var sender relay.Sender
	sender.Begin(s.hub.relay, w.sendings.NewAccount(1<<40))
	sender.Send(&relay.Messages{Origin: s, Options: options, FirstSeq: first}, append(sender.IDBuf(), to...),
		outbox.Batch{Buffer: buffer, To: len(frames), Frames: n, Messages: true})
	buffer.Release()
	sender.Flusher.Flush()
	sender.Flusher.OnUnblocked(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		offer.unblocked++
	})
	sender.Reset()
	return messages
}

// newMessage returns the next message. It is called with world.mu held.
func (s *worldSession) newMessage(options relay.Options, to []uint64) *worldMessage {
	m := &worldMessage{
		sender: s, seq: s.seq, receivers: to, level: options.Wire.Level(), sentAt: time.Now(), delivered: make(map[uint64]int),
	}
	timeout := worldReportTimeout
	if requested := options.Wire.ReportTimeout(); requested > 0 {
		timeout = requested
	}
	m.reportBy = m.sentAt.Add(timeout)
	if options.Expires != 0 && m.reportBy.After(time.Unix(0, options.Expires)) {
		m.reportBy = time.Unix(0, options.Expires)
	}
	s.sent[s.seq] = m
	return m
}

// handleDelivery checks a frame that the client has received.
func (s *worldSession) handleDelivery(frame []byte) {
	w := s.hub.world
	w.mu.Lock()
	defer w.mu.Unlock()
	s.read++
	t, payload := wire.Split(frame)
	if t != wire.TypeDeliver {
		return // SKIP
	}
	d, err := wire.ParseDeliver(payload)
	if err != nil || len(d.Body) < 8 {
		w.problems = append(w.problems, fmt.Sprintf("DELIVER: %v", err))
		return
	}
	from := int(binary.BigEndian.Uint64(d.Body))
	m := w.sessions[from].sent[d.Seq]
	if m == nil || !slices.Contains(m.receivers, s.id) || m.sender.id != d.Sender {
		w.problems = append(w.problems, fmt.Sprintf("client %d gets message %d of %d, which was not sent to it", s.id, d.Seq, from))
		return
	}
	m.delivered[s.id]++
	if last := s.lasts[from]; last >= d.Seq {
		w.problems = append(w.problems, fmt.Sprintf("client %d gets message %d of session %d after message %d", s.id, d.Seq, from, last))
	}
	s.lasts[from] = d.Seq
}

// acknowledge has all clients acknowledge what they have received.
func (w *world) acknowledge() {
	for _, s := range w.sessionsOf(nil) {
		w.mu.Lock()
		read := s.read
		w.mu.Unlock()
		if read > 0 {
			s.Acknowledge(read)
		}
	}
}

// worldConn is an outbox.Conn that passes frames on while it accepts data.
type worldConn struct {
	session   *worldSession
	accepts   chan struct{} // holds one value while the connection accepts data
	closed    chan struct{}
	closeOnce sync.Once
}

func (c *worldConn) OnWritten(outbox.Counts) {}
func (c *worldConn) OnLost(outbox.Counts)    {}
func (c *worldConn) OnWriteError(error)      {}
func (c *worldConn) close()                  { c.closeOnce.Do(func() { close(c.closed) }) }

// setBlocked has the connection accept no data, or accept it again.
func (c *worldConn) setBlocked(blocked bool) {
	if blocked {
		select {
		case <-c.accepts:
		default:
		}
		return
	}
	select {
	case c.accepts <- struct{}{}:
	default:
	}
}

func (c *worldConn) Write(v [][]byte, wait bool) (n, pending int, err error) {
	select {
	case <-c.accepts:
	default:
		if !wait {
			return 0, 0, nil
		}
		select {
		case <-c.accepts:
		case <-c.closed:
			return 0, 0, errors.New("closed")
		}
	}
	c.accepts <- struct{}{}
	data := slices.Concat(v...)
	for frame := range wire.Frames(data) {
		c.session.handleDelivery(frame)
	}
	return len(data), 0, nil
}
