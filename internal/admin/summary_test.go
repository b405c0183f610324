package admin

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestSummary_MatchesStats compares the summary with the statistics of a hub that has delivered
// messages.
func TestSummary_MatchesStats(t *testing.T) {
	s := startHub(t, Config{Version: "v1.2.3", CertificateExpiry: fullConfig().CertificateExpiry})
	a, b := s.dial(t, client.Options{}), s.dial(t, client.Options{})
	for range 3 {
		if _, err := a.SendReport(t.Context(), []uint64{b.ID(), 999}, []byte("hello"), &client.SendOptions{Level: wire.LevelWritten}); err != nil {
			t.Fatal(err)
		}
	}
	a.Close()
	eventually(t, "one client has left", func() bool { return s.hub.Stats().Disconnected[hub.CloseLeft] == 1 })
	got, want := parseJSON[summaryJSON](t, s.get("/api/summary")), s.hub.Stats()
	if got.Version != "v1.2.3" || got.Clients != 1 || got.PeakClients != 2 || got.Connected != 2 || got.Delivered != 3 || got.Error != nil || got.Draining {
		t.Errorf("%+v", got)
	}
	if got.MessagesIn != want.MessagesIn || got.BytesOut != want.BytesOut || got.QueuedLimit != want.MaxQueuedBytes || got.MessagesIn == 0 {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got.Dropped["unknown"] != 3 || got.Fates["unknown"] != 3 || got.Fates["written"] != 3 || got.Disconnected["left"] != 1 {
		t.Errorf("dropped %v, fates %v, disconnected %v", got.Dropped, got.Fates, got.Disconnected)
	}
	if len(got.Dropped) != len(hub.DropReasons()) || len(got.Fates) != len(wire.Fates()) || len(got.Rejected) != len(hub.RejectReasons()) {
		t.Errorf("not every reason is there: %v, %v, %v", slices.Sorted(maps.Keys(got.Dropped)), got.Fates, got.Rejected)
	}
	if started := time.Since(got.Started); started < 0 || started > testTimeout || !got.CertExpiry.Equal(time.Unix(1_800_000_000, 0)) {
		t.Errorf("started %v, certificate until %v", got.Started, got.CertExpiry)
	}
	if again := parseJSON[summaryJSON](t, s.get("/api/summary")); !again.Started.Equal(got.Started) || again.UptimeSeconds <= got.UptimeSeconds {
		t.Errorf("started %v and later %v", got.Started, again.Started)
	}
	if runtime.GOOS == "linux" && (got.OpenFiles == nil || *got.OpenFiles < 5 || *got.MaxOpenFiles < *got.OpenFiles) {
		t.Errorf("open files: %v of %v", got.OpenFiles, got.MaxOpenFiles)
	}
}

func TestSummary_Latency(t *testing.T) {
	latency := NewLatency()
	for _, took := range []time.Duration{time.Microsecond, time.Millisecond, time.Millisecond, time.Hour} {
		latency.Observe(took)
	}
	s := startAdmin(t, Config{Hub: &fakeHub{}, Latency: latency})
	got := parseJSON[summaryJSON](t, s.get("/api/summary"))
	if got.Latency == nil || len(got.Latency.Counts) != len(got.Latency.Bounds)+1 {
		t.Fatalf("latency %+v", got.Latency)
	}
	want := make([]uint64, len(got.Latency.Counts))
	want[0], want[slices.Index(got.Latency.Bounds, 1e-3)], want[len(want)-1] = 1, 2, 1
	if !slices.Equal(got.Latency.Counts, want) {
		t.Errorf("counts %d, want %d", got.Latency.Counts, want)
	}
	if got.CertExpiry != nil {
		t.Errorf("certificate until %v", got.CertExpiry)
	}
}

func TestSummary_Unhealthy(t *testing.T) {
	s := startAdmin(t, Config{Hub: &fakeHub{}, CheckHealth: func() error { return errors.New("the hub hangs") }})
	s.Drain()
	got := parseJSON[summaryJSON](t, s.get("/api/summary"))
	if got.Error == nil || *got.Error != "the hub hangs" || !got.Draining || got.Latency != nil {
		t.Errorf("%+v", got)
	}
	if r := s.do(http.MethodGet, "/api/summary", nil); r.header.Get("Cache-Control") != "no-store" || r.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", r.header)
	}
}

// BenchmarkSummary is what an open page of the console costs each second, apart from the list of
// clients.
func BenchmarkSummary(b *testing.B) {
	s := startHub(b, Config{})
	benchmarkGet(b, s, "/api/summary")
}

// benchmarkGet handles a GET, without the network.
func benchmarkGet(b *testing.B, s *testServer, target string) {
	b.ReportAllocs()
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "http://localhost"+target, nil)
	for b.Loop() {
		w := httptest.NewRecorder()
		if s.Server.http.Handler.ServeHTTP(w, r); w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
}
