package server

import (
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/wire"
)

// signalDrain sends a signal to a hub and waits until its readiness probe fails. It returns
// the time of the signal.
func signalDrain(t *testing.T, s *programtest.Running, admin string) (at time.Time) {
	t.Helper()
	at = time.Now()
	s.Signals <- os.Interrupt
	for code := 0; code != http.StatusServiceUnavailable; {
		code, _ = httpGet(t, admin, "/readyz", "") // the hub handles the signal asynchronously
	}
	return at
}

// TestServer_DrainDelayKeepsServing connects and sends during -drain-delay.
func TestServer_DrainDelayKeepsServing(t *testing.T) {
	s, port, admin := startServerWithAdmin(t, "-admin=127.0.0.1:0", "-drain-delay=24h")
	before := programtest.Dial(t, port)
	signalDrain(t, s, admin)
	during := programtest.Dial(t, port)
	if _, err := during.SendReport(t.Context(), []uint64{before.ID()}, []byte("hello"), &client.SendOptions{Level: wire.LevelWritten}); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
		if code, text := httpGet(t, admin, path, ""); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, text, want)
		}
	}
	if got := s.Interrupt(); got.Code != command.ExitFailure || !strings.Contains(got.Stderr, "aborted at once") {
		t.Errorf("a second signal: exit code %d: %s", got.Code, got.Stderr)
	}
}

// TestServer_DrainDelayEnds measures how long the port stays open.
func TestServer_DrainDelayEnds(t *testing.T) {
	const delay = 300 * time.Millisecond
	s, port, admin := startServerWithAdmin(t, "-admin=127.0.0.1:0", "-drain-delay="+delay.String())
	began := signalDrain(t, s, admin)
	for {
		nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			break
		}
		nc.Close()
	}
	if took := time.Since(began); took < delay {
		t.Errorf("the port was closed after %v, want %v", took, delay)
	}
	<-s.Done
	if s.Code != command.ExitOK || !strings.Contains(s.Stderr.String(), "serving on before the drain") {
		t.Errorf("exit code %d: %s", s.Code, &s.Stderr)
	}
}

// TestServer_DrainGoAway checks when the first and the last version 2 client get GOAWAY.
func TestServer_DrainGoAway(t *testing.T) {
	for mode, tt := range map[string]struct{ delay, first, last time.Duration }{
		goAwayStart:  {24 * time.Hour, 0, 0}, // the test does not reach the end of the delay
		goAwaySpread: {time.Second, 0, 450 * time.Millisecond},
		goAwayEnd:    {time.Second, time.Second, time.Second},
	} {
		t.Run(mode, func(t *testing.T) {
			s, port, admin := startServerWithAdmin(t, "-admin=127.0.0.1:0", "-drain-delay="+tt.delay.String(), "-drain-goaway="+mode)
			var clients [2]*client.Client
			for i := range clients {
				c, err := client.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port), &client.Options{NoReconnect: true})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				clients[i] = c
			}
			began := signalDrain(t, s, admin)
			for i, earliest := range []time.Duration{tt.first, tt.last} {
				<-clients[i].Done()
				if took := time.Since(began); took < earliest {
					t.Errorf("client %d got GOAWAY after %v, want at least %v", i, took, earliest)
				}
			}
		})
	}
}
