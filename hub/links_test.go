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

// traveller is a client whose connection breaks again and again. It sends messages
// numbered from 1 to everybody, itself included, and holds what it gets to the
// promises: from each sender every message once and in order, for each of its own
// one report, which is true.
type traveller struct {
	addr     string
	messages int
	breaks   int
	random   *rand.Rand
	size     func(sender, seq uint64) int // of a body

	id     uint64
	secret string
	to     []uint64
	had    uint64            // counted frames
	last   map[uint64]uint64 // by sender: number of the last message
	done   map[uint64]bool   // by seq: reported
	credit int
	taken  uint64 // seq
	sent   uint64 // seq
	owed   int    // what the SENDs between them cost
	broken int
}

// travel connects until everything has come, or something is wrong.
func (v *traveller) travel() error {
	for !v.complete() {
		nc, err := net.Dial("tcp", v.addr)
		if err != nil {
			return err
		}
		err = v.visit(nc)
		if v.complete() { // what it said last must not be lost: nobody will come back to say it again
			_, _ = nc.Write(wire.AppendBye(nil))
			_, _ = io.Copy(io.Discard, nc)
		}
		if tcp := nc.(*net.TCPConn); v.random.IntN(2) == 0 {
			_ = tcp.SetLinger(0) // a reset, not an end
		}
		nc.Close()
		if err != nil {
			return fmt.Errorf("client %d, after %d breaks, %d sent, %d taken, %d reported, had %d, last %v: %w", v.id, v.broken, v.sent, v.taken, len(v.done), v.had, v.last, err)
		}
		v.broken++
	}
	return nil
}

func (v *traveller) complete() bool {
	if v.id == 0 || len(v.done) < v.messages {
		return false
	}
	for _, sender := range v.to {
		if v.last[sender] < uint64(v.messages) {
			return false
		}
	}
	return true
}

// visit is one connection: it lasts for a random number of frames.
func (v *traveller) visit(nc net.Conn) error {
	w, busy, err := v.enter(nc)
	if err != nil || busy {
		return err
	}
	if v.id != 0 && (!w.Resumed || w.ID != v.id) {
		return fmt.Errorf("came back as %+v", w)
	}
	v.id, v.secret, v.credit, v.taken, v.sent, v.owed = w.ID, w.Resume, w.Credit, w.Taken, w.Seq, 0
	for seq := v.taken + 1; seq <= v.sent; seq++ {
		v.owed += v.cost(seq)
	}
	if v.to == nil {
		return nil // it only came to get an id
	}
	left := -1 // as long as it takes
	if v.broken < v.breaks {
		left = 1 + v.random.IntN(len(v.to)*v.messages/v.breaks+1)
	}
	for ; left != 0 && !v.complete(); left-- {
		if err := v.speak(nc); err != nil {
			return err
		}
		if err := v.listen(nc); err != nil {
			return err
		}
	}
	return nil
}

// enter says HELLO. A hub that has not had the time to end the connection before asks it to come
// again.
func (v *traveller) enter(nc net.Conn) (w wire.Welcome, busy bool, err error) {
	hello := wire.Hello{Version: wire.Version2}
	if v.id != 0 {
		hello.ID, hello.Resume, hello.Received = v.id, v.secret, v.had
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
		return w, false, fmt.Errorf("HELLO was answered by %#x %q, %w", kind, payload, err)
	}
	w, err = wire.ParseWelcome(payload)
	return w, false, err
}

func readFrame(r net.Conn) (wire.Type, []byte, error) {
	if err := r.SetDeadline(time.Now().Add(patience)); err != nil {
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

func (v *traveller) cost(seq uint64) int {
	return wire.SendCost(len(v.to), v.size(v.id, seq), wire.DefaultReceiverCost)
}

// speak sends what may be sent.
func (v *traveller) speak(nc net.Conn) error {
	var b []byte
	for v.sent < uint64(v.messages) && (v.owed == 0 || v.owed+v.cost(v.sent+1) <= v.credit) {
		v.sent++
		v.owed += v.cost(v.sent)
		b = wire.AppendSend(b, v.sent, only(wire.LevelReceived), 0, v.to, v.body(v.id, v.sent))
	}
	if len(b) == 0 {
		return nil
	}
	_, err := nc.Write(b)
	return err
}

func (v *traveller) body(sender, seq uint64) []byte {
	return pattern(v.size(sender, seq), byte(sender+seq))
}

// assorted are small bodies, and some that are large enough to go their own way.
func assorted(sender, seq uint64) int {
	if seq%50 == 0 {
		return 70_000
	}
	return 16 + int(sender*31+seq*17)%200
}

func (v *traveller) listen(nc net.Conn) error {
	kind, payload, err := readFrame(nc)
	if err != nil {
		return err
	}
	switch kind {
	case wire.TypePing:
		n, _ := wire.ParseNumber(payload)
		_, err = nc.Write(wire.AppendPong(nil, n))
		return err
	case wire.TypeTaken:
		upTo, err := wire.ParseNumber(payload)
		for ; v.taken < upTo; v.taken++ {
			v.owed -= v.cost(v.taken + 1)
		}
		return err
	case wire.TypeDeliver:
		d, err := wire.ParseDeliver(payload)
		if err != nil {
			return err
		}
		if d.Seq != v.last[d.Sender]+1 {
			return fmt.Errorf("message %d from %d comes behind %d", d.Seq, d.Sender, v.last[d.Sender])
		}
		if !bytes.Equal(d.Body, v.body(d.Sender, d.Seq)) {
			return fmt.Errorf("message %d from %d is torn", d.Seq, d.Sender)
		}
		v.last[d.Sender] = d.Seq
	case wire.TypeReport:
		r, err := wire.ParseReport(payload)
		if err != nil {
			return err
		}
		if v.done[r.Seq] || len(r.Fates) != len(v.to) {
			return fmt.Errorf("report of %d: %d fates, and there was one before: %v", r.Seq, len(r.Fates), v.done[r.Seq])
		}
		for i, fate := range r.Fates {
			if wire.Fate(fate) != wire.FateReceived {
				return fmt.Errorf("message %d is %v for client %d", r.Seq, wire.Fate(fate), v.to[i])
			}
		}
		v.done[r.Seq] = true
	default:
		return fmt.Errorf("frame of type %#x: %q", kind, payload)
	}
	v.had++
	_, err = nc.Write(wire.AppendTaken(nil, v.had))
	return err
}

// journey has clients send to each other until all is done, and looks whether the
// hub's books say the same.
func journey(t *testing.T, config hub.Config, clients, messages, breaks int, size func(sender, seq uint64) int) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	h := start(t, config)
	all := make([]*traveller, clients)
	var ids []uint64
	for i := range all {
		all[i] = &traveller{
			addr: h.addr, messages: messages, breaks: breaks, size: size, random: rand.New(rand.NewPCG(seed, uint64(i))),
			last: map[uint64]uint64{}, done: map[uint64]bool{},
		}
		nc, err := net.Dial("tcp", h.addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := all[i].visit(nc); err != nil {
			t.Fatal(err)
		}
		nc.Close()
		ids = append(ids, all[i].id)
	}
	errs := make([]error, clients)
	var wg sync.WaitGroup
	for i, v := range all {
		v.to = ids
		wg.Go(func() { errs[i] = v.travel() })
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Error(err)
		}
		if all[i].broken < breaks {
			t.Errorf("client %d lost its connection %d times, want at least %d", all[i].id, all[i].broken, breaks)
		}
		if len(all[i].done) != messages {
			t.Errorf("client %d has %d reports, want %d", all[i].id, len(all[i].done), messages)
		}
	}
	if n := h.Stats().Fates[wire.FateReceived]; n != uint64(clients*clients*messages) {
		t.Errorf("%d received by the hub's books, want %d", n, clients*clients*messages)
	}
}

// TestLinksThatBreakLoseNothing has each client lose its connection at least ten
// times, by an end or by a reset, at random moments.
func TestLinksThatBreakLoseNothing(t *testing.T) {
	journey(t, hub.Config{ResumeWindow: time.Hour}, 10, 200, 10, assorted)
}

// TestNobodyWaitsForHimself has clients with full queues send to each other: each
// can only go on when it is heard what it has received.
func TestNobodyWaitsForHimself(t *testing.T) {
	for _, size := range []int{20_000, 300_000} {
		journey(t, hub.Config{OutboxBytes: 32 << 10}, 3, 30, 0, func(_, _ uint64) int { return size })
	}
}
