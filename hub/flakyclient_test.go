package hub_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// flakyClient is a client whose connection breaks again and again. It sends messages numbered
// from 1 to all clients, itself included, and checks what it receives: every message of each
// sender once and in order, and one correct report for each message of its own.
type flakyClient struct {
	hubs           []*testHub // it connects to one of them at random
	messages       int
	minDisconnects int
	random         *rand.Rand
	size           func(sender, seq uint64) int // length of a body

	id           uint64
	resumeSecret string
	to           []uint64
	received     uint64            // reliable frames read
	lastSeq      map[uint64]uint64 // by sender: seq of the last message
	reported     map[uint64]bool   // by seq
	credit       int
	acked        uint64 // last seq that was acknowledged
	sent         uint64 // last seq that was sent
	inFlightCost int    // cost of the SENDs after acked up to sent
	disconnects  int
}

// run connects again and again until every message and report has arrived, or until an error.
func (c *flakyClient) run() error {
	for !c.isComplete() {
		nc, err := c.hubs[c.random.IntN(len(c.hubs))].dialV2()
		if err != nil {
			return err
		}
		err = c.runConn(nc)
		if c.isComplete() { // the last acknowledgement must arrive: this client does not reconnect
			_, _ = nc.Write(wire.AppendBye(nil))
			_, _ = io.Copy(io.Discard, nc)
		}
		if c.random.IntN(2) == 0 {
			resetConn(nc)
		}
		nc.Close()
		if err != nil {
			return fmt.Errorf("client %d, after %d disconnects, %d sent, %d acknowledged, %d reported, %d received, last %v: %w", c.id, c.disconnects, c.sent, c.acked, len(c.reported), c.received, c.lastSeq, err)
		}
		c.disconnects++
	}
	return nil
}

func (c *flakyClient) isComplete() bool {
	if c.id == 0 || len(c.reported) < c.messages {
		return false
	}
	for _, sender := range c.to {
		if c.lastSeq[sender] < uint64(c.messages) {
			return false
		}
	}
	return true
}

// runConn runs one connection, which lasts for a random number of frames.
func (c *flakyClient) runConn(nc net.Conn) error {
	w, busy, err := c.handshake(nc)
	if err != nil || busy {
		return err
	}
	if c.id != 0 && (!w.Resumed || w.ID != c.id) {
		return fmt.Errorf("resumed as %+v", w)
	}
	c.id, c.resumeSecret, c.credit, c.acked, c.sent, c.inFlightCost = w.ID, w.Resume, w.Credit, w.Acked, w.Seq, 0
	for seq := c.acked + 1; seq <= c.sent; seq++ {
		c.inFlightCost += c.cost(seq)
	}
	if c.to == nil {
		return nil // this first connection only gets an id
	}
	framesLeft := -1 // no limit
	if c.disconnects < c.minDisconnects {
		framesLeft = 1 + c.random.IntN(len(c.to)*c.messages/c.minDisconnects+1)
	}
	for ; framesLeft != 0 && !c.isComplete(); framesLeft-- {
		if err := c.sendAllowed(nc); err != nil {
			return err
		}
		if err := c.handleFrame(nc); err != nil {
			return err
		}
	}
	return nil
}

// handshake sends HELLO and reads the reply. The result busy is true if the hub asks the
// client to try again because the hub has not yet ended the previous connection.
func (c *flakyClient) handshake(nc net.Conn) (w wire.Welcome, busy bool, err error) {
	hello := wire.Hello{Version: wire.Version2}
	if c.id != 0 {
		hello.ID, hello.Resume, hello.Received = c.id, c.resumeSecret, c.received
	}
	if _, err := nc.Write(wire.AppendHello(nil, &hello)); err != nil {
		return w, false, err
	}
	kind, payload, err := readFrame(nc)
	if kind == wire.TypeGoAway {
		away, err := wire.ParseGoAway(payload)
		if err == nil && away.Code == wire.GoAwayBusy && away.Reconnect {
			return w, true, nil
		}
	}
	if err != nil || kind != wire.TypeWelcome {
		return w, false, fmt.Errorf("the reply to HELLO is %#x %q, %w", kind, payload, err)
	}
	w, err = wire.ParseWelcome(payload)
	return w, false, err
}

func readFrame(r net.Conn) (wire.Type, []byte, error) {
	if err := r.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		return 0, nil, err
	}
	var head [wire.LengthSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, err
	}
	return wire.Type(b[0]), b[1:], nil
}

func (c *flakyClient) cost(seq uint64) int {
	return wire.SendCost(len(c.to), c.size(c.id, seq), wire.DefaultReceiverCost)
}

// sendAllowed sends the next messages that fit into the credit.
func (c *flakyClient) sendAllowed(nc net.Conn) error {
	var b []byte
	for c.sent < uint64(c.messages) && (c.inFlightCost == 0 || c.inFlightCost+c.cost(c.sent+1) <= c.credit) {
		c.sent++
		c.inFlightCost += c.cost(c.sent)
		b = wire.AppendSend(b, c.sent, levelOptions(wire.LevelReceived), 0, c.to, c.body(c.id, c.sent))
	}
	if len(b) == 0 {
		return nil
	}
	_, err := nc.Write(b)
	return err
}

func (c *flakyClient) body(sender, seq uint64) []byte {
	return pattern(c.size(sender, seq), byte(sender+seq))
}

// mostlySmallSize returns the body length of a message: mostly small, and 70,000 bytes for
// each fiftieth message, which the hub handles in a buffer of its own.
func mostlySmallSize(sender, seq uint64) int {
	if seq%50 == 0 {
		return 70_000
	}
	return 16 + int((sender*31+seq*17)%200)
}

func (c *flakyClient) handleFrame(nc net.Conn) error {
	kind, payload, err := readFrame(nc)
	if err != nil {
		return err
	}
	switch kind {
	case wire.TypePing:
		n, _ := wire.ParseUint64(payload)
		_, err = nc.Write(wire.AppendPong(nil, n))
		return err
	case wire.TypeAck:
		upTo, err := wire.ParseUint64(payload)
		for ; c.acked < upTo; c.acked++ {
			c.inFlightCost -= c.cost(c.acked + 1)
		}
		return err
	case wire.TypeDeliver:
		d, err := wire.ParseDeliver(payload)
		if err != nil {
			return err
		}
		if d.Seq != c.lastSeq[d.Sender]+1 {
			return fmt.Errorf("message %d from %d follows message %d", d.Seq, d.Sender, c.lastSeq[d.Sender])
		}
		if !bytes.Equal(d.Body, c.body(d.Sender, d.Seq)) {
			return fmt.Errorf("message %d from %d has a wrong body", d.Seq, d.Sender)
		}
		c.lastSeq[d.Sender] = d.Seq
	case wire.TypeReport:
		r, err := wire.ParseReport(payload)
		if err != nil {
			return err
		}
		if c.reported[r.Seq] || len(r.Fates) != len(c.to) {
			return fmt.Errorf("report of %d: %d fates, reported before: %v", r.Seq, len(r.Fates), c.reported[r.Seq])
		}
		for i, fate := range r.Fates {
			if wire.Fate(fate) != wire.FateReceived {
				return fmt.Errorf("message %d is %v for client %d", r.Seq, wire.Fate(fate), c.to[i])
			}
		}
		c.reported[r.Seq] = true
	default:
		return fmt.Errorf("frame of type %#x: %q", kind, payload)
	}
	c.received++
	_, err = nc.Write(wire.AppendAck(nil, c.received))
	return err
}

// runFlakyClients runs clients that send to each other until every message is delivered and
// reported. Then it compares the statistics of the hub.
func runFlakyClients(t *testing.T, tr testTransport, config hub.Config, clients, messages, minDisconnects int, size func(sender, seq uint64) int) {
	t.Helper()
	runFlakyClientsAt(t, []*testHub{tr.start(t, config)}, clients, messages, minDisconnects, size)
}

// runFlakyClientsAt is runFlakyClients with hubs of one cluster. Each client resumes at a random
// one.
func runFlakyClientsAt(t *testing.T, hubs []*testHub, clients, messages, minDisconnects int, size func(sender, seq uint64) int) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	flakyClients := make([]*flakyClient, clients)
	var ids []uint64
	for i := range flakyClients {
		flakyClients[i] = &flakyClient{
			hubs: hubs, messages: messages, minDisconnects: minDisconnects, size: size, random: rand.New(rand.NewPCG(seed, uint64(i))),
			lastSeq: map[uint64]uint64{}, reported: map[uint64]bool{},
		}
		nc, err := hubs[i%len(hubs)].dial()
		if err != nil {
			t.Fatal(err)
		}
		if err := flakyClients[i].runConn(nc); err != nil {
			t.Fatal(err)
		}
		nc.Close()
		ids = append(ids, flakyClients[i].id)
	}
	for _, h := range hubs {
		eventually(t, "all clients are known", func() bool { return len(hubs) == 1 || h.Stats().ClusterClients == clients })
	}
	errs := make([]error, clients)
	var wg sync.WaitGroup
	for i, c := range flakyClients {
		c.to = ids
		wg.Go(func() { errs[i] = c.run() })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Error(err)
		}
		if flakyClients[i].disconnects < minDisconnects {
			t.Errorf("client %d disconnected %d times, want at least %d", flakyClients[i].id, flakyClients[i].disconnects, minDisconnects)
		}
		if len(flakyClients[i].reported) != messages {
			t.Errorf("client %d has %d reports, want %d", flakyClients[i].id, len(flakyClients[i].reported), messages)
		}
	}
	n := uint64(0)
	for _, h := range hubs {
		n += h.Stats().Fates[wire.FateReceived]
	}
	if n != uint64(clients*clients*messages) {
		t.Errorf("the hubs counted %d received messages, want %d", n, clients*clients*messages)
	}
}

// TestSession_FlakyConns_LoseNothing has each client lose its connection at least ten times,
// by EOF or by a reset, at random moments.
func TestSession_FlakyConns_LoseNothing(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		runFlakyClients(t, tr, hub.Config{ResumeWindow: time.Hour}, 10, tr.count(200), 10, mostlySmallSize)
	})
}

// TestHub_FullQueues_DoNotDeadlock has clients with full queues send to each other. A client
// can go on only when the hub reads its acknowledgements.
func TestHub_FullQueues_DoNotDeadlock(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		for _, size := range []int{20_000, 300_000} {
			runFlakyClients(t, tr, hub.Config{OutboxBytes: 32 << 10}, 3, tr.count(30), 0, func(_, _ uint64) int { return size })
		}
	})
}
