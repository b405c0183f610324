package cluster

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sechlol/go-message-hub/internal/cluster/link"
)

// testBus connects hubs within a test of this package, which cannot import membus. It loses
// nothing.
type testBus struct {
	mu       sync.Mutex
	carriers map[Node]*busCarrier
	deaf     map[Node]bool // hubs that get no frames
	running  sync.WaitGroup
}

// busCarrier is the end of a testBus at one hub.
type busCarrier struct {
	bus    *testBus
	node   Node
	frames chan []byte
	stop   chan struct{}
}

// inTestBus runs a test in virtual time.
func inTestBus(t *testing.T, test func(t *testing.T, b *testBus)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &testBus{carriers: make(map[Node]*busCarrier), deaf: make(map[Node]bool)}
		t.Cleanup(b.running.Wait)
		test(t, b)
	})
}

// join returns the carrier of a hub. It ends after the test, behind what is started later.
func (b *testBus) join(t testing.TB, node Node) *busCarrier {
	c := &busCarrier{bus: b, node: node, frames: make(chan []byte, 10_000), stop: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.carriers[node] = c
	t.Cleanup(func() { close(c.stop) })
	return c
}

// setDeaf has a hub get no frames.
func (b *testBus) setDeaf(node Node, deaf bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deaf[node] = deaf
}

func (c *busCarrier) Send(to Node, frame []byte) error {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	for node, other := range c.bus.carriers {
		if node != c.node && (to == 0 || to == node) && !c.bus.deaf[node] {
			select {
			case other.frames <- slices.Clone(frame):
			default: // lost
			}
		}
	}
	return nil
}

func (c *busCarrier) Receive(handle func(frame []byte)) {
	c.bus.running.Go(func() { // until stop
		for {
			select {
			case frame := <-c.frames:
				handle(frame)
			case <-c.stop:
				return
			}
		}
	})
}

func (c *busCarrier) Close() error { return nil }

// rogue is a hub that speaks to hub testNode over a link, and of which the test decides what it
// says.
type rogue struct {
	carrier *busCarrier
	node    Node
	link    *link.Link
	stop    chan struct{}

	mu            sync.Mutex
	log           recordLog // what it has received in this generation
	breaks        int
	onEstablished func() // called each time
}

// startRogue starts a rogue and has it send a heartbeat. onEstablished is called in each
// generation.
func startRogue(t testing.TB, b *testBus, node Node, onEstablished func(r *rogue)) *rogue {
	r := &rogue{carrier: b.join(t, node), node: node, stop: make(chan struct{})}
	r.setOnEstablished(onEstablished)
	decode := &decoder{handler: &r.log}
	r.link = link.New(link.Config{
		Prefix: appendFramePrefix(nil, frameLink, node), MaxFrame: MaxFrame,
		Send: func(frame []byte) error { return r.carrier.Send(testNode, frame) },
		OnData: func(p []byte) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			return decode.write(p)
		},
		OnBreak: func(uint64, uint64, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			decode.reset()
			r.log.records = nil
			r.breaks++
		},
		OnEstablished: func() {
			r.mu.Lock()
			onEstablished := r.onEstablished
			r.mu.Unlock()
			onEstablished()
		},
	}, 0)
	b.running.Go(func() { r.link.Run(r.stop) }) // until stop
	t.Cleanup(func() { close(r.stop) })
	r.carrier.Receive(r.handle)
	r.beat(testHeartbeat("rogue"))
	return r
}

func (r *rogue) handle(frame []byte) {
	if kind, from, rest, ok := parseFramePrefix(frame); ok && kind == frameLink && from == testNode {
		r.link.Handle(rest)
	}
}

// setOnEstablished replaces what is called in each generation.
func (r *rogue) setOnEstablished(f func(r *rogue)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.onEstablished = func() { f(r) }
}

// beat sends a heartbeat.
func (r *rogue) beat(h *heartbeat) {
	r.carrier.Send(testNode, encodeHeartbeat(frameHeartbeat, r.node, testKey, h))
}

// say appends bytes to the stream.
func (r *rogue) say(data ...[]byte) {
	r.link.Append(slices.Concat(data...), nil, 0, 0)
	r.link.Flush()
}

// sayClients says which clients the rogue has.
func (r *rogue) sayClients(revision uint64, ids ...uint64) {
	head, body := clientsRecord(revision, clientsSnapshot, ids, nil)
	r.say(appendRecordHeader(nil, recordClients, len(head), len(body)), head, body)
}

// breakCount returns how often the link has broken.
func (r *rogue) breakCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.breaks
}

// received returns the records of a type that the rogue has received in this generation.
func (r *rogue) received(want recordType) (records []testRecord) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, record := range r.log.records {
		if record.recordType == want {
			records = append(records, record)
		}
	}
	return records
}
