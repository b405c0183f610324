package admin

import (
	"context"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/cluster/clustertest"
	"github.com/sechlol/go-message-hub/internal/cluster/membus"
	"github.com/sechlol/go-message-hub/wire"
)

// fakeCluster is the cluster of a hub that has been up and lost to others.
func fakeCluster() *ClusterConfig {
	return &ClusterConfig{
		Name: "production", HubName: "hub-2", CheckMember: func() error { return nil },
		Hubs: func() []hub.HubInfo {
			return []hub.HubInfo{
				{Node: 1, Name: "hub-1", State: "lost"},
				{Node: 2, Name: "hub-2", State: hubUp, Self: true},
				{Node: 3, Name: "hub-1", State: hubUp},
				{Node: 4, Name: "hub-3", State: "lost"},
				{Node: 5, Name: "hub-2", State: "connecting"}, // a hub with the name of this one
				{Node: 6, State: "connecting"},
			}
		},
	}
}

// TestClusterMetrics_LatestStarts checks that a hub has the same series when it was started again.
func TestClusterMetrics_LatestStarts(t *testing.T) {
	s := startAdmin(t, Config{Hub: &fakeHub{}, Cluster: fakeCluster()})
	got := s.scrape()
	for family, want := range map[string]map[string]float64{
		"messagehub_cluster_member": {`{hub="hub-2"}`: 1},
		"messagehub_cluster_hubs":   {`{state="up"}`: 2, `{state="connecting"}`: 1, `{state="lost"}`: 1},
		"messagehub_link_up":        {`{hub="hub-1"}`: 1, `{hub="hub-3"}`: 0, `{hub="node 6"}`: 0},
	} {
		series := make(map[string]float64)
		for name, value := range got[family].series {
			series[strings.TrimPrefix(name, family)] = value
		}
		if !maps.Equal(series, want) {
			t.Errorf("%s: %v, want %v", family, series, want)
		}
	}
}

// TestClusterMetrics_BeforeJoin checks that a hub that has not joined its cluster has a series that
// an alert can see.
func TestClusterMetrics_BeforeJoin(t *testing.T) {
	s := startAdmin(t, Config{Hub: &fakeHub{}, Cluster: &ClusterConfig{
		HubName: "this", CheckMember: func() error { return errNoLease }, Hubs: func() []hub.HubInfo { return nil },
	}})
	got := s.scrape()
	if value, ok := got["messagehub_cluster_member"].series[`messagehub_cluster_member{hub="this"}`]; !ok || value != 0 {
		t.Errorf("%v", got["messagehub_cluster_member"].series)
	}
}

// TestClusterMetrics_CoverLinkInfo sets each field of a link to a different value, and checks that
// /metrics has all of them.
func TestClusterMetrics_CoverLinkInfo(t *testing.T) {
	info := hub.HubInfo{Node: 1, Name: "other"}
	want := numberFields(&info.Link)
	s := startAdmin(t, Config{Hub: &fakeHub{}, Cluster: &ClusterConfig{
		HubName: "this", CheckMember: func() error { return errNoLease }, Hubs: func() []hub.HubInfo { return []hub.HubInfo{{Node: 2, Self: true}, info} },
	}})
	got := s.scrape()
	for name, family := range got {
		if strings.HasPrefix(name, "messagehub_link_") {
			delete(want, family.series[name+`{hub="other"}`])
		}
	}
	for _, name := range want {
		t.Errorf("no metric has the value of %s", name)
	}
	if got["messagehub_cluster_member"].series[`messagehub_cluster_member{hub="this"}`] != 0 {
		t.Errorf("%v", got["messagehub_cluster_member"].series)
	}
}

// gather returns the value of each series of the cluster metrics of a hub.
func gather(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), prefix)
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

// TestClusterMetrics_Move checks that every metric of a cluster changes, with two hubs that send to
// each other over a bus that loses, doubles and reorders frames, to a receiver that is slow, and
// that lose each other.
func TestClusterMetrics_Move(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := membus.New(1)
		bus.SetFaults(membus.Faults{Loss: 0.05, Duplication: 0.05, Reorder: 0.05, MinDelay: 20 * time.Millisecond, MaxDelay: 60 * time.Millisecond})
		member := clustertest.Join(t, bus, 1)
		a, b := newHub(t, hub.Config{Cluster: member, Name: "a"}), newHub(t, hub.Config{Cluster: clustertest.Join(t, bus, 2), Name: "b"})
		r := prometheus.NewPedanticRegistry()
		r.MustRegister(newClusterCollector(&ClusterConfig{HubName: "a", Hubs: a.Hubs, CheckMember: func() error {
			if member.Valid() {
				return nil
			}
			return errNoLease
		}}))
		seen := make(map[string]map[float64]bool) // values by series
		look := func(d time.Duration) {
			for range 100 {
				time.Sleep(d / 100) // virtual
				for name, value := range gather(t, r) {
					if seen[name] == nil {
						seen[name] = make(map[float64]bool)
					}
					seen[name][value] = true
				}
			}
		}
		look(time.Second)
		slow, sink := subscribe(t, b), subscribe(t, a)
		look(time.Second)
		ctx := context.WithoutCancel(t.Context()) // of what ends with the subscriptions
		var running sync.WaitGroup
		send := func(h *hub.Hub, from, to uint64, size, times int) { // ends when all are offered
			for range times {
				if _, err := h.Send(ctx, from, []uint64{to}, make([]byte, size), nil); err != nil {
					t.Error(err)
				}
			}
		}
		read := func(s *hub.Subscription, pause time.Duration) { // ends with s.Close
			for range s.Messages(ctx) {
				time.Sleep(pause) // virtual
			}
		}
		for i := range uint64(20) { // together they send more than the link holds for one receiver
			running.Go(func() { send(a, i+1, slow.ID(), wire.DefaultMaxBody, 1) })
		}
		running.Go(func() { send(b, 1, sink.ID(), 100_000, 100) })
		running.Go(func() { read(sink, 0) })
		look(time.Second)
		running.Go(func() { read(slow, 10*time.Millisecond) })
		look(20 * time.Second)
		member.Invalid.Store(true)
		bus.Isolate(2)
		look(10 * time.Second)
		bus.Rejoin(2)
		look(5 * time.Second)
		for name, values := range seen {
			if len(values) < 2 {
				t.Errorf("%s is always %v", name, values)
			}
		}
		if len(seen) != 1+len(hub.HubStates())+15 {
			t.Errorf("%d series", len(seen))
		}
		slow.Close()
		sink.Close()
		running.Wait()
	})
}

func subscribe(t *testing.T, h *hub.Hub) *hub.Subscription {
	t.Helper()
	s, err := h.Subscribe(0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newHub returns a hub without a listener, until the end of the test.
func newHub(t *testing.T, config hub.Config) *hub.Hub {
	t.Helper()
	h, err := hub.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	return h
}
