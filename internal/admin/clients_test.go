package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"testing"
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

// TestGetClient_Fates checks that the fates of the messages of a client are in the response.
func TestGetClient_Fates(t *testing.T) {
	s := startHub(t, Config{})
	a, b := s.dial(t, client.Options{}), s.dial(t, client.Options{})
	if _, err := a.SendReport(t.Context(), []uint64{b.ID(), 999}, []byte("hello"), &client.SendOptions{Level: wire.LevelWritten}); err != nil {
		t.Fatal(err)
	}
	for c, want := range map[*client.Client]uint64{a: 1, b: 0} {
		got := parseJSON[clientDetailJSON](t, s.get(fmt.Sprintf("/api/clients/%d", c.ID())))
		if got.ID != c.ID() || len(got.Fates) != len(wire.Fates()) || got.Fates["written"] != want || got.Fates["unknown"] != want || got.Fates["gone"] != 0 {
			t.Errorf("client %d: %v, want %d", c.ID(), got.Fates, want)
		}
	}
}
