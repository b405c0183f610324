package hub_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// hubPool holds the hubs to which clients connect, as a load balancer does.
type hubPool struct {
	mu   sync.Mutex
	hubs []*testHub
}

// dial connects to a random hub.
func (p *hubPool) dial(context.Context) (net.Conn, error) {
	p.mu.Lock()
	h := p.hubs[rand.IntN(len(p.hubs))]
	p.mu.Unlock()
	return h.dial()
}

// set replaces the hubs.
func (p *hubPool) set(hubs ...*testHub) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hubs = hubs
}

// arrivals counts the messages that a client has received, by sender and number. What is sent again
// in a new session can come behind later messages, if it was lost before.
type arrivals struct {
	mu    sync.Mutex
	count map[[2]uint64]int
}

func (a *arrivals) add(m client.Message) {
	n := binary.BigEndian.Uint64(m.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count[[2]uint64{m.From, n}]++
}

// TestRollingRestart_LosesNothing ends three hubs one after the other while clients send to each
// other, and starts a new hub for each. Each message that was reported as received has arrived
// once, and each that was reported as not delivered has not.
func TestRollingRestart_LosesNothing(t *testing.T) {
	const clients = 4
	config := hub.Config{ReportTimeout: 2 * time.Second}
	tc := startCluster(t, 3, config)
	pool := &hubPool{hubs: tc.hubs[:3:3]}
	all, got, ids := make([]*client.Client, clients), make([]*arrivals, clients), make([]uint64, clients)
	for i := range all {
		a := &arrivals{count: make(map[[2]uint64]int)}
		all[i], got[i] = tc.hubs[0].dialWith(t, &client.Options{Resend: true, Dial: pool.dial, OnMessage: a.add}), a
		ids[i] = all[i].ID()
	}
	tc.waitKnown(t, clients)
	stop, fates := make(chan struct{}), make([]map[uint64][]wire.Fate, clients)
	var sending sync.WaitGroup
	for i, c := range all {
		fates[i] = make(map[uint64][]wire.Fate)
		var mu sync.Mutex
		sending.Go(func() { // ends with stop, when all reports have come
			var reports sync.WaitGroup
			for n := uint64(1); !isStopped(stop); n++ {
				reports.Add(1)
				err := c.SendFunc(t.Context(), ids, binary.BigEndian.AppendUint64(nil, n), nil, func(r *client.Report, err error) {
					defer reports.Done()
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					fates[i][n] = r.Fates
				})
				if err != nil {
					t.Error(err)
					reports.Done()
					break
				}
			}
			reports.Wait()
		})
	}
	live := tc.hubs[:3:3]
	for i := range 3 {
		old := live[i]
		next := tc.add(t, config)
		eventually(t, "the new hub knows the clients", func() bool { return next.Stats().ClusterClients == clients })
		live = append([]*testHub{}, live...)
		live[i] = next
		pool.set(live...)
		if err := old.SendGoAway(t.Context(), 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if err := old.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "all clients are back", func() bool { return next.Stats().ClusterClients == clients })
	}
	close(stop)
	sending.Wait()
	for _, c := range all {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	checkArrivals(t, ids, fates, got)
}

func isStopped(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// checkArrivals compares the fates of all messages with what has arrived.
func checkArrivals(t *testing.T, ids []uint64, fates []map[uint64][]wire.Fate, got []*arrivals) {
	t.Helper()
	counts := make(map[wire.Fate]int)
	for to, a := range got {
		for from, reports := range fates {
			for n, report := range reports {
				fate, times := report[to], a.count[[2]uint64{ids[from], n}]
				counts[fate]++
				wrong := times > 1
				switch fate {
				case wire.FateReceived:
					wrong = times != 1
				case wire.FateUncertain, wire.FatePending, wire.FateQueued, wire.FateWritten:
				default:
					wrong = times != 0
				}
				if wrong {
					t.Errorf("message %d of %#x is %v for %#x, and came %d times", n, ids[from], fate, ids[to], times)
				}
			}
		}
	}
	t.Logf("fates: %v", counts)
}
