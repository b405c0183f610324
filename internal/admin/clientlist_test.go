package admin

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

// newFakeClients returns a Hub with n clients, whose queued bytes are random.
func newFakeClients(n int) *fakeHub {
	f := &fakeHub{stats: hub.Stats{Clients: n}}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		f.clients = append(f.clients, hub.ClientInfo{
			ID: uint64(2*i + 1), Name: fmt.Sprintf("Sensor %d", i), Subject: fmt.Sprintf("team-%d", i%3), Protocol: 2,
			Address: &net.TCPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i)), Port: 40_000 + i}, QueuedBytes: random.IntN(n),
		})
	}
	return f
}

// list requests a page of the list.
func (s *testServer) list(query string) clientsResponse {
	s.t.Helper()
	return parseJSON[clientsResponse](s.t, s.get("/api/clients?"+query))
}

func idsOf(clients []clientJSON) (ids []uint64) {
	for _, c := range clients {
		ids = append(ids, c.ID)
	}
	return ids
}

// TestListClients_SortedByQueued requests all pages, of several sizes, and compares them with all
// clients in this order.
func TestListClients_SortedByQueued(t *testing.T) {
	const clients = 3*scanSize + 7
	f := newFakeClients(clients)
	s := startAdmin(t, Config{Hub: f})
	sorted := slices.Clone(f.clients)
	slices.SortStableFunc(sorted, func(a, b hub.ClientInfo) int { return b.QueuedBytes - a.QueuedBytes })
	var want []uint64
	for _, c := range sorted {
		want = append(want, c.ID)
	}
	for _, limit := range []int{7, 100, 999, 1000} {
		var got []uint64
		for more := true; more; {
			p := s.list(fmt.Sprintf("sort=queued_bytes&limit=%d&offset=%d", limit, len(got)))
			if p.Total != clients || p.Matched != clients || len(p.Clients) == 0 || len(p.Clients) > limit {
				t.Fatalf("limit %d: %d clients of %d, %d match", limit, len(p.Clients), p.Total, p.Matched)
			}
			got, more = append(got, idsOf(p.Clients)...), p.More
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: the order of %d clients differs", limit, len(got))
		}
	}
	if p := s.list("sort=queued_bytes&offset=2147483647"); len(p.Clients) != 0 || p.More {
		t.Errorf("behind the end: %d clients", len(p.Clients))
	}
}

func TestListClients_Filters(t *testing.T) {
	f := newFakeClients(30)
	f.clients[4].Name = "<script>alert(1)</script>"
	f.clients[5].Name, f.clients[5].Subject = "ÖLPUMPE", ""
	s := startAdmin(t, Config{Hub: f})
	for query, want := range map[string][]int{
		"filter=sensor 12":                     {12},
		"filter=SENSOR 12":                     {12},
		"filter=10.0.0.7:":                     {7},
		"filter=:40007":                        {7},
		"filter=" + strconv.Itoa(2*29+1):       {29},
		"filter=<script>":                      {4},
		"filter=ölpumpe":                       {5},
		"filter=team-2&subject=team-2&limit=2": {2, 8},
		"subject=team-1&limit=3":               {1, 4, 7},
		"subject=team-1&limit=3&offset=3":      {10, 13, 16},
		"subject=team-1&limit=3&after=9":       {7, 10, 13},
		"subject=":                             {5},
		"subject=team":                         nil,
		"filter=%00":                           nil,
		"filter=sensor 1&sort=id&limit=4":      {1, 10, 11, 12},
	} {
		p := s.list(strings.NewReplacer(" ", "%20", "<", "%3C", ">", "%3E", "ö", url.QueryEscape("ö")).Replace(query))
		var ids []uint64
		for _, i := range want {
			ids = append(ids, f.clients[i].ID)
		}
		if got := idsOf(p.Clients); !slices.Equal(got, ids) || p.Matched < len(want) || p.Total != 30 {
			t.Errorf("%s: %d, want %d; %d match, of %d", query, got, ids, p.Matched, p.Total)
		}
		if limited := strings.Contains(query, "limit"); p.More != limited || limited == (p.Matched == len(want)) {
			t.Errorf("%s: more is %t, %d match", query, p.More, p.Matched)
		}
	}
}

// TestScan_SortedByRate checks that clients with an unknown rate come last.
func TestScan_SortedByRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeClients(3)
		a := &clientAPI{hub: f, rates: newRateSampler(f.ClientsAfter, time.Second)}
		defer a.rates.close()
		a.rates.requestSampling()
		synctest.Wait()
		f.update(1, func(c *hub.ClientInfo) { c.BytesIn, c.MessagesOut = 100, 1 })
		f.update(2, func(c *hub.ClientInfo) { c.BytesIn, c.MessagesOut = 10, 2 })
		time.Sleep(time.Second)
		synctest.Wait()
		f.update(0, func(c *hub.ClientInfo) { c.Since = time.Now(); c.BytesIn = 1000 }) // another connection
		for sort, want := range map[string][]uint64{"bytes_in_per_second": {3, 5, 1}, "messages_out_per_second": {5, 3, 1}} {
			infos, _ := a.scan(&listQuery{limit: 10, sortKey: sort})
			var got []uint64
			for _, info := range infos {
				got = append(got, info.ID)
			}
			if !slices.Equal(got, want) {
				t.Errorf("by %s: %d, want %d", sort, got, want)
			}
		}
	})
}

// BenchmarkListClients requests the first page of 10,000 clients, in each way that looks at all of
// them.
func BenchmarkListClients(b *testing.B) {
	const clients = 10_000
	h, err := hub.New(hub.Config{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { h.Shutdown(context.WithoutCancel(b.Context())) })
	for range clients {
		if _, err := h.Subscribe(0); err != nil {
			b.Fatal(err)
		}
	}
	s := startAdmin(b, Config{Hub: h})
	for _, query := range []string{"sort=queued_bytes", "sort=bytes_out_per_second", "filter=nobody", "subject=nobody"} {
		b.Run(query, func(b *testing.B) { benchmarkGet(b, s, "/api/clients?limit=25&"+query) })
	}
}
