package client_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// world is a hub with a few clients, whose connections break, and beside it what they
// were promised: from each sender to each receiver a row of messages, and for each
// report what it may say.
type world struct {
	hub    *hub.Hub
	addr   string
	served chan error
	life   context.Context
	die    context.CancelFunc
	works  sync.WaitGroup // everything that runs beside the test
	stir   chan struct{}  // capacity 1: something may have changed

	// Owned by the test's goroutine.
	members []*member

	mu       sync.Mutex
	messages []*message
	asking   int // lists that have not come
	problems []string
}

// member is a client.
type member struct {
	world   *world
	index   int
	line    *line
	client  *client.Client
	id      uint64
	classic bool // it speaks version 1
	prompt  bool // it has an OnMessage, and does not let messages wait
	jobs    chan *message
	open    chan struct{} // capacity 1: holds something while the line is up

	// Owned by the test's goroutine.
	down   bool // its line
	closed bool // jobs is

	// Guarded by the world's lock.
	sent      uint64                // seq of its last message
	due       map[*member][]*parcel // by sender: what it has not got, in order
	unsaid    []arrival             // what it has got and said nothing about
	cutAt     int                   // number of the last connection that was cut
	resumedAt int                   // number of the last connection that was greeted
	leaving   bool                  // for good
	left      bool
	leaveErr  error
}

// message is one Send.
type message struct {
	from    *member
	to      []*member // nil: a stranger
	body    []byte
	options *client.SendOptions // nil: nobody asks for a report
	parcels map[*member]*parcel

	// Guarded by the world's lock.
	seq      uint64
	accepted bool // Send has taken it
	void     bool // Send has failed
	outcomes int  // how often done was called
}

// parcel is a message on its way to one receiver, perhaps in more than one copy. It is
// guarded by the world's lock.
type parcel struct {
	message *message
	copies  int
	arrived int
	claimed int       // copies that were reported to be received
	barred  int       // copies that were reported not to be sent
	queued  int       // copies of which nobody knew when their time was up: they may arrive, or not
	verdict wire.Fate // of the receiver; 0: none yet
}

// arrival is a message that a client has got.
type arrival struct {
	message client.Message
	parcel  *parcel
}

// judge notes what the application says. It is called with mu held.
func (a *arrival) judge(say wire.Fate) {
	if a.parcel.verdict == 0 {
		a.parcel.verdict = say
	}
}

// mayBeLost reports whether the one who sent it has allowed that.
func (p *parcel) mayBeLost() bool {
	o := p.message.options
	return p.message.void || o != nil && (o.TTL > 0 || o.Overload != wire.OverloadWait)
}

// bodyHead is how many bytes of a body say whose it is, for receivers of version 1.
const bodyHead = 8

// makeBody returns a body that no other message has, if it is not too short for that.
func makeBody(from, number, size int) []byte {
	random := rand.New(rand.NewPCG(uint64(from), uint64(number)))
	b := make([]byte, 0, size+8)
	b = binary.BigEndian.AppendUint32(b, uint32(from))
	b = binary.BigEndian.AppendUint32(b, uint32(number))
	for len(b) < size {
		b = binary.BigEndian.AppendUint64(b, random.Uint64())
	}
	return b[:size]
}

// newWorld starts a hub in which nobody is forgotten, and that has little room.
func newWorld(t *rapid.T) *world {
	w := &world{served: make(chan error, 1), stir: make(chan struct{}, 1)}
	w.life, w.die = context.WithCancel(context.Background())
	var err error
	w.hub, err = hub.New(hub.Config{
		MaxQueuedBytes: 256 << 20,
		OutboxBytes:    rapid.SampledFrom([]int{4 << 10, 16 << 10, 64 << 10}).Draw(t, "outbox"),
		MaxReports:     rapid.SampledFrom([]int{3, 1000}).Draw(t, "reports"),
		ResumeWindow:   10 * patience,
		ReportTimeout:  10 * patience,
		StallTimeout:   10 * patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	w.works.Go(func() { w.served <- w.hub.Serve(context.Background(), ln) }) // ends with Shutdown
	if rapid.Bool().Draw(t, "classic") {
		w.enter(t, &member{classic: true, prompt: rapid.Bool().Draw(t, "prompt")})
	}
	for range rapid.IntRange(2, 5).Draw(t, "clients") {
		w.join(t)
	}
	return w
}

// join adds a client of version 2.
func (w *world) join(t *rapid.T) {
	if len(w.members) >= 10 {
		t.Skip("there are enough")
	}
	w.enter(t, &member{prompt: rapid.IntRange(0, 3).Draw(t, "prompt") == 0})
}

// enter connects a client.
func (w *world) enter(t *rapid.T, m *member) {
	m.world, m.index, m.line = w, len(w.members), newLine(w.addr)
	m.due = make(map[*member][]*parcel)
	m.jobs, m.open = make(chan *message, 10_000), make(chan struct{}, 1)
	m.open <- struct{}{}
	m.resumedAt = 1
	o := &client.Options{Dial: m.dial, OnEvent: m.event}
	if m.prompt {
		o.OnMessage = m.take
	}
	if m.classic {
		o.Version = 1
	}
	c, err := client.Dial(w.life, w.addr, o)
	if err != nil {
		t.Fatal(err)
	}
	m.client, m.id = c, c.ID()
	w.members = append(w.members, m)
	w.works.Go(m.send) // ends with jobs
}

// dial waits for the line: attempts that fail would make the client wait for longer and longer.
func (m *member) dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-m.open:
		defer func() { m.open <- struct{}{} }()
		return m.line.dial(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// event is the client's OnEvent. It comes from the goroutine that makes the connections.
func (m *member) event(e client.Event) {
	w := m.world
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case e.Kind == client.EventResumed && e.ID == m.id:
		m.resumedAt = m.line.connections()
	case e.Kind == client.EventDisconnected || e.Kind == client.EventReconnectFailed || e.Kind == client.EventClosed && (m.leaving || w.life.Err() != nil):
	default:
		w.problem("client %d: %v as %d, %v", m.index, e.Kind, e.ID, e.Err)
	}
	w.touch()
}

// connected reports whether the connection is one that was not cut.
func (m *member) connected() bool {
	m.world.mu.Lock()
	defer m.world.mu.Unlock()
	return m.resumedAt > m.cutAt
}

// problem notes what is against a promise. It is called with mu held.
func (w *world) problem(format string, a ...any) {
	w.problems = append(w.problems, fmt.Sprintf(format, a...))
}

// touch says that something has changed.
func (w *world) touch() {
	select {
	case w.stir <- struct{}{}:
	default:
	}
}

// check fails the test if a promise was broken.
func (w *world) check(t *rapid.T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.problems) > 0 {
		t.Fatalf("%d problems:\n%s", len(w.problems), strings.Join(w.problems, "\n"))
	}
}

// wait waits until nothing is missing. missing is called without mu, again and again.
func (w *world) wait(t *rapid.T, missing func() string) {
	deadline := time.After(patience)
	look := time.NewTicker(time.Millisecond) // for what nobody tells of
	defer look.Stop()
	for {
		w.check(t)
		what := missing()
		if what == "" {
			return
		}
		select {
		case <-w.stir:
		case <-look.C:
		case <-deadline:
			t.Fatalf("still missing: %s", what)
		}
	}
}

// some draws one of the members for which ok holds.
func (w *world) some(t *rapid.T, ok func(*member) bool) *member {
	var candidates []*member
	for _, m := range w.members {
		if ok(m) {
			candidates = append(candidates, m)
		}
	}
	if len(candidates) == 0 {
		t.Skip("there is nobody")
	}
	return candidates[rapid.IntRange(0, len(candidates)-1).Draw(t, "client")]
}

func (m *member) here() bool    { return !m.leaving } // in the test's goroutine, which alone changes it
func (m *member) breaks() bool  { return m.here() && !m.classic }
func (m *member) patient() bool { return m.here() && !m.prompt }

// send has a client send something to a few others, to itself, to strangers, to those who
// have left, to somebody twice.
func (w *world) send(t *rapid.T) {
	from := w.some(t, (*member).here)
	msg := &message{from: from, parcels: make(map[*member]*parcel)}
	size := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(0, 100_000)).Draw(t, "bytes")
	for _, i := range rapid.SliceOfN(rapid.IntRange(-1, len(w.members)-1), 0, 5).Draw(t, "to") {
		if i < 0 {
			msg.to = append(msg.to, nil)
			continue
		}
		to := w.members[i]
		msg.to = append(msg.to, to)
		if msg.parcels[to] == nil {
			msg.parcels[to] = &parcel{message: msg}
		}
		msg.parcels[to].copies++
		if to.classic {
			size = max(size, bodyHead)
		}
	}
	if !from.classic && rapid.IntRange(0, 3).Draw(t, "reported") > 0 {
		msg.options = drawOptions(t)
	}
	msg.body = makeBody(from.index, len(w.messages), size)
	w.mu.Lock()
	w.messages = append(w.messages, msg)
	w.mu.Unlock()
	from.jobs <- msg
}

// drawOptions allows few messages to be lost.
func drawOptions(t *rapid.T) *client.SendOptions {
	o := &client.SendOptions{Level: rapid.SampledFrom([]wire.Level{
		wire.LevelWritten, wire.LevelReceived, wire.LevelProcessed,
	}).Draw(t, "level")}
	switch rapid.IntRange(0, 9).Draw(t, "may be lost") {
	case 0:
		o.Overload = wire.OverloadFail
	case 1:
		o.Overload = wire.OverloadDrop
	case 2:
		o.TTL = time.Duration(rapid.IntRange(1, 100).Draw(t, "ttl")) * time.Millisecond
	}
	return o
}

// send sends the messages of a member, one after the other, and waits with each of them for
// as long as Send does.
func (m *member) send() {
	for msg := range m.jobs {
		to := m.world.launch(msg)
		var err error
		if msg.options == nil {
			err = m.client.Send(m.world.life, to, msg.body)
		} else {
			err = m.client.SendFunc(m.world.life, to, msg.body, msg.options, msg.done)
		}
		m.world.settled(msg, err)
		m.world.touch()
	}
}

// launch promises a message to its receivers, and returns their ids.
func (w *world) launch(msg *message) (to []uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !msg.from.classic {
		msg.from.sent++
		msg.seq = msg.from.sent
	}
	for i, m := range msg.to {
		if m == nil {
			to = append(to, 1<<40+uint64(i))
		} else {
			to = append(to, m.id)
		}
	}
	for m, p := range msg.parcels {
		m.due[msg.from] = append(m.due[msg.from], p)
	}
	return to
}

// settled notes what Send says, and takes back what it has not taken.
func (w *world) settled(msg *message, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		msg.accepted = true
		return
	}
	if !msg.from.leaving || !errors.Is(err, client.ErrClosed) {
		w.problem("client %d: Send: %v", msg.from.index, err)
	}
	msg.void = true
	msg.from.sent--
	for _, p := range msg.parcels {
		w.bar(p, p.copies)
	}
}

// bar notes that copies of a message cannot arrive. It is called with mu held.
func (w *world) bar(p *parcel, copies int) {
	p.barred += copies
	if p.arrived+p.barred > p.copies {
		w.problem("%v: %d copies have arrived, and %d were not sent", p, p.arrived, p.barred)
	}
}

// String tells which one it is.
func (p *parcel) String() string {
	return fmt.Sprintf("message %d of client %d (%d bytes, %d copies, %+v)",
		p.message.seq, p.message.from.index, len(p.message.body), p.copies, p.message.options)
}

// done is what the client says has become of the message.
func (msg *message) done(r *client.Report, err error) {
	w := msg.from.world
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.touch()
	msg.outcomes++
	switch {
	case msg.outcomes > 1:
		w.problem("client %d: message %d is reported %d times", msg.from.index, msg.seq, msg.outcomes)
	case err != nil:
		if !msg.from.leaving || !errors.Is(err, client.ErrClosed) {
			w.problem("client %d: message %d: %v", msg.from.index, msg.seq, err)
		}
	case r.Seq != msg.seq || len(r.Fates) != len(msg.to):
		w.problem("client %d: message %d to %d: report %+v", msg.from.index, msg.seq, len(msg.to), r)
	default:
		for i, fate := range r.Fates {
			w.judge(msg, msg.to[i], fate)
		}
	}
}

// judge looks whether a report is true at this moment. It is called with mu held.
func (w *world) judge(msg *message, to *member, fate wire.Fate) {
	timed := msg.options.TTL > 0
	if to == nil {
		if fate != wire.FateUnknown && !(timed && fate == wire.FateExpired) { // before anybody was looked for
			w.problem("client %d: message %d: a stranger is %v", msg.from.index, msg.seq, fate)
		}
		return
	}
	p := msg.parcels[to]
	ok := false
	switch fate {
	case wire.FateQueued, wire.FateExpired:
		ok = timed
	case wire.FateWritten:
		ok = timed || to.classic || msg.options.Level == wire.LevelWritten
	case wire.FateReceived:
		p.claimed++
		ok = !to.classic && p.claimed <= p.arrived && (timed || msg.options.Level == wire.LevelReceived)
	case wire.FateProcessed, wire.FateRejected:
		ok = fate == p.verdict && msg.options.Level == wire.LevelProcessed
	case wire.FateUncertain:
		ok = to.leaving || timed
	case wire.FateUnknown, wire.FateGone:
		ok = to.leaving
	case wire.FateFull:
		ok = msg.options.Overload != wire.OverloadWait
	}
	if !ok {
		w.problem("client %d: %v has arrived %d times, and is reported %v", to.index, p, p.arrived, fate)
	}
	switch {
	case fate == wire.FateQueued, timed && !to.classic && (fate == wire.FateWritten || fate == wire.FateUncertain): // and is not written again
		p.queued++
	}
	switch fate {
	case wire.FateExpired, wire.FateFull, wire.FateUnknown, wire.FateGone:
		w.bar(p, 1)
	}
}

// receive has a client receive some of what has come, and say what becomes of it.
func (w *world) receive(t *rapid.T) {
	m := w.some(t, (*member).patient)
	say := rapid.SampledFrom([]wire.Fate{0, wire.FateProcessed, wire.FateRejected}).Draw(t, "say")
	m.receive(rapid.IntRange(1, 20).Draw(t, "most"), say)
}

// now is a context that does not wait.
var now = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// receive takes up to most messages, as far as they are there.
func (m *member) receive(most int, say wire.Fate) {
	for range most {
		m.world.mu.Lock() // so that nobody is told of it before it is noted
		message, err := m.client.Receive(now)
		if err != nil {
			m.world.mu.Unlock()
			return
		}
		m.note(&message, say)
		m.world.mu.Unlock()
		speak(message, say)
	}
}

// take is OnMessage.
func (m *member) take(message client.Message) {
	say := wire.FateProcessed
	if len(message.Body)%2 == 1 {
		say = wire.FateRejected
	}
	m.world.mu.Lock()
	m.note(&message, say)
	m.world.mu.Unlock()
	speak(message, say)
	m.world.touch()
}

func speak(message client.Message, say wire.Fate) {
	switch say {
	case wire.FateProcessed:
		message.Done()
	case wire.FateRejected:
		message.Reject()
	}
}

// note holds a message that has come against what must come, and notes what will be said
// about it. It is called with mu held.
func (m *member) note(got *client.Message, say wire.Fate) {
	w := m.world
	from := m.sender(got)
	p := m.expected(from, got)
	if p == nil {
		w.problem("client %d: got message %d of client %d (%d bytes), and due were %q",
			m.index, got.Seq, from, len(got.Body), m.row(from))
		return
	}
	p.arrived++
	w.bar(p, 0)
	if a := (arrival{*got, p}); say == 0 {
		m.unsaid = append(m.unsaid, a)
	} else {
		a.judge(say)
	}
}

// sender returns the index of the one who has sent a message. To a receiver of version 1
// only the body tells.
func (m *member) sender(got *client.Message) int {
	if m.classic && len(got.Body) >= bodyHead {
		return int(binary.BigEndian.Uint32(got.Body))
	}
	for from := range m.due {
		if from.id == got.From {
			return from.index
		}
	}
	return -1
}

// expected takes out of the row of a sender what has come, and before it what may be lost. It
// returns nil if that was not due. It is called with mu held.
func (m *member) expected(from int, got *client.Message) *parcel {
	for sender, row := range m.due {
		if sender.index != from {
			continue
		}
		for i, p := range row {
			if p.is(got, m.classic) {
				if p.arrived+1 == p.copies {
					i++
				}
				m.due[sender] = row[i:]
				return p
			}
			if !p.mayBeLost() {
				break
			}
		}
	}
	return nil
}

// is reports whether a message that has come is that one.
func (p *parcel) is(got *client.Message, classic bool) bool {
	id, seq := p.message.from.id, p.message.seq
	if classic {
		id, seq = 0, 0
	}
	return got.From == id && got.Seq == seq && bytes.Equal(got.Body, p.message.body)
}

// row tells what is due from a sender. It is called with mu held.
func (m *member) row(from int) (due []string) {
	for sender, row := range m.due {
		if sender.index == from {
			for _, p := range row {
				due = append(due, fmt.Sprintf("%v, %d arrived", p, p.arrived))
			}
		}
	}
	return due
}

// cut breaks a connection.
func (w *world) cut(t *rapid.T) {
	m := w.some(t, func(m *member) bool { return m.breaks() && !m.down })
	m.cut(rapid.Bool().Draw(t, "reset"))
}

// cut breaks the connection, and notes which one that was.
func (m *member) cut(reset bool) {
	l := m.line
	l.mu.Lock()
	made := l.made
	if reset {
		_ = l.nc.(*net.TCPConn).SetLinger(0)
	}
	l.nc.Close()
	l.mu.Unlock()
	m.world.mu.Lock()
	m.cutAt = made
	m.world.mu.Unlock()
}

// lineDown breaks a connection, and lets none through until lineUp.
func (w *world) lineDown(t *rapid.T) {
	m := w.some(t, func(m *member) bool { return m.breaks() && !m.down })
	m.down = true
	<-m.open
	m.cut(true)
}

func (w *world) lineUp(t *rapid.T) {
	m := w.some(t, func(m *member) bool { return m.breaks() && m.down })
	m.up()
}

func (m *member) up() {
	if m.down {
		m.down = false
		m.open <- struct{}{}
	}
}

// settle waits until a client is back.
func (w *world) settle(t *rapid.T) {
	m := w.some(t, func(m *member) bool { return m.breaks() && !m.down })
	m.settle(t)
}

func (m *member) settle(t *rapid.T) {
	m.world.wait(t, func() string {
		if m.connected() {
			return ""
		}
		return fmt.Sprintf("client %d comes back", m.index)
	})
}

// leave has a client go for good, while it may still have much to send.
func (w *world) leave(t *rapid.T) {
	m := w.some(t, func(m *member) bool { return m.breaks() && !m.down && m.index > 1 })
	m.settle(t) // or the hub would not learn of it
	m.leave()
}

func (m *member) leave() {
	w := m.world
	w.mu.Lock()
	m.leaving = true
	w.mu.Unlock()
	w.works.Go(func() { // ends when all is sent, or after Options.CloseTimeout
		err := m.client.Close()
		w.mu.Lock()
		m.left, m.leaveErr = true, err
		w.mu.Unlock()
		w.touch()
	})
}

// list has a client ask who is there. It may get the answer only when it receives.
func (w *world) list(t *rapid.T) {
	m := w.some(t, (*member).here)
	members := slices.Clone(w.members)
	gone := make(map[*member]bool)
	w.mu.Lock()
	for _, other := range members {
		gone[other] = other.left
	}
	w.asking++
	w.mu.Unlock()
	w.works.Go(func() { // ends when everybody receives
		ids, err := m.client.List(w.life)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.asking--
		if err != nil {
			if !m.leaving && w.life.Err() == nil {
				w.problem("client %d: List: %v", m.index, err)
			}
			return
		}
		for _, other := range members {
			if listed := slices.Contains(ids, other.id); other != m && (listed && gone[other] || !listed && !other.leaving) {
				w.problem("client %d: client %d is listed: %v", m.index, other.index, listed)
			}
		}
	})
}

// finish has everybody receive until every promise is kept, and ends the hub and its clients.
func (w *world) finish(t *rapid.T) {
	for _, m := range w.members {
		m.up()
	}
	w.close()
	w.wait(t, func() string {
		for _, m := range w.members {
			if m.patient() {
				m.receive(1000, wire.FateProcessed)
				m.sayTheRest()
			}
		}
		return w.missing()
	})
	w.wait(t, w.notListed)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.die() // from here on clients may end
	if err := w.hub.Shutdown(ctx); err != nil {
		t.Fatalf("Shutdown: %v", err)
	}
	for _, m := range w.members {
		if m.here() {
			m.leave()
		}
	}
	w.wait(t, w.missing)
}

// sayTheRest says of all messages that they are processed of which nothing was said.
func (m *member) sayTheRest() {
	m.world.mu.Lock()
	unsaid := m.unsaid
	m.unsaid = nil
	for i := range unsaid {
		unsaid[i].judge(wire.FateProcessed)
	}
	m.world.mu.Unlock()
	for _, one := range unsaid {
		one.message.Done()
	}
}

// missing tells what must still happen, if anything must.
func (w *world) missing() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asking > 0 {
		return fmt.Sprintf("%d lists", w.asking)
	}
	for _, m := range w.members {
		if m.leaving && !m.left {
			return fmt.Sprintf("the end of client %d", m.index)
		}
	}
	for _, msg := range w.messages {
		if what := msg.missing(); what != "" {
			return what
		}
	}
	return ""
}

// missing tells what must still become of a message. It is called with mu held.
func (msg *message) missing() string {
	switch {
	case msg.void:
		return ""
	case !msg.accepted:
		return fmt.Sprintf("a Send of client %d", msg.from.index)
	case msg.options != nil && msg.outcomes == 0:
		return fmt.Sprintf("the report of message %d of client %d", msg.seq, msg.from.index)
	}
	for to, p := range msg.parcels {
		unknown := msg.from.leaving && (msg.from.leaveErr != nil || p.mayBeLost()) // to those who are left
		if !to.leaving && !unknown && p.arrived+p.barred+p.queued < p.copies {
			return fmt.Sprintf("%v at client %d", p, to.index)
		}
	}
	return ""
}

// notListed tells how the list differs from who is there.
func (w *world) notListed() string {
	ctx, cancel := context.WithTimeout(w.life, patience)
	defer cancel()
	var asks *member
	var want []uint64
	for _, m := range w.members {
		switch {
		case m.here() && asks == nil:
			asks = m
		case m.here():
			want = append(want, m.id)
		}
	}
	if got, err := asks.client.List(ctx); !slices.Equal(got, want) {
		return fmt.Sprintf("the list is %v (%v), want %v", got, err, want)
	}
	return ""
}

// close ends the sending when all is sent. It may be called more than once.
func (w *world) close() {
	for _, m := range w.members {
		if !m.closed {
			m.closed = true
			close(m.jobs)
		}
	}
}

// end stops everything, however far it has come.
func (w *world) end() {
	w.die()
	w.close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = w.hub.Shutdown(ctx) // after a failure some have not received everything
	for _, m := range w.members {
		m.up()
		w.works.Go(func() { m.client.Close() }) // ends with the client
	}
	w.works.Wait()
	<-w.served
}

// TestClientsAndHubAreAsTheirModel has clients do what they may, in any order, while their
// connections break: each message must arrive once, whole and in its place, each report
// must come once and be true.
func TestClientsAndHubAreAsTheirModel(t *testing.T) {
	setDefault("rapid.checks", "12")
	setDefault("rapid.steps", "80")
	setDefault("rapid.shrinktime", "1s") // what happens also depends on time: few failures get smaller
	for i := range 4 {                   // most of the time they wait for connections
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				w := newWorld(t)
				defer w.end()
				t.Repeat(map[string]func(*rapid.T){
					"send":    w.send,
					"sends":   w.send, // more often than the others
					"receive": w.receive,
					"cut":     w.cut,
					"down":    w.lineDown,
					"up":      w.lineUp,
					"settle":  w.settle,
					"leave":   w.leave,
					"join":    w.join,
					"list":    w.list,
					"":        w.check,
				})
				w.finish(t)
			})
		})
	}
}

// setDefault sets a flag unless the command line does.
func setDefault(name, value string) {
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	if !set {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}
