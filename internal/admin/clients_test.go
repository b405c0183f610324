package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

func parseJSON[T any](t testing.TB, text []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func TestListClients(t *testing.T) {
	s := startHub(t, Config{})
	if p := parseJSON[clientsResponse](t, s.get("/api/clients")); p.Total != 0 || p.More || p.Clients == nil || len(p.Clients) != 0 {
		t.Errorf("empty hub: %+v", p)
	}
	a, b := s.dial(t, client.Options{Name: "boiler <7>"}), s.dial(t, client.Options{Version: 1})
	if err := a.Send(t.Context(), []uint64{b.ID()}, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/api/clients/%d", b.ID())
	eventually(t, "the delivery is counted", func() bool { return parseJSON[clientJSON](t, s.get(path)).MessagesOut == 2 })

	p := parseJSON[clientsResponse](t, s.get("/api/clients"))
	if len(p.Clients) != 2 || p.Total != 2 || p.More {
		t.Fatalf("got %+v", p)
	}
	if c := p.Clients[1]; c.ID != a.ID() || c.Name != "boiler <7>" || c.Protocol != 2 || c.Detached || c.MessagesIn < 2 || c.BytesIn == 0 {
		t.Errorf("v2 client: %+v", c)
	}
	c := p.Clients[0] // ids of v1 clients are below those of v2 clients
	_, _, err := net.SplitHostPort(c.Address)
	if c.ID != b.ID() || c.Name != "" || c.Protocol != 1 || err != nil || time.Since(c.Since) > testTimeout || c.BytesOut != uint64(wire.IdentityLen+wire.RelayDeliveryLen(5)) {
		t.Errorf("v1 client: %+v", c)
	}
}

func TestPages(t *testing.T) {
	s := startHub(t, Config{})
	var want []uint64
	for range 7 {
		want = append(want, s.dial(t, client.Options{}).ID())
	}
	for limit := 1; limit <= 8; limit++ {
		var got []uint64
		after := uint64(0)
		for more := true; more; {
			p := parseJSON[clientsResponse](t, s.get(fmt.Sprintf("/api/clients?after=%d&limit=%d", after, limit)))
			if len(p.Clients) == 0 || len(p.Clients) > limit || p.Total != len(want) {
				t.Fatalf("limit %d: %+v", limit, p)
			}
			for _, c := range p.Clients {
				got = append(got, c.ID)
			}
			after, more = got[len(got)-1], p.More
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d: %d, want %d", limit, got, want)
		}
	}
}

func TestDisconnect(t *testing.T) {
	for query, reconnect := range map[string]bool{"": false, "?reconnect=false": false, "?reconnect=true": true} {
		s := startHub(t, Config{})
		c := s.dial(t, client.Options{})
		path := fmt.Sprintf("/api/clients/%d", c.ID())
		if r := s.do(http.MethodDelete, path+query, nil); r.code != http.StatusNoContent || len(r.body) != 0 {
			t.Fatalf("%q: %d %s", query, r.code, r.body)
		}
		<-c.Done()
		var away *client.GoAwayError
		if !errors.As(c.Err(), &away) || away.Code != wire.GoAwayDisconnected || away.Reconnect != reconnect {
			t.Errorf("%q: %v", query, c.Err())
		}
		s.wantError(s.do(http.MethodDelete, path, nil), http.StatusNotFound, strconv.FormatUint(c.ID(), 10))
		s.wantError(s.do(http.MethodGet, path, nil), http.StatusNotFound, strconv.FormatUint(c.ID(), 10))
		eventually(t, "the disconnection is counted", func() bool { return s.hub.Stats().Disconnected[hub.CloseDisconnected] == 1 })
	}
}

func TestRequests_Invalid(t *testing.T) {
	s := startHub(t, Config{})
	for _, tt := range []struct {
		method, path string
		code         int
		has          string
	}{
		{"GET", "/", 404, "/openapi.json"},
		{"GET", "/nothing", 404, "/nothing"},
		{"GET", "/debug/pprof/nothing", 404, "nothing"},
		{"GET", "/debug/pprof/heap/nothing", 404, "nothing"},
		{"POST", "/api/clients", 405, "GET"},
		{"PUT", "/api/clients/1", 405, "DELETE, GET"},
		{"OPTIONS", "/api/clients/1", 405, "OPTIONS"},
		{"DELETE", "/metrics", 405, "GET"},
		{"GET", "/api/clients?limit=0", 400, "1000"},
		{"GET", "/api/clients?limit=1001", 400, "1000"},
		{"GET", "/api/clients?limit=x", 400, `"x"`},
		{"GET", "/api/clients?after=-1", 400, `"-1"`},
		{"GET", "/api/clients?after=18446744073709551616", 400, "18446744073709551615"},
		{"GET", "/api/clients?after=1&after=2", 400, "2 times"},
		{"GET", "/api/clients?before=1", 400, "after, limit"},
		{"GET", "/api/clients?a;b", 400, "query"},
		{"GET", "/api/clients/x", 400, `"x"`},
		{"DELETE", "/api/clients/0x1", 400, `"0x1"`},
		{"DELETE", "/api/clients/1?reconnect=perhaps", 400, "true or false"},
		{"GET", "/metrics?x=1", 400, "none"},
	} {
		r := s.do(tt.method, tt.path, nil)
		s.wantError(r, tt.code, tt.has)
		if kind := r.header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("%s %s: Content-Type is %q", tt.method, tt.path, kind)
		}
	}
	if r := s.do("POST", "/api/clients", nil); r.header.Get("Allow") != "GET" {
		t.Errorf("Allow: %q", r.header.Get("Allow"))
	}
}

func TestListClients_Head(t *testing.T) {
	s := startHub(t, Config{})
	if r := s.do(http.MethodHead, "/api/clients", nil); r.code != http.StatusOK || len(r.body) != 0 {
		t.Errorf("%d %s", r.code, r.body)
	}
}

// fakeHub is a Hub whose clients and counters the test sets.
type fakeHub struct {
	stats hub.Stats

	mu      sync.Mutex
	clients []hub.ClientInfo
	calls   int
}

func (f *fakeHub) update(i int, change func(*hub.ClientInfo)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.clients[i])
}

func (f *fakeHub) Stats() hub.Stats { return f.stats }

func (f *fakeHub) Clients(after uint64, limit int) (page []hub.ClientInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	for _, c := range f.clients {
		if c.ID > after && len(page) < limit {
			page = append(page, c)
		}
	}
	return page
}

func (f *fakeHub) Client(uint64) (hub.ClientInfo, bool) { return hub.ClientInfo{}, false }
func (f *fakeHub) Disconnect(uint64, bool) bool         { return false }

// TestRateSampler checks rates in virtual time, and that sampling stops without requests.
func TestRateSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		advance := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		f := &fakeHub{clients: []hub.ClientInfo{{ID: 1, Since: time.Now()}, {ID: 2, Since: time.Now()}}}
		r := newRateSampler(f, 5*time.Second)
		defer r.close()
		advance(time.Hour)
		if f.calls != 0 {
			t.Fatalf("%d samples before the first request", f.calls)
		}
		r.requestSampling()
		synctest.Wait()
		if got, ok := r.rateOf(&f.clients[0]); ok {
			t.Errorf("after one sample: %+v", got)
		}
		for range 3 {
			f.update(0, func(c *hub.ClientInfo) {
				c.MessagesIn += 50
				c.MessagesOut += 5
				c.BytesIn += 5000
				c.BytesOut += 500
			})
			advance(5 * time.Second)
			if got, ok := r.rateOf(&f.clients[0]); !ok || got != (rate{10, 1, 1000, 100}) {
				t.Errorf("got %+v, %t", got, ok)
			}
			if got, ok := r.rateOf(&f.clients[1]); !ok || got != (rate{}) {
				t.Errorf("idle client: %+v, %t", got, ok)
			}
		}

		// The client resumes on a new connection, whose counters begin at 0.
		f.update(0, func(c *hub.ClientInfo) { *c = hub.ClientInfo{ID: 1, Since: time.Now()} })
		if got, ok := r.rateOf(&f.clients[0]); ok {
			t.Errorf("connection that is in no sample: %+v", got)
		}
		advance(5 * time.Second)
		if got, ok := r.rateOf(&f.clients[0]); ok {
			t.Errorf("connection that is in one sample: %+v", got)
		}

		advance(time.Hour)
		calls := f.calls
		advance(time.Hour)
		if f.calls != calls || len(r.latest.clients) != 0 {
			t.Errorf("%d samples and %d clients in memory without requests", f.calls-calls, len(r.latest.clients))
		}
		r.requestSampling()
		advance(11 * time.Second)
		if _, ok := r.rateOf(&f.clients[0]); !ok {
			t.Error("no rates after another request")
		}
		r.close()
		r.requestSampling()
		advance(time.Hour)
	})
}

// TestGetClient_Rates checks that rates are in the response.
func TestGetClient_Rates(t *testing.T) {
	s := startHub(t, Config{SampleInterval: 10 * time.Millisecond})
	c := s.dial(t, client.Options{})
	path := fmt.Sprintf("/api/clients/%d", c.ID())
	eventually(t, "the response has rates", func() bool {
		if err := c.Send(t.Context(), []uint64{999}, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		r := parseJSON[clientJSON](t, s.get(path))
		return r.MessagesInRate != nil && *r.MessagesInRate > 0 && *r.BytesInRate > *r.MessagesInRate
	})
}
