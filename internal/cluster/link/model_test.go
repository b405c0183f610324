package link

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/internal/body"
)

// TestLink_MatchesModel runs two hubs over a network that loses, doubles, delays and reorders
// frames, or refuses to send them. Either hub appends, breaks the streams, and replaces its link by
// a new one. Of each link and generation, the other side gets a prefix of what was appended, and
// nothing that was never sent. When the network is right again, the last generation of both sides
// is the same, and all that was appended to it arrives.
func TestLink_MatchesModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(t *rapid.T) { // a bubble has no Deadline
			m := newModel(t)
			t.Repeat(map[string]func(*rapid.T){
				"append":  m.append,
				"append2": m.append, // more often than what ends a generation
				"append3": m.append,
				"wait":    m.wait,
				"wait2":   m.wait,
				"faults":  m.changeFaults,
				"break":   m.breakStreams,
				"restart": m.restart,
				"":        m.check,
			})
			m.end(t)
		})
	})
}

// modelFaults is what the network of a model does to frames. The shares are in percent.
type modelFaults struct {
	loss, duplication, reorder, refusal int
	maxDelay                            time.Duration
}

// model is two hubs, and what they have appended.
type model struct {
	mu      sync.Mutex
	random  *rand.Rand
	faults  modelFaults
	hubs    [2]*modelHub
	buffers []*body.Buffer
	problem string // the first one
}

// modelHub is one hub. A new link of it is a new modelLink.
type modelHub struct {
	*modelLink
	number  int
	handler sync.Mutex // frames come one at a time
	arrival time.Time  // of the last frame in order that this hub has sent
	links   []*modelLink
}

// modelLink is a link and its streams. Guarded by model.mu.
type modelLink struct {
	link     *Link
	stop     chan struct{}
	done     chan struct{}
	received []byte            // since the last break
	last     uint64            // generation of the last break
	streams  map[uint64][]byte // what was appended, by generation
	sent     map[uint64]uint64 // as OnBreak says, by generation
	arrived  map[uint64]int    // what the other side has received, by generation
}

func newModel(t *rapid.T) *model {
	m := &model{random: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))}
	m.hubs = [2]*modelHub{{number: 0}, {number: 1}}
	for _, h := range m.hubs {
		m.start(h, 0)
	}
	return m
}

// start gives a hub a new link.
func (m *model) start(h *modelHub, generation uint64) {
	l := &modelLink{
		stop: make(chan struct{}), done: make(chan struct{}),
		streams: make(map[uint64][]byte), sent: make(map[uint64]uint64), arrived: make(map[uint64]int),
	}
	other := 1 - h.number
	l.link = New(Config{
		MaxFrame: 400,
		Send:     func(frame []byte) error { return m.send(h, m.hubs[other], frame) },
		OnData:   func(p []byte) error { return m.handleData(l, m.hubs[other], p) },
		OnBreak:  func(generation, sent uint64, _ error) { m.handleBreak(l, m.hubs[other], generation, sent) },

		OnEstablished: func() {},
	}, generation)
	m.mu.Lock()
	h.modelLink = l
	h.links = append(h.links, l)
	m.mu.Unlock()
	go func() { // until stop
		defer close(l.done)
		l.link.Run(l.stop)
	}()
}

func (m *model) stopLink(l *modelLink) {
	close(l.stop)
	<-l.done
}

// chance draws whether something happens. It is called with mu held.
func (m *model) chance(percent int) bool { return m.random.IntN(100) < percent }

func (m *model) send(from, to *modelHub, frame []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.chance(m.faults.refusal) {
		return errTest
	}
	copies := 1
	if m.chance(m.faults.loss) {
		copies = 0
	} else if m.chance(m.faults.duplication) {
		copies = 2
	}
	for range copies {
		at := time.Now().Add(testDelay + time.Duration(m.random.Int64N(1+int64(m.faults.maxDelay))))
		if !m.chance(m.faults.reorder) {
			if !at.After(from.arrival) {
				at = from.arrival.Add(1)
			}
			from.arrival = at
		}
		own := bytes.Clone(frame)
		time.AfterFunc(time.Until(at), func() { m.arrive(to, own) })
	}
	return nil
}

// arrive gives a frame to the link that the hub has now.
func (m *model) arrive(to *modelHub, frame []byte) {
	to.handler.Lock()
	defer to.handler.Unlock()
	m.mu.Lock()
	l := to.modelLink
	m.mu.Unlock()
	if l != nil {
		l.link.Handle(frame)
	}
	for i := range frame {
		frame[i] = 0xdb // Handle must not keep it
	}
}

// fail notes a problem. It is called with mu held.
func (m *model) fail(format string, args ...any) {
	if m.problem == "" {
		m.problem = fmt.Sprintf(format, args...)
	}
}

// handleData checks that what has arrived is the begin of one stream of the other hub.
func (m *model) handleData(l *modelLink, from *modelHub, p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l.received = append(l.received, p...)
	for _, source := range from.links {
		for generation, stream := range source.streams {
			if generation <= l.last || !bytes.HasPrefix(stream, l.received) {
				continue
			}
			source.arrived[generation] = max(source.arrived[generation], len(l.received))
			if sent, broken := source.sent[generation]; broken && uint64(len(l.received)) > sent {
				m.fail("%d bytes of generation %d arrive, and only %d were sent", len(l.received), generation, sent)
			}
			return nil
		}
	}
	m.fail("hub %d: %d bytes arrive that no stream begins with, after generation %d", 1-from.number, len(l.received), l.last)
	return nil
}

// handleBreak checks that what has arrived belongs to the generation that has ended.
func (m *model) handleBreak(l *modelLink, from *modelHub, generation, sent uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, again := l.sent[generation]; again || generation <= l.last {
		m.fail("generation %d has ended after generation %d", generation, l.last)
	}
	if arrived := l.arrived[generation]; uint64(arrived) > sent {
		m.fail("%d bytes of generation %d have arrived, and only %d were sent", arrived, generation, sent)
	}
	found := len(l.received) == 0
	for _, source := range from.links {
		found = found || bytes.HasPrefix(source.streams[generation], l.received)
	}
	if !found {
		m.fail("%d bytes of generation %d were not appended", len(l.received), generation)
	}
	l.sent[generation], l.last, l.received = sent, generation, nil
}

func (m *model) drawHub(t *rapid.T) *modelHub {
	return m.hubs[rapid.IntRange(0, 1).Draw(t, "hub")]
}

// append appends random bytes. At least eight at once, and thus in one frame, make it unlikely that
// two streams begin with the same.
func (m *model) append(t *rapid.T) {
	h := m.drawHub(t)
	head, size := rapid.SampledFrom([]int{0, 8, 50, 100}).Draw(t, "head"), rapid.SampledFrom([]int{0, 20, 900, 1500, 5000}).Draw(t, "size")
	m.appendTo(h, head, size)
	if rapid.Bool().Draw(t, "flush") {
		h.link.Flush()
	}
}

func (m *model) appendTo(h *modelHub, head, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	buffer := body.Get(head + size)
	m.buffers = append(m.buffers, buffer)
	p := buffer.Bytes()[:head+size]
	for i := range p {
		p[i] = byte(m.random.Uint32())
	}
	generation, end := h.link.Append(p[:head:head], buffer, head, head+size)
	h.streams[generation] = append(h.streams[generation], p...)
	if end != uint64(len(h.streams[generation])) {
		m.fail("Append returns %d as the end, want %d", end, len(h.streams[generation]))
	}
}

func (m *model) wait(t *rapid.T) {
	time.Sleep(rapid.SampledFrom([]time.Duration{
		0, time.Microsecond, testDelay, 5 * testDelay, 5 * time.Millisecond, 300 * time.Millisecond, 3 * time.Second,
	}).Draw(t, "wait"))
}

func (m *model) changeFaults(t *rapid.T) {
	percent := rapid.SampledFrom([]int{0, 0, 5, 30, 100})
	faults := modelFaults{
		loss: percent.Draw(t, "loss"), duplication: percent.Draw(t, "duplication"),
		reorder: percent.Draw(t, "reorder"), refusal: percent.Draw(t, "refusal"),
		maxDelay: rapid.SampledFrom([]time.Duration{0, testDelay, 20 * time.Millisecond, 2 * time.Second}).Draw(t, "delay"),
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = faults
}

func (m *model) breakStreams(t *rapid.T) { m.drawHub(t).link.Break(errTest) }

// restart replaces the link of a hub, which can know the generation of its predecessor, or not.
func (m *model) restart(t *rapid.T) {
	h := m.drawHub(t)
	generation := rapid.Uint64Range(0, 5).Draw(t, "generation")
	m.stopLink(h.modelLink)
	m.start(h, generation)
}

func (m *model) check(t *rapid.T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.problem != "" {
		t.Fatal(m.problem)
	}
}

// end ends the faults, and checks that both sides agree in the end.
func (m *model) end(t *rapid.T) {
	m.mu.Lock()
	m.faults = modelFaults{}
	m.mu.Unlock()
	time.Sleep(10 * time.Second) // the old frames arrive, and both sides send again
	for _, h := range m.hubs {
		m.appendTo(h, 10, 5000)
		h.link.Flush()
	}
	time.Sleep(10 * time.Second)
	synctest.Wait()
	a, b := m.hubs[0].link.Generation(), m.hubs[1].link.Generation()
	if a != b {
		t.Errorf("generations %d and %d", a, b)
	}
	m.mu.Lock()
	for i, h := range m.hubs {
		if got, want := h.received, m.hubs[1-i].streams[a]; !bytes.Equal(got, want) {
			t.Errorf("hub %d has received %d bytes, want %d: %+v", i, len(got), len(want), h.link.Stats())
		}
	}
	m.mu.Unlock()
	for _, h := range m.hubs {
		m.stopLink(h.modelLink)
	}
	time.Sleep(time.Second) // frames that are on their way
	for _, buffer := range m.buffers {
		if buffer.Shared() {
			t.Error("a buffer is still retained")
		}
		buffer.Release()
	}
	m.check(t)
}
