package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/cluster/clustertest"
)

// maxPresenceDelay is how soon a hub must tell who comes and goes. It is far above the usual
// duration, because the machine can be busy.
const maxPresenceDelay = 5 * time.Second

// modelHub is a hub of the model. One more client of it watches who is connected.
type modelHub struct {
	*hub.Hub
	model   *model
	addr    string
	served  chan error
	member  *clustertest.Member // nil: it is alone
	watcher *client.Client

	// Guarded by model.mu.
	listed map[uint64]bool // what watcher knows; false: the client has left
}

// startHubs starts hubs with small outboxes, and with timeouts that are longer than the test.
func (md *model) startHubs(t *rapid.T, n int) {
	config := hub.Config{
		MaxQueuedBytes: 256 << 20,
		OutboxBytes:    rapid.SampledFrom([]int{4 << 10, 16 << 10, 64 << 10}).Draw(t, "outbox"),
		MaxReports:     rapid.SampledFrom([]int{3, 1000}).Draw(t, "reports"),
		ResumeWindow:   10 * testTimeout,
		ReportTimeout:  10 * testTimeout,
		StallTimeout:   10 * testTimeout,
	}
	if n > 1 { // with a small window, receivers at another hub often block what is sent to them
		config.Window = rapid.SampledFrom([]int{4 << 10, 64 << 10, hub.DefaultWindow}).Draw(t, "window")
	}
	for i := range n {
		h := &modelHub{model: md, served: make(chan error, 1), listed: make(map[uint64]bool)}
		if n > 1 {
			h.member = clustertest.NewMember(md.bus, cluster.Node(i+1))
			config.Cluster = h.member
		}
		if err := h.start(config); err != nil {
			t.Fatal(err)
		}
		md.hubs = append(md.hubs, h)
	}
	if n > 1 {
		md.wait(t, md.missingHubs)
	}
}

// missingHubs describes which hubs do not know each other, or returns "".
func (md *model) missingHubs() string {
	for i, h := range md.hubs {
		infos := h.Hubs()
		up := 0
		for _, info := range infos {
			if info.State == "up" {
				up++
			}
		}
		if up < len(md.hubs) {
			return fmt.Sprintf("hub %d: %+v", i, infos)
		}
	}
	return ""
}

// start serves the hub, and connects the watcher.
func (h *modelHub) start(config hub.Config) (err error) {
	if h.Hub, err = hub.New(config); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	h.addr = ln.Addr().String()
	h.model.wg.Go(func() { h.served <- h.Serve(context.Background(), ln) }) // ends with Shutdown
	if h.watcher, err = client.Dial(h.model.ctx, h.addr, nil); err == nil {
		h.model.wg.Go(h.watch) // ends with model.ctx
	}
	return err
}

// watch records who is connected.
func (h *modelHub) watch() {
	md := h.model
	for p, err := range h.watcher.Watch(md.ctx) {
		md.mu.Lock()
		if err != nil && md.ctx.Err() == nil {
			md.addProblem("watcher %d: %v", h.watcher.ID(), err)
		}
		for _, id := range p.Joined {
			h.record(id, true)
		}
		for _, id := range p.Left {
			h.record(id, false)
		}
		md.mu.Unlock()
		md.notify()
	}
}

// record records that a client is connected or not, and checks that it is so and that the hub says
// it soon. It is called with mu held.
func (h *modelHub) record(id uint64, listed bool) {
	h.listed[id] = listed
	for _, mc := range h.model.clients {
		if mc.id != id {
			continue
		}
		since := mc.joinedAt
		if !listed {
			since = mc.leftAt // zero while it leaves
		}
		if took := time.Since(since); !since.IsZero() && took > maxPresenceDelay || !listed && !mc.leaving {
			h.model.addProblem("client %d, which leaves: %v, is listed for watcher %d: %v, after %v", mc.index, mc.leaving, h.watcher.ID(), listed, took)
		}
	}
}

// checkID checks that the id of a client names its hub. It is called with mu held.
func (h *modelHub) checkID(id uint64) {
	node, ok := cluster.NodeOf(id)
	if ok != (h.member != nil) || ok && node != h.member.Node() {
		h.model.addProblem("client %#x of hub %v", id, node)
	}
}

// unknownID returns an id that no client has, even if the hub could assign it.
func (h *modelHub) unknownID(i int) uint64 {
	if h.member == nil || i%2 == 0 {
		return 1<<40 + uint64(i)
	}
	return cluster.FirstID(h.member.Node()) + 1<<30 + uint64(i)
}

// knows reports whether the hub must list a client: one of its own at once, and one of another hub
// from when its watcher knows it. It is called with mu held.
func (h *modelHub) knows(mc *modelClient) bool { return mc.home == h || h.listed[mc.id] }

// knowsEnd reports whether the hub must not list a client that has left: at once if it had both the
// session and the connection, and otherwise from when its watcher knows it. It is called with mu
// held.
func (h *modelHub) knowsEnd(mc *modelClient) bool {
	listed, seen := h.listed[mc.id]
	return mc.left && (mc.home == h && mc.at == h || seen && !listed)
}

// listMismatch describes the difference between the connected clients and what a hub lists, or
// tells its watcher, or returns "".
func (md *model) listMismatch() string {
	var want []uint64
	for _, h := range md.hubs {
		want = append(want, h.watcher.ID())
	}
	for _, mc := range md.clients {
		if mc.active() {
			want = append(want, mc.id)
		}
	}
	slices.Sort(want)
	ctx, cancel := context.WithTimeout(md.ctx, testTimeout)
	defer cancel()
	for i, h := range md.hubs {
		id := h.watcher.ID()
		got, err := h.watcher.List(ctx)
		got = append(got, id)
		if slices.Sort(got); err != nil || !slices.Equal(got, want) {
			return fmt.Sprintf("the list of hub %d is %v (%v), want %v", i, got, err, want)
		}
		if got := h.watched(); !slices.Equal(got, want) {
			return fmt.Sprintf("the watcher of hub %d knows %v, want %v", i, got, want)
		}
	}
	return ""
}

// watched returns the ids of the clients that the watcher knows, in ascending order.
func (h *modelHub) watched() (ids []uint64) {
	h.model.mu.Lock()
	defer h.model.mu.Unlock()
	for id, listed := range h.listed {
		if listed {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// shutdown ends all hubs at the same time. It can be called more than once.
func (md *model) shutdown(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	results := make(chan error, len(md.hubs))
	for _, h := range md.hubs {
		md.wg.Go(func() { results <- h.Shutdown(ctx) }) // ends with ctx
	}
	var errs []error
	for range md.hubs {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// closeHubs waits for the end of all hubs, and ends what they used.
func (md *model) closeHubs() {
	for _, h := range md.hubs {
		<-h.served
		h.watcher.Close()
		if h.member != nil {
			h.member.Close()
		}
	}
}
