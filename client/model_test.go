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

// model is a hub with some clients whose connections break. Beside it, the model keeps what the
// protocol promises: for each sender and receiver the messages in order, and for each report
// the allowed fates.
type model struct {
	hub     *hub.Hub
	addr    string
	served  chan error
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup // all goroutines of the model
	changed chan struct{}  // capacity 1: signals a possible change

	// Owned by the goroutine of the test.
	clients []*modelClient

	mu           sync.Mutex
	messages     []*modelMessage
	pendingLists int // List calls that have not returned
	problems     []string
}

// modelClient is a client of the model.
type modelClient struct {
	model         *model
	index         int
	dialer        *flakyDialer
	client        *client.Client
	id            uint64
	v1            bool // speaks version 1
	usesOnMessage bool // has OnMessage, and delays no verdicts
	jobs          chan *modelMessage
	online        chan struct{} // capacity 1: full while dials succeed

	// Owned by the goroutine of the test.
	offline bool // the dialer is down
	closed  bool // jobs is closed

	// Guarded by model.mu.
	sent       uint64                            // seq of its last message
	due        map[*modelClient][]*modelDelivery // by sender: outstanding messages, in order
	unanswered []receivedMessage                 // received messages without a verdict
	cutAt      int                               // number of the last connection that was cut
	resumedAt  int                               // number of the last connection with a WELCOME
	leaving    bool                              // is closing
	left       bool
	leaveErr   error
}

// modelMessage is one Send.
type modelMessage struct {
	from       *modelClient
	to         []*modelClient // nil: an id without a client
	body       []byte
	options    *client.SendOptions // nil: without a report
	deliveries map[*modelClient]*modelDelivery

	// Guarded by model.mu.
	seq      uint64
	accepted bool // Send has returned nil
	failed   bool // Send has failed
	reports  int  // calls of onReport
}

// modelDelivery is a message for one receiver, possibly in several copies. It is guarded by
// model.mu.
type modelDelivery struct {
	message          *modelMessage
	copies           int
	arrived          int
	reportedReceived int       // copies that were reported as received
	notSent          int       // copies that were reported as not sent
	uncertain        int       // copies that expired with an uncertain fate: they may arrive
	verdict          wire.Fate // of the receiver; 0: none yet
}

// receivedMessage is a message that a client has received.
type receivedMessage struct {
	message  client.Message
	delivery *modelDelivery
}

// setVerdict records the verdict of the application. It is called with mu held.
func (a *receivedMessage) setVerdict(verdict wire.Fate) {
	if a.delivery.verdict == 0 {
		a.delivery.verdict = verdict
	}
}

// mayBeLost reports whether the options of the message allow its loss.
func (d *modelDelivery) mayBeLost() bool {
	o := d.message.options
	return d.message.failed || o != nil && (o.TTL > 0 || o.Overflow != wire.OverflowBlock)
}

// bodyHeaderLen is the number of bytes of a body that identify the message, for v1 receivers.
const bodyHeaderLen = 8

// makeBody returns a body that no other message has, if size is large enough.
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

// newModel starts a hub with small outboxes, and with timeouts that are longer than the test.
func newModel(t *rapid.T) *model {
	md := &model{served: make(chan error, 1), changed: make(chan struct{}, 1)}
	md.ctx, md.cancel = context.WithCancel(context.Background())
	var err error
	md.hub, err = hub.New(hub.Config{
		MaxQueuedBytes: 256 << 20,
		OutboxBytes:    rapid.SampledFrom([]int{4 << 10, 16 << 10, 64 << 10}).Draw(t, "outbox"),
		MaxReports:     rapid.SampledFrom([]int{3, 1000}).Draw(t, "reports"),
		ResumeWindow:   10 * testTimeout,
		ReportTimeout:  10 * testTimeout,
		StallTimeout:   10 * testTimeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	md.addr = ln.Addr().String()
	md.wg.Go(func() { md.served <- md.hub.Serve(context.Background(), ln) }) // ends with Shutdown
	if rapid.Bool().Draw(t, "classic") {
		md.connect(t, &modelClient{v1: true, usesOnMessage: rapid.Bool().Draw(t, "prompt")})
	}
	for range rapid.IntRange(2, 5).Draw(t, "clients") {
		md.addClient(t)
	}
	return md
}

// addClient adds a v2 client.
func (md *model) addClient(t *rapid.T) {
	if len(md.clients) >= 10 {
		t.Skip("there are enough clients")
	}
	md.connect(t, &modelClient{usesOnMessage: rapid.IntRange(0, 3).Draw(t, "prompt") == 0})
}

// connect connects mc.
func (md *model) connect(t *rapid.T, mc *modelClient) {
	mc.model, mc.index, mc.dialer = md, len(md.clients), newFlakyDialer(md.addr)
	mc.due = make(map[*modelClient][]*modelDelivery)
	mc.jobs, mc.online = make(chan *modelMessage, 10_000), make(chan struct{}, 1)
	mc.online <- struct{}{}
	mc.resumedAt = 1
	o := &client.Options{Dial: mc.dial, OnEvent: mc.onEvent}
	if mc.usesOnMessage {
		o.OnMessage = mc.onMessage
	}
	if mc.v1 {
		o.Version = 1
	}
	c, err := client.Dial(md.ctx, md.addr, o)
	if err != nil {
		t.Fatal(err)
	}
	mc.client, mc.id = c, c.ID()
	md.clients = append(md.clients, mc)
	md.wg.Go(mc.send) // ends with jobs
}

// dial waits while the client is offline: failed attempts would increase the backoff.
func (mc *modelClient) dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-mc.online:
		defer func() { mc.online <- struct{}{} }()
		return mc.dialer.dial(ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// onEvent is Options.OnEvent. The read goroutine calls it.
func (mc *modelClient) onEvent(e client.Event) {
	md := mc.model
	md.mu.Lock()
	defer md.mu.Unlock()
	switch {
	case e.Kind == client.EventResumed && e.ID == mc.id:
		mc.resumedAt = mc.dialer.connections()
	case e.Kind == client.EventDisconnected || e.Kind == client.EventReconnectFailed || e.Kind == client.EventClosed && (mc.leaving || md.ctx.Err() != nil):
	default:
		md.addProblem("client %d: %v as %d, %v", mc.index, e.Kind, e.ID, e.Err)
	}
	md.notify()
}

// connected reports whether mc has a connection that was not cut.
func (mc *modelClient) connected() bool {
	mc.model.mu.Lock()
	defer mc.model.mu.Unlock()
	return mc.resumedAt > mc.cutAt
}

// addProblem records a broken promise. It is called with mu held.
func (md *model) addProblem(format string, a ...any) {
	md.problems = append(md.problems, fmt.Sprintf(format, a...))
}

// notify signals a change.
func (md *model) notify() {
	select {
	case md.changed <- struct{}{}:
	default:
	}
}

// check fails the test if a promise was broken.
func (md *model) check(t *rapid.T) {
	md.mu.Lock()
	defer md.mu.Unlock()
	if len(md.problems) > 0 {
		t.Fatalf("%d problems:\n%s", len(md.problems), strings.Join(md.problems, "\n"))
	}
}

// wait waits until missing returns "". It calls missing repeatedly, without mu.
func (md *model) wait(t *rapid.T, missing func() string) {
	deadline := time.After(testTimeout)
	ticker := time.NewTicker(time.Millisecond) // for changes without a signal
	defer ticker.Stop()
	for {
		md.check(t)
		description := missing()
		if description == "" {
			return
		}
		select {
		case <-md.changed:
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("still missing: %s", description)
		}
	}
}

// drawClient draws a client for which ok returns true.
func (md *model) drawClient(t *rapid.T, ok func(*modelClient) bool) *modelClient {
	var candidates []*modelClient
	for _, mc := range md.clients {
		if ok(mc) {
			candidates = append(candidates, mc)
		}
	}
	if len(candidates) == 0 {
		t.Skip("no client fits")
	}
	return candidates[rapid.IntRange(0, len(candidates)-1).Draw(t, "client")]
}

// Called and changed only by the goroutine of the test.
func (mc *modelClient) active() bool        { return !mc.leaving }
func (mc *modelClient) canDisconnect() bool { return mc.active() && !mc.v1 }
func (mc *modelClient) usesReceive() bool   { return mc.active() && !mc.usesOnMessage }

// send sends a message to some other clients, to the sender itself, to unknown ids, to clients
// that have left, and to one client twice.
func (md *model) send(t *rapid.T) {
	from := md.drawClient(t, (*modelClient).active)
	msg := &modelMessage{from: from, deliveries: make(map[*modelClient]*modelDelivery)}
	size := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(0, 100_000)).Draw(t, "bytes")
	for _, i := range rapid.SliceOfN(rapid.IntRange(-1, len(md.clients)-1), 0, 5).Draw(t, "to") {
		if i < 0 {
			msg.to = append(msg.to, nil)
			continue
		}
		to := md.clients[i]
		msg.to = append(msg.to, to)
		if msg.deliveries[to] == nil {
			msg.deliveries[to] = &modelDelivery{message: msg}
		}
		msg.deliveries[to].copies++
		if to.v1 {
			size = max(size, bodyHeaderLen)
		}
	}
	if !from.v1 && rapid.IntRange(0, 3).Draw(t, "reported") > 0 {
		msg.options = drawOptions(t)
	}
	msg.body = makeBody(from.index, len(md.messages), size)
	md.mu.Lock()
	md.messages = append(md.messages, msg)
	md.mu.Unlock()
	from.jobs <- msg
}

// drawOptions draws SendOptions; few of them allow the loss of messages.
func drawOptions(t *rapid.T) *client.SendOptions {
	o := &client.SendOptions{Level: rapid.SampledFrom([]wire.Level{
		wire.LevelWritten, wire.LevelReceived, wire.LevelProcessed,
	}).Draw(t, "level")}
	switch rapid.IntRange(0, 9).Draw(t, "may be lost") {
	case 0:
		o.Overflow = wire.OverflowReject
	case 1:
		o.Overflow = wire.OverflowDropOldest
	case 2:
		o.TTL = time.Duration(rapid.IntRange(1, 100).Draw(t, "ttl")) * time.Millisecond
	}
	return o
}

// send sends the messages of mc, one after the other. Send can block.
func (mc *modelClient) send() {
	for msg := range mc.jobs {
		to := mc.model.expectDelivery(msg)
		var err error
		if msg.options == nil {
			err = mc.client.Send(mc.model.ctx, to, msg.body)
		} else {
			err = mc.client.SendFunc(mc.model.ctx, to, msg.body, msg.options, msg.onReport)
		}
		mc.model.recordSend(msg, err)
		mc.model.notify()
	}
}

// expectDelivery adds a message to the outstanding messages of its receivers, and returns their
// ids.
func (md *model) expectDelivery(msg *modelMessage) (to []uint64) {
	md.mu.Lock()
	defer md.mu.Unlock()
	if !msg.from.v1 {
		msg.from.sent++
		msg.seq = msg.from.sent
	}
	for i, mc := range msg.to {
		if mc == nil {
			to = append(to, 1<<40+uint64(i))
		} else {
			to = append(to, mc.id)
		}
	}
	for mc, d := range msg.deliveries {
		mc.due[msg.from] = append(mc.due[msg.from], d)
	}
	return to
}

// recordSend records the result of Send, and removes the message if Send has failed.
func (md *model) recordSend(msg *modelMessage, err error) {
	md.mu.Lock()
	defer md.mu.Unlock()
	if err == nil {
		msg.accepted = true
		return
	}
	if !msg.from.leaving || !errors.Is(err, client.ErrClosed) {
		md.addProblem("client %d: Send: %v", msg.from.index, err)
	}
	msg.failed = true
	msg.from.sent--
	for _, d := range msg.deliveries {
		md.recordNotSent(d, d.copies)
	}
}

// recordNotSent records that copies of a message cannot arrive. It is called with mu held.
func (md *model) recordNotSent(d *modelDelivery, copies int) {
	d.notSent += copies
	if d.arrived+d.notSent > d.copies {
		md.addProblem("%v: %d copies have arrived, and %d were not sent", d, d.arrived, d.notSent)
	}
}

// String identifies the message and its receiver.
func (d *modelDelivery) String() string {
	return fmt.Sprintf("message %d of client %d (%d bytes, %d copies, %+v)",
		d.message.seq, d.message.from.index, len(d.message.body), d.copies, d.message.options)
}

// onReport checks the report of the message.
func (msg *modelMessage) onReport(r *client.Report, err error) {
	md := msg.from.model
	md.mu.Lock()
	defer md.mu.Unlock()
	defer md.notify()
	msg.reports++
	switch {
	case msg.reports > 1:
		md.addProblem("client %d: message %d is reported %d times", msg.from.index, msg.seq, msg.reports)
	case err != nil:
		if !msg.from.leaving || !errors.Is(err, client.ErrClosed) {
			md.addProblem("client %d: message %d: %v", msg.from.index, msg.seq, err)
		}
	case r.Seq != msg.seq || len(r.Fates) != len(msg.to):
		md.addProblem("client %d: message %d to %d: report %+v", msg.from.index, msg.seq, len(msg.to), r)
	default:
		for i, fate := range r.Fates {
			md.checkFate(msg, msg.to[i], fate)
		}
	}
}

// checkFate checks that a fate is true at this moment. It is called with mu held.
func (md *model) checkFate(msg *modelMessage, to *modelClient, fate wire.Fate) {
	timed := msg.options.TTL > 0
	if to == nil {
		// Expired before the receivers were looked up.
		if fate != wire.FateUnknown && !(timed && fate == wire.FateExpired) {
			md.addProblem("client %d: message %d: an unknown receiver is %v", msg.from.index, msg.seq, fate)
		}
		return
	}
	d := msg.deliveries[to]
	ok := false
	switch fate {
	case wire.FateQueued, wire.FateExpired:
		ok = timed
	case wire.FateWritten:
		ok = timed || to.v1 || msg.options.Level == wire.LevelWritten
	case wire.FateReceived:
		d.reportedReceived++
		ok = !to.v1 && d.reportedReceived <= d.arrived && (timed || msg.options.Level == wire.LevelReceived)
	case wire.FateProcessed, wire.FateRejected:
		ok = fate == d.verdict && msg.options.Level == wire.LevelProcessed
	case wire.FateUncertain:
		ok = to.leaving || timed
	case wire.FateUnknown, wire.FateGone:
		ok = to.leaving
	case wire.FateFull:
		ok = msg.options.Overflow != wire.OverflowBlock
	}
	if !ok {
		md.addProblem("client %d: %v has arrived %d times, and is reported as %v", to.index, d, d.arrived, fate)
	}
	switch {
	// The message is not written again.
	case fate == wire.FateQueued, timed && !to.v1 && (fate == wire.FateWritten || fate == wire.FateUncertain):
		d.uncertain++
	}
	switch fate {
	case wire.FateExpired, wire.FateFull, wire.FateUnknown, wire.FateGone:
		md.recordNotSent(d, 1)
	}
}

// receive makes a client receive some messages and give verdicts on them.
func (md *model) receive(t *rapid.T) {
	mc := md.drawClient(t, (*modelClient).usesReceive)
	verdict := rapid.SampledFrom([]wire.Fate{0, wire.FateProcessed, wire.FateRejected}).Draw(t, "say")
	mc.receive(rapid.IntRange(1, 20).Draw(t, "most"), verdict)
}

// canceledCtx is a context with which Receive does not wait.
var canceledCtx = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// receive receives at most maxMessages messages that have arrived.
func (mc *modelClient) receive(maxMessages int, verdict wire.Fate) {
	for range maxMessages {
		mc.model.mu.Lock() // reports wait until the messages are recorded
		message, err := mc.client.Receive(canceledCtx)
		if err != nil {
			mc.model.mu.Unlock()
			return
		}
		mc.recordArrival(&message, verdict)
		mc.model.mu.Unlock()
		respond(message, verdict)
	}
}

// onMessage is Options.OnMessage.
func (mc *modelClient) onMessage(message client.Message) {
	verdict := wire.FateProcessed
	if len(message.Body)%2 == 1 {
		verdict = wire.FateRejected
	}
	mc.model.mu.Lock()
	mc.recordArrival(&message, verdict)
	mc.model.mu.Unlock()
	respond(message, verdict)
	mc.model.notify()
}

func respond(message client.Message, verdict wire.Fate) {
	switch verdict {
	case wire.FateProcessed:
		message.Ack()
	case wire.FateRejected:
		message.Nak()
	}
}

// recordArrival checks a received message against the outstanding ones, and records its future
// verdict. It is called with mu held.
func (mc *modelClient) recordArrival(got *client.Message, verdict wire.Fate) {
	md := mc.model
	from := mc.senderIndex(got)
	d := mc.takeExpected(from, got)
	if d == nil {
		md.addProblem("client %d: got message %d of client %d (%d bytes), and outstanding were %q",
			mc.index, got.Seq, from, len(got.Body), mc.dueFrom(from))
		return
	}
	d.arrived++
	md.recordNotSent(d, 0)
	if a := (receivedMessage{*got, d}); verdict == 0 {
		mc.unanswered = append(mc.unanswered, a)
	} else {
		a.setVerdict(verdict)
	}
}

// senderIndex returns the index of the sender of a message. For a v1 receiver only the body
// tells the sender.
func (mc *modelClient) senderIndex(got *client.Message) int {
	if mc.v1 && len(got.Body) >= bodyHeaderLen {
		return int(binary.BigEndian.Uint32(got.Body))
	}
	for from := range mc.due {
		if from.id == got.From {
			return from.index
		}
	}
	return -1
}

// takeExpected removes a received message from the outstanding ones, and those before it that
// may be lost. It returns nil if the message was not outstanding. It is called with mu held.
func (mc *modelClient) takeExpected(from int, got *client.Message) *modelDelivery {
	for sender, row := range mc.due {
		if sender.index != from {
			continue
		}
		for i, d := range row {
			if d.matches(got, mc.v1) {
				if d.arrived+1 == d.copies {
					i++
				}
				mc.due[sender] = row[i:]
				return d
			}
			if !d.mayBeLost() {
				break
			}
		}
	}
	return nil
}

// matches reports whether got is a copy of d.
func (d *modelDelivery) matches(got *client.Message, v1 bool) bool {
	id, seq := d.message.from.id, d.message.seq
	if v1 {
		id, seq = 0, 0
	}
	return got.From == id && got.Seq == seq && bytes.Equal(got.Body, d.message.body)
}

// dueFrom describes the outstanding messages of a sender. It is called with mu held.
func (mc *modelClient) dueFrom(from int) (due []string) {
	for sender, row := range mc.due {
		if sender.index == from {
			for _, d := range row {
				due = append(due, fmt.Sprintf("%v, %d arrived", d, d.arrived))
			}
		}
	}
	return due
}

// cut breaks the connection of a client.
func (md *model) cut(t *rapid.T) {
	mc := md.drawClient(t, func(mc *modelClient) bool { return mc.canDisconnect() && !mc.offline })
	mc.cut(rapid.Bool().Draw(t, "reset"))
}

// cut breaks the connection, and records its number.
func (mc *modelClient) cut(reset bool) {
	d := mc.dialer
	d.mu.Lock()
	dials := d.dials
	if reset {
		_ = d.nc.(*net.TCPConn).SetLinger(0)
	}
	d.nc.Close()
	d.mu.Unlock()
	mc.model.mu.Lock()
	mc.cutAt = dials
	mc.model.mu.Unlock()
}

// goOffline breaks a connection, and makes dials wait until goOnline.
func (md *model) goOffline(t *rapid.T) {
	mc := md.drawClient(t, func(mc *modelClient) bool { return mc.canDisconnect() && !mc.offline })
	mc.offline = true
	<-mc.online
	mc.cut(true)
}

func (md *model) goOnline(t *rapid.T) {
	mc := md.drawClient(t, func(mc *modelClient) bool { return mc.canDisconnect() && mc.offline })
	mc.goOnline()
}

func (mc *modelClient) goOnline() {
	if mc.offline {
		mc.offline = false
		mc.online <- struct{}{}
	}
}

// waitReconnect waits until a client has reconnected.
func (md *model) waitReconnect(t *rapid.T) {
	mc := md.drawClient(t, func(mc *modelClient) bool { return mc.canDisconnect() && !mc.offline })
	mc.waitReconnect(t)
}

func (mc *modelClient) waitReconnect(t *rapid.T) {
	mc.model.wait(t, func() string {
		if mc.connected() {
			return ""
		}
		return fmt.Sprintf("the reconnect of client %d", mc.index)
	})
}

// leave closes a client, which may still have many messages to send.
func (md *model) leave(t *rapid.T) {
	mc := md.drawClient(t, func(mc *modelClient) bool { return mc.canDisconnect() && !mc.offline && mc.index > 1 })
	mc.waitReconnect(t) // otherwise the hub would not get BYE
	mc.leave()
}

func (mc *modelClient) leave() {
	md := mc.model
	md.mu.Lock()
	mc.leaving = true
	md.mu.Unlock()
	md.wg.Go(func() { // ends when all is sent, or after Options.CloseTimeout
		err := mc.client.Close()
		md.mu.Lock()
		mc.left, mc.leaveErr = true, err
		md.mu.Unlock()
		md.notify()
	})
}

// list makes a client call List. The reply may come only when the client receives messages.
func (md *model) list(t *rapid.T) {
	mc := md.drawClient(t, (*modelClient).active)
	clients := slices.Clone(md.clients)
	gone := make(map[*modelClient]bool)
	md.mu.Lock()
	for _, other := range clients {
		gone[other] = other.left
	}
	md.pendingLists++
	md.mu.Unlock()
	md.wg.Go(func() { // ends when all clients receive
		ids, err := mc.client.List(md.ctx)
		md.mu.Lock()
		defer md.mu.Unlock()
		md.pendingLists--
		if err != nil {
			if !mc.leaving && md.ctx.Err() == nil {
				md.addProblem("client %d: List: %v", mc.index, err)
			}
			return
		}
		for _, other := range clients {
			if listed := slices.Contains(ids, other.id); other != mc && (listed && gone[other] || !listed && !other.leaving) {
				md.addProblem("client %d: client %d is listed: %v", mc.index, other.index, listed)
			}
		}
	})
}

// finish lets all clients receive until every promise is kept, and closes the hub and the
// clients.
func (md *model) finish(t *rapid.T) {
	for _, mc := range md.clients {
		mc.goOnline()
	}
	md.closeJobs()
	md.wait(t, func() string {
		for _, mc := range md.clients {
			if mc.usesReceive() {
				mc.receive(1000, wire.FateProcessed)
				mc.answerRemaining()
			}
		}
		return md.missing()
	})
	md.wait(t, md.listMismatch)
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	md.cancel() // from here on clients may end
	if err := md.hub.Shutdown(ctx); err != nil {
		t.Fatalf("Shutdown: %v", err)
	}
	for _, mc := range md.clients {
		if mc.active() {
			mc.leave()
		}
	}
	md.wait(t, md.missing)
}

// answerRemaining gives the verdict "processed" on all messages without one.
func (mc *modelClient) answerRemaining() {
	mc.model.mu.Lock()
	unanswered := mc.unanswered
	mc.unanswered = nil
	for i := range unanswered {
		unanswered[i].setVerdict(wire.FateProcessed)
	}
	mc.model.mu.Unlock()
	for _, arrival := range unanswered {
		arrival.message.Ack()
	}
}

// missing describes what must still happen, or returns "".
func (md *model) missing() string {
	md.mu.Lock()
	defer md.mu.Unlock()
	if md.pendingLists > 0 {
		return fmt.Sprintf("%d lists", md.pendingLists)
	}
	for _, mc := range md.clients {
		if mc.leaving && !mc.left {
			return fmt.Sprintf("the end of client %d", mc.index)
		}
	}
	for _, msg := range md.messages {
		if description := msg.missing(); description != "" {
			return description
		}
	}
	return ""
}

// missing describes what is still open about a message, or returns "". It is called with mu
// held.
func (msg *modelMessage) missing() string {
	switch {
	case msg.failed:
		return ""
	case !msg.accepted:
		return fmt.Sprintf("a Send of client %d", msg.from.index)
	case msg.options != nil && msg.reports == 0:
		return fmt.Sprintf("the report of message %d of client %d", msg.seq, msg.from.index)
	}
	for to, d := range msg.deliveries {
		// Whether the remaining receivers get the message is unknown then.
		unknown := msg.from.leaving && (msg.from.leaveErr != nil || d.mayBeLost())
		if !to.leaving && !unknown && d.arrived+d.notSent+d.uncertain < d.copies {
			return fmt.Sprintf("%v at client %d", d, to.index)
		}
	}
	return ""
}

// listMismatch describes the difference between the list of the hub and the connected clients.
func (md *model) listMismatch() string {
	ctx, cancel := context.WithTimeout(md.ctx, testTimeout)
	defer cancel()
	var asker *modelClient
	var want []uint64
	for _, mc := range md.clients {
		switch {
		case mc.active() && asker == nil:
			asker = mc
		case mc.active():
			want = append(want, mc.id)
		}
	}
	if got, err := asker.client.List(ctx); !slices.Equal(got, want) {
		return fmt.Sprintf("the list is %v (%v), want %v", got, err, want)
	}
	return ""
}

// closeJobs ends the sending when all is sent. It can be called more than once.
func (md *model) closeJobs() {
	for _, mc := range md.clients {
		if !mc.closed {
			mc.closed = true
			close(mc.jobs)
		}
	}
}

// stop stops everything in any state.
func (md *model) stop() {
	md.cancel()
	md.closeJobs()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = md.hub.Shutdown(ctx) // after a failure, some clients have not received everything
	for _, mc := range md.clients {
		mc.goOnline()
		md.wg.Go(func() { mc.client.Close() }) // ends with the client
	}
	md.wg.Wait()
	<-md.served
}

// TestModel_ClientsAndHub runs random actions of clients while their connections break. Each
// message must arrive once, complete and in order, and each report must come once and be true.
func TestModel_ClientsAndHub(t *testing.T) {
	setFlagDefault("rapid.checks", "12")
	setFlagDefault("rapid.steps", "80")
	setFlagDefault("rapid.shrinktime", "1s") // outcomes depend on time: few failures can be shrunk
	for i := range 4 {                       // mostly waiting for connections
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				md := newModel(t)
				defer md.stop()
				t.Repeat(map[string]func(*rapid.T){
					"send":    md.send,
					"sends":   md.send, // more frequent than the others
					"receive": md.receive,
					"cut":     md.cut,
					"down":    md.goOffline,
					"up":      md.goOnline,
					"settle":  md.waitReconnect,
					"leave":   md.leave,
					"join":    md.addClient,
					"list":    md.list,
					"":        md.check,
				})
				md.finish(t)
			})
		})
	}
}

// setFlagDefault sets a flag unless the command line sets it.
func setFlagDefault(name, value string) {
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	if !set {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}
