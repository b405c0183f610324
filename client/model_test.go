package client_test

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/cluster/membus"
	"github.com/sechlol/go-message-hub/wire"
)

// TestModel_ClientsAndHub runs random actions of clients while their connections break. Each
// message must arrive once, complete and in order, and each report must come once and be true.
func TestModel_ClientsAndHub(t *testing.T) { testModel(t, 4, 12, 1, 1) }

// TestModel_ClientsAndCluster is TestModel_ClientsAndHub in a cluster: the clients are at all hubs,
// and resume their sessions at each of them, and the frames between the hubs are lost, doubled,
// delayed and reordered. Each hub must soon know all clients.
func TestModel_ClientsAndCluster(t *testing.T) { testModel(t, 2, 6, 2, 3) }

// testModel runs a number of tests side by side, each with as many random runs as checks says, of
// clients of minHubs to maxHubs hubs.
func testModel(t *testing.T, tests, checks, minHubs, maxHubs int) {
	t.Helper()
	setFlagDefault("rapid.checks", strconv.Itoa(checks))
	setFlagDefault("rapid.steps", "80")
	setFlagDefault("rapid.shrinktime", "1s") // outcomes depend on time: few failures can be shrunk
	for i := range tests {                   // mostly waiting for connections
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				md := newModel(t, rapid.IntRange(minHubs, maxHubs).Draw(t, "hubs"))
				defer md.stop()
				t.Repeat(md.actions())
				md.finish(t)
			})
		})
	}
}

// givenFlags are the flags that the command line sets.
var givenFlags = sync.OnceValue(func() map[string]bool {
	given := make(map[string]bool)
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return given
})

// setFlagDefault sets a flag unless the command line sets it.
func setFlagDefault(name, value string) {
	if !givenFlags()[name] {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
}

// model is a hub, or a cluster of hubs, with some clients whose connections break. Beside it, the
// model keeps what the protocol promises: for each sender and receiver the messages in order, and
// for each report the allowed fates.
type model struct {
	hubs    []*modelHub // more than one: a cluster
	bus     *membus.Bus // between the hubs
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup // all goroutines of the model
	changed chan struct{}  // capacity 1: signals a possible change

	clients []*modelClient // changed only by the goroutine of the test, with mu held

	mu           sync.Mutex
	messages     []*modelMessage
	pendingLists int // List calls that have not returned
	problems     []string
}

// newModel starts hubs, and connects some clients to them.
func newModel(t *rapid.T, hubs int) *model {
	md := &model{bus: membus.New(rapid.Uint64().Draw(t, "seed")), changed: make(chan struct{}, 1)}
	md.ctx, md.cancel = context.WithCancel(context.Background())
	md.startHubs(t, hubs)
	for range rapid.IntRange(0, hubs).Draw(t, "classic") {
		md.connect(t, &modelClient{v1: true, usesOnMessage: rapid.Bool().Draw(t, "prompt")})
	}
	for range rapid.IntRange(2, 5).Draw(t, "clients") {
		md.addClient(t)
	}
	return md
}

// connect connects mc to one of the hubs.
func (md *model) connect(t *rapid.T, mc *modelClient) {
	mc.home = md.drawHub(t)
	mc.at = mc.home
	mc.model, mc.index, mc.dialer = md, len(md.clients), newFlakyDialer(mc.home.addr)
	mc.due = make(map[*modelClient][]*modelDelivery)
	mc.jobs, mc.online = make(chan *modelMessage, 10_000), make(chan struct{}, 1)
	mc.online <- struct{}{}
	mc.resumedAt = 1
	o := &client.Options{Dial: mc.dial, OnEvent: mc.onEvent, CloseTimeout: closeTimeout}
	if mc.usesOnMessage {
		o.OnMessage = mc.onMessage
	}
	if mc.v1 {
		o.Version = 1
	}
	c, err := client.Dial(md.ctx, mc.home.addr, o)
	if err != nil {
		t.Fatal(err)
	}
	mc.client, mc.id = c, c.ID()
	md.mu.Lock()
	md.clients = append(md.clients, mc)
	mc.home.checkID(mc.id)
	mc.joinedAt = time.Now()
	md.mu.Unlock()
	md.wg.Go(mc.send) // ends with jobs
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
	if len(md.hubs) > 1 { // a client would come back at the hub that ends last, with a new session
		md.leaveAll(t)
		md.wait(t, md.listMismatch)
	}
	md.cancel() // from here on clients may end
	if err := md.shutdown(testTimeout); err != nil {
		t.Fatalf("Shutdown: %v", err)
	}
	for _, mc := range md.clients {
		if mc.active() {
			mc.leave()
		}
	}
	md.wait(t, md.missing)
}

// leaveAll closes all clients, which must not have messages that their hub does not take.
func (md *model) leaveAll(t *rapid.T) {
	var leaving []*modelClient
	for _, mc := range md.clients {
		if mc.active() {
			mc.waitReconnect(t) // otherwise the hub would not get BYE
			mc.leave()
			leaving = append(leaving, mc)
		}
	}
	md.wait(t, md.missing)
	for _, mc := range leaving {
		if mc.leaveErr != nil {
			t.Fatalf("client %d: Close: %v", mc.index, mc.leaveErr)
		}
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
	_ = md.shutdown(time.Second) // after a failure, some clients have not received everything
	for _, mc := range md.clients {
		mc.goOnline()
		md.wg.Go(func() { mc.client.Close() }) // ends with the client
	}
	md.wg.Wait()
	md.closeHubs()
}
