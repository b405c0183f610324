package client_test

import (
	"context"
	"flag"
	"fmt"
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

// connect connects mc.
func (md *model) connect(t *rapid.T, mc *modelClient) {
	mc.model, mc.index, mc.dialer = md, len(md.clients), newFlakyDialer(md.addr)
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
	c, err := client.Dial(md.ctx, md.addr, o)
	if err != nil {
		t.Fatal(err)
	}
	mc.client, mc.id = c, c.ID()
	md.clients = append(md.clients, mc)
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
