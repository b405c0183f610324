package admin

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/cluster/clustertest"
	"github.com/sechlol/go-message-hub/internal/cluster/membus"
)

// errNoLease is why a hub of a test is no member of its cluster.
var errNoLease = errors.New("the lease on its number may have run out")

// joinHub starts a hub that is a member of the cluster of bus, and its admin address.
func joinHub(t testing.TB, bus *membus.Bus, node cluster.Node, config Config) (*testServer, *clustertest.Member) {
	t.Helper()
	m := clustertest.Join(t, bus, node)
	s := startHubWith(t, hub.Config{
		MaxClients: 50, Cluster: m, Name: fmt.Sprintf("hub-%d", node), Address: "hub.example:9999", Software: "v1.2.3",
	}, func(h *hub.Hub) Config {
		config.Cluster = &ClusterConfig{Name: "production", HubName: fmt.Sprintf("hub-%d", node), Hubs: h.Hubs, CheckMember: func() error {
			if !m.Valid() {
				return errNoLease
			}
			return nil
		}}
		return config
	})
	return s, m
}

// waitJoined waits until all hubs that s knows are up, and are n.
func (s *testServer) waitJoined(n int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d hubs are up", n), func() bool {
		up := 0
		for _, h := range s.hub.Hubs() {
			if h.State == hubUp {
				up++
			}
		}
		return up == n
	})
}

// TestCluster_DescribesHubs asks one of two hubs for its cluster.
func TestCluster_DescribesHubs(t *testing.T) {
	bus := membus.New(1)
	a, member := joinHub(t, bus, 1, Config{})
	joinHub(t, bus, 2, Config{})
	a.waitJoined(2)
	eventually(t, "the round trip is known", func() bool { return a.hub.Hubs()[1].Link.RoundTrip > 0 })
	got := parseJSON[clusterResponse](t, a.get("/api/cluster")).Cluster
	if got == nil || got.Name != "production" || got.Error != nil || len(got.Hubs) != 2 {
		t.Fatalf("%+v", got)
	}
	for i, h := range got.Hubs {
		isSelf := i == 0
		if h.Node != uint32(i+1) || h.Name != fmt.Sprintf("hub-%d", i+1) || h.Address != "hub.example:9999" || h.Software != "v1.2.3" {
			t.Errorf("hub %d: %+v", i, h)
		}
		if h.State != hubUp || h.Self != isSelf || (h.Link == nil) != isSelf || time.Since(h.Since) > testTimeout || time.Since(h.Started) > testTimeout {
			t.Errorf("hub %d: %+v", i, h)
		}
	}
	if inSummary := parseJSON[summaryJSON](t, a.get("/api/summary")).Cluster; inSummary == nil || len(inSummary.Hubs) != 2 {
		t.Errorf("the summary has %+v", inSummary)
	}
	if link := got.Hubs[1].Link; link.RoundTrip == nil || *link.RoundTrip <= 0 || link.FramesIn == 0 || link.FramesOut == 0 {
		t.Errorf("%+v", link)
	}
	member.Invalid.Store(true)
	if got := parseJSON[clusterResponse](t, a.get("/api/cluster")).Cluster; got.Error == nil || *got.Error != errNoLease.Error() {
		t.Errorf("%+v", got)
	}
}

// TestCluster_CoversLinkInfo sets each field of a link to a different value, and checks that the
// API has all of them.
func TestCluster_CoversLinkInfo(t *testing.T) {
	info := hub.HubInfo{Node: 1, State: hubUp}
	want := numberFields(&info.Link)
	got := reflect.ValueOf(describeLink(&info)).Elem()
	for i := range got.NumField() {
		field := reflect.Indirect(got.Field(i))
		if field.CanFloat() {
			delete(want, field.Float())
		} else if field.CanInt() {
			delete(want, float64(field.Int()))
		} else {
			delete(want, float64(field.Uint()))
		}
	}
	for _, name := range want {
		t.Errorf("the API has no %s", name)
	}
}

// numberFields sets each field of l to a different value, and returns the names by value. Durations
// are seconds.
func numberFields(l *hub.LinkInfo) map[float64]string {
	names := make(map[float64]string)
	value := reflect.ValueOf(l).Elem()
	for i := range value.NumField() {
		n := 1000 + i
		switch field := value.Field(i); field.Interface().(type) {
		case time.Duration:
			field.SetInt(int64(n) * int64(time.Second))
		case int:
			field.SetInt(int64(n))
		default:
			field.SetUint(uint64(n))
		}
		names[float64(n)] = value.Type().Field(i).Name
	}
	return names
}

func TestCluster_LoneHub(t *testing.T) {
	s := startHub(t, Config{})
	if got := string(s.get("/api/cluster")); got != "{\"cluster\":null}\n" {
		t.Errorf("got %q", got)
	}
	if got := parseJSON[summaryJSON](t, s.get("/api/summary")).Cluster; got != nil {
		t.Errorf("a lone hub has the cluster %+v", got)
	}
	for name := range s.scrape() {
		if name == "messagehub_cluster_member" || name == "messagehub_cluster_hubs" {
			t.Errorf("a lone hub has the metric %s", name)
		}
	}
}

// TestReady_WithoutLease checks that a hub that is no member for certain is not ready, and says
// why.
func TestReady_WithoutLease(t *testing.T) {
	s, member := joinHub(t, membus.New(1), 1, Config{})
	s.get("/readyz")
	member.Invalid.Store(true)
	s.wantError(s.do(http.MethodGet, "/readyz", nil), http.StatusServiceUnavailable, errNoLease.Error())
	s.get("/healthz")
	member.Invalid.Store(false)
	s.get("/readyz")
}
