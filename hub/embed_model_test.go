package hub_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// sendPlan is a random test: what happens at two hubs. At one of them, Hub.Send sends the
// messages, and at the other a client of version 2.
type sendPlan struct {
	Outbox, Credit int
	Stall          time.Duration
	Receivers      []receiverKind
	Steps          []sendStep
}

// sendStep is one step of a sendPlan.
type sendStep struct {
	Action   string // see sendModel.run
	Receiver int    // modulo the number of receivers
	Wait     time.Duration
	Messages []sendMessage // of "send"; of "burst", one for each lane
}

// sendMessage is a message to send.
type sendMessage struct {
	To           []int // modulo the number of receivers, or unknownReceiver
	Level        wire.Level
	Overflow     wire.Overflow
	TTL, Timeout time.Duration
	Size         int
}

const (
	minSteps, maxSteps = 20, 60
	burstMessages      = 6  // of each lane
	unknownReceiver    = -1 // stands for an id without a client
)

// pick draws one of the values, each of them with about the same probability.
func pick[E any](t *rapid.T, label string, values ...E) E {
	return values[int(rapid.Uint16().Draw(t, label)*40503>>4)%len(values)]
}

// drawMessage draws a message with a body of up to twice the size of a queue.
func drawMessage(t *rapid.T, outbox int) (m sendMessage) {
	for range pick(t, "receivers", 1, 1, 2, 3, 4, 0) {
		m.To = append(m.To, pick(t, "to", 0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, unknownReceiver))
	}
	m.Level = pick(t, "level", wire.LevelNone, wire.LevelWritten, wire.LevelReceived, wire.LevelProcessed)
	m.Overflow = pick(t, "overflow", wire.OverflowBlock, wire.OverflowBlock, wire.OverflowReject, wire.OverflowDropOldest)
	m.TTL = pick(t, "ttl", 0, 0, 57*time.Millisecond, 1003*time.Millisecond) // never ends when a timeout or a wait does
	m.Timeout = pick(t, "timeout", 100*time.Millisecond, time.Second, 3*time.Second)
	m.Size = pick(t, "size", 0, modelBodyHeader, 100, 900, 1200, outbox/2, outbox, 2*outbox)
	return m
}

func drawReceiver(t *rapid.T) receiverKind {
	k := receiverKind{version: pick(t, "version", 0, 1, 2, 2)}
	if k.version != 1 {
		k.verdict = pick(t, "verdict", 0, wire.FateProcessed, wire.FateRejected)
	}
	if k.version == 2 {
		k.withholds = pick(t, "withholds", false, false, true)
		k.maxBody = pick(t, "max body", 0, 0, 1000)
	}
	return k
}

func drawStep(t *rapid.T, outbox int) sendStep {
	s := sendStep{Action: pick(t, "action", "send", "send", "send", "send", "send", "burst", "pause", "pause", "resume", "leave", "wait", "wait")}
	switch s.Action {
	case "send":
		s.Messages = []sendMessage{drawMessage(t, outbox)}
	case "burst":
		for range pick(t, "lanes", 2, 3, 4) {
			m := drawMessage(t, outbox)
			m.Level, m.Overflow, m.TTL = wire.LevelNone, wire.OverflowBlock, 0
			s.Messages = append(s.Messages, m)
		}
	case "wait":
		s.Wait = pick(t, "wait", 50*time.Millisecond, time.Second, 4*time.Second)
	default:
		s.Receiver = pick(t, "receiver", 0, 1, 2, 3, 4, 5)
	}
	return s
}

func drawPlan(t *rapid.T) (p sendPlan) {
	p.Outbox = pick(t, "outbox", 4<<10, 16<<10)
	p.Credit = pick(t, "credit", 1<<30, 1<<30, 4<<10, 64<<10)
	p.Stall = pick(t, "stall", time.Hour, time.Hour, 2011*time.Millisecond) // as for the TTL
	p.Receivers = rapid.SliceOfN(rapid.Custom(drawReceiver), 2, 6).Draw(t, "receivers")
	step := rapid.Custom(func(t *rapid.T) sendStep { return drawStep(t, p.Outbox) })
	p.Steps = rapid.SliceOfN(step, minSteps, maxSteps).Draw(t, "steps")
	return p
}

// modelMessage is a message of the model.
type modelMessage struct {
	index, lane    int // those of a lane are sent in order
	to             []int
	level          wire.Level
	overflow       wire.Overflow
	ttl, timeout   time.Duration
	body           []byte
	before         []receiverState // of each receiver, when it was sent
	senderBlockage bool            // it can have waited for credit

	// Guarded by sendModel.mu.
	done  [2]bool // by hub
	fates [2][]wire.Fate
}

func (m *modelMessage) String() string {
	return fmt.Sprintf("message %d of %d bytes to %v, level %d, overflow %d, TTL %v, timeout %v",
		m.index, len(m.body), m.to, m.level, m.overflow, m.ttl, m.timeout)
}

// receiverState is what the model knows of a receiver. It is the same at both hubs.
type receiverState struct {
	left, paused bool
	mayBeLost    bool // the hub can have ended it, because it is stalled
	differs      bool // the queues of both hubs can differ: batches were built concurrently
}

// canEnd reports whether the receiver has left, or the hub can have ended it.
func (s receiverState) canEnd() bool { return s.left || s.mayBeLost }

// sendModel runs a sendPlan, and knows what must come out.
type sendModel struct {
	plan   sendPlan
	hubs   [2]*modelHub
	states []receiverState
	lanes  int

	mu       sync.Mutex
	messages []*modelMessage
	problems []string
}

func (md *sendModel) addProblem(format string, a ...any) {
	md.mu.Lock()
	defer md.mu.Unlock()
	md.problems = append(md.problems, fmt.Sprintf(format, a...))
}

// message returns a message by its index, or nil.
func (md *sendModel) message(index int) *modelMessage {
	md.mu.Lock()
	defer md.mu.Unlock()
	if index < 0 || index >= len(md.messages) {
		return nil
	}
	return md.messages[index]
}

// run runs the plan in virtual time.
func (md *sendModel) run(t *testing.T) {
	for i := range md.hubs {
		h := &modelHub{model: md, index: i, testHub: startInMemory(t, hub.Config{
			MaxQueuedBytes: 1 << 30, OutboxBytes: md.plan.Outbox, Credit: md.plan.Credit, StallTimeout: md.plan.Stall, KeepAlive: time.Hour,
		})}
		for _, kind := range md.plan.Receivers {
			h.addReceiver(t, kind)
		}
		if h.sender = (hubSender{h}); i == 1 {
			h.sender = newClientSender(t, h)
		}
		md.hubs[i] = h
	}
	md.states = make([]receiverState, len(md.plan.Receivers))
	md.lanes = 1
	for _, step := range md.plan.Steps {
		synctest.Wait()
		md.step(step)
	}
	md.finish()
}

// step runs one step at both hubs.
func (md *sendModel) step(step sendStep) {
	r := step.Receiver % len(md.states)
	state := &md.states[r]
	onBoth := func(f func(*modelReceiver)) {
		for _, h := range md.hubs {
			f(h.receivers[r])
		}
	}
	switch {
	case step.Action == "send":
		m := md.newMessage(&step.Messages[0], 0)
		for _, h := range md.hubs {
			go h.send([]*modelMessage{m}) // ends when it is reported
		}
	case step.Action == "burst":
		md.burst(step.Messages)
	case step.Action == "wait":
		time.Sleep(step.Wait)
	case state.left:
	case step.Action == "pause" && !state.paused:
		state.paused, state.mayBeLost = true, state.mayBeLost || md.plan.Stall < time.Hour
		onBoth((*modelReceiver).pause)
	case step.Action == "resume" && state.paused:
		state.paused = false
		onBoth((*modelReceiver).unpause)
	case step.Action == "leave":
		state.paused, state.left = false, true
		onBoth((*modelReceiver).unpause)
		synctest.Wait()
		onBoth((*modelReceiver).leave)
	}
}

// burst sends several messages in each lane, and the lanes concurrently.
func (md *sendModel) burst(lanes []sendMessage) {
	for i := range lanes {
		var messages []*modelMessage
		for range burstMessages {
			messages = append(messages, md.newMessage(&lanes[i], md.lanes))
		}
		md.lanes++
		for _, r := range messages[0].to {
			if r >= 0 {
				state := &md.states[r]
				state.differs = state.differs || !messages[0].onTime(r)
			}
		}
		for _, h := range md.hubs {
			go h.send(messages) // ends when they are sent
		}
	}
}

// newMessage adds a message to the model.
func (md *sendModel) newMessage(s *sendMessage, lane int) *modelMessage {
	m := &modelMessage{lane: lane, level: s.Level, overflow: s.Overflow, ttl: s.TTL, timeout: s.Timeout, before: slices.Clone(md.states)}
	for _, r := range s.To {
		if r != unknownReceiver {
			r %= len(md.states)
		}
		m.to = append(m.to, r)
	}
	for _, state := range md.states {
		m.senderBlockage = m.senderBlockage || md.plan.Credit < 1<<30 && (state.paused || state.mayBeLost)
	}
	md.mu.Lock()
	defer md.mu.Unlock()
	m.index = len(md.messages)
	m.body = pattern(s.Size, byte(m.index))
	if s.Size >= modelBodyHeader {
		binary.BigEndian.PutUint32(m.body, uint32(m.index))
	}
	md.messages = append(md.messages, m)
	return m
}

// send sends messages one after the other.
func (h *modelHub) send(messages []*modelMessage) {
	for _, m := range messages {
		h.sender.send(m, h.ids(m.to), func(fates []wire.Fate) {
			h.model.mu.Lock()
			defer h.model.mu.Unlock()
			m.done[h.index], m.fates[h.index] = true, fates
		})
	}
}

// finish lets all receivers receive, waits for all reports, and checks the result.
func (md *sendModel) finish() {
	synctest.Wait()
	for _, h := range md.hubs {
		for _, r := range h.receivers {
			r.unpause()
		}
	}
	for range 60 {
		time.Sleep(time.Second)
		synctest.Wait()
	}
	for _, m := range md.messages {
		if m.done != [2]bool{true, true} {
			md.addProblem("%v is sent and reported: %v", m, m.done)
			return
		}
		md.checkFates(m)
	}
	for _, h := range md.hubs {
		for i, r := range h.receivers {
			md.checkReceived(h, i, r.received())
		}
	}
}

// fateSet is a set of fates.
type fateSet uint32

func setOf(fates ...wire.Fate) (s fateSet) {
	for _, f := range fates {
		s |= 1 << f
	}
	return s
}

func (s fateSet) String() string {
	var names []string
	for f := range wire.Fate(32) {
		if s&setOf(f) != 0 {
			names = append(names, f.String())
		}
	}
	return strings.Join(names, "|")
}

// checkFates checks that the fates of a message are allowed at both hubs, and equal unless the
// sender, or concurrent messages, have waited.
func (md *sendModel) checkFates(m *modelMessage) {
	if m.level == wire.LevelNone {
		return
	}
	for i := range m.to {
		allowed := md.allowed(m, i)
		for h := range md.hubs {
			if len(m.fates[h]) != len(m.to) || allowed&setOf(m.fates[h][i]) == 0 {
				md.addProblem("%v: receiver %d at hub %d: %v, want %v", m, i, h, m.fates[h], allowed)
				return
			}
		}
	}
	for i, r := range m.to {
		comparable := r < 0 || !md.states[r].differs || m.onTime(r) && !md.states[r].mayBeLost
		if !m.senderBlockage && comparable && m.fates[0][i] != m.fates[1][i] {
			md.addProblem("%v: the fates differ: %v and %v", m, m.fates[0], m.fates[1])
		}
	}
}

// allowed returns the fates that a message can have for its receiver i.
func (md *sendModel) allowed(m *modelMessage, i int) (s fateSet) {
	if m.ttl > 0 && m.senderBlockage { // it can expire before its receivers are looked for
		s = setOf(wire.FateExpired)
	}
	if m.to[i] < 0 || m.before[m.to[i]].left {
		return s | setOf(wire.FateUnknown)
	}
	kind, before, canEnd := md.plan.Receivers[m.to[i]], m.before[m.to[i]], md.states[m.to[i]].canEnd()
	lost := before.mayBeLost || canEnd && (before.paused || m.senderBlockage)
	if lost {
		s |= setOf(wire.FateUnknown, wire.FateGone, wire.FateUncertain)
	}
	if kind.maxBody > 0 && len(m.body) > kind.maxBody {
		return s | setOf(wire.FateTooLarge)
	}
	if !m.onTime(m.to[i]) {
		s |= setOf(wire.FatePending, wire.FateQueued, wire.FateWritten)
		if m.ttl > 0 {
			s |= setOf(wire.FateExpired)
		}
	}
	if m.overflow != wire.OverflowBlock && (!m.onTime(m.to[i]) || m.copies(m.to[i]) > 1) {
		s |= setOf(wire.FateFull)
	}
	final := wire.FateWritten
	switch {
	case m.level == wire.LevelWritten || kind.version == 1:
	case m.level == wire.LevelProcessed && kind.verdict != 0:
		final = kind.verdict
		if !m.onTime(m.to[i]) && !kind.withholds {
			s |= setOf(wire.FateReceived)
		}
	default:
		if !kind.withholds {
			final = wire.FateReceived
		}
		if canEnd && (final != wire.FateReceived || m.level == wire.LevelProcessed) {
			s |= setOf(wire.FateUncertain)
		}
	}
	return s | setOf(final)
}

// onTime reports whether a message reached the receiver as soon as it was sent.
func (m *modelMessage) onTime(receiver int) bool {
	state := m.before[receiver]
	return !m.senderBlockage && !state.paused && !state.mayBeLost
}

// copies returns how many copies of a message its receiver gets.
func (m *modelMessage) copies(receiver int) (n int) {
	for _, r := range m.to {
		if r == receiver {
			n++
		}
	}
	return n
}

// checkReceived checks what a receiver has received: whole messages, in order, as often as their
// fates say.
func (md *sendModel) checkReceived(h *modelHub, receiver int, got []int) {
	counts, last := make(map[int]int), make(map[int]int)
	for _, index := range got {
		counts[index]++
		if index < 0 {
			continue
		}
		lane := md.messages[index].lane
		if index < last[lane] {
			md.addProblem("receiver %d at hub %d: message %d after %d", receiver, h.index, index, last[lane])
		}
		last[lane] = index
	}
	unnamedMin, unnamedMax := 0, 0
	for _, m := range md.messages {
		least, most := md.expected(h, m, receiver)
		if len(m.body) < modelBodyHeader {
			unnamedMin, unnamedMax = unnamedMin+least, unnamedMax+most
		} else if n := counts[m.index]; n < least || n > most {
			md.addProblem("receiver %d at hub %d: %v: %v has arrived %d times, want %d to %d", receiver, h.index, m, m.fates[h.index], n, least, most)
		}
	}
	if n := counts[-1]; n < unnamedMin || n > unnamedMax {
		md.addProblem("receiver %d at hub %d: %d empty messages have arrived, want %d to %d", receiver, h.index, n, unnamedMin, unnamedMax)
	}
}

// expected returns how often a message must have arrived at a receiver.
func (md *sendModel) expected(h *modelHub, m *modelMessage, receiver int) (least, most int) {
	kind, before := md.plan.Receivers[receiver], m.before[receiver]
	if before.left || kind.maxBody > 0 && len(m.body) > kind.maxBody {
		return 0, 0
	}
	mayBeLost := !m.onTime(receiver) && (before.mayBeLost || md.states[receiver].canEnd())
	for i, r := range m.to {
		if r != receiver {
			continue
		}
		fate := wire.FatePending // as if the report came early
		if m.level != wire.LevelNone {
			fate = m.fates[h.index][i]
		}
		mayExpire := m.ttl > 0 && !m.onTime(receiver)
		mayBeFull := m.overflow != wire.OverflowBlock && (!m.onTime(receiver) || m.copies(receiver) > 1)
		switch {
		case fate >= wire.FateUnknown && fate != wire.FateUncertain && fate != wire.FateRejected:
		case fate == wire.FateReceived || fate == wire.FateProcessed || fate == wire.FateRejected:
			least, most = least+1, most+1
		case mayBeLost || fate < wire.FateWritten && (mayExpire || mayBeFull):
			most++
		default:
			least, most = least+1, most+1
		}
	}
	return least, most
}

// TestSend_Model_AsOfAClient runs random plans. The fates of messages that Hub.Send sends must be
// true, and those that a client of version 2 gets for the same messages.
func TestSend_Model_AsOfAClient(t *testing.T) {
	setFlagDefault("rapid.checks", "100")
	setFlagDefault("rapid.shrinktime", "10s")
	rapid.Check(t, func(rt *rapid.T) {
		md := &sendModel{plan: drawPlan(rt)} // in the goroutine of rapid, which is not in the bubble
		synctest.Test(t, md.run)
		if len(md.problems) > 0 {
			rt.Fatalf("%d problems:\n%s", len(md.problems), strings.Join(md.problems[:min(5, len(md.problems))], "\n"))
		}
	})
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
