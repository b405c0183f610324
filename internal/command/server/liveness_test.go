package server

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/command/serve"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/wire"
)

// gatedWriter is a log whose writes block until gate is closed.
type gatedWriter struct {
	gate chan struct{}
}

// Write implements io.Writer.
func (w *gatedWriter) Write(p []byte) (int, error) {
	<-w.gate
	return len(p), nil
}

// TestWatchdogListener_AcceptStalled checks a hub that hangs between two calls of Accept.
func TestWatchdogListener_AcceptStalled(t *testing.T) {
	h, err := hub.New(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	watchdog := &watchdogListener{Listener: ln}
	later := func() time.Time { return time.Now().Add(2 * acceptTimeout) }
	if err := watchdog.check(later(), h); err != nil {
		t.Errorf("before the first connection: %v", err)
	}
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accepted, err := watchdog.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if err := watchdog.check(time.Now(), h); err != nil {
		t.Errorf("right after Accept: %v", err)
	}
	if err := watchdog.check(later(), h); err == nil {
		t.Error("check succeeds although Accept was not called again")
	}
	running := serve.Start(t.Context(), h, watchdog) // calls Accept again
	if err := running.Close(t.Context(), time.Second); err != nil {
		t.Error(err)
	}
	if err := watchdog.check(later(), h); err != nil {
		t.Errorf("after the hub has stopped: %v", err)
	}
}

// TestLiveness_CheckTimesOut calls err repeatedly while the check of the hub blocks.
func TestLiveness_CheckTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		checks, release := 0, make(chan struct{})
		l := &liveness{check: func() error {
			checks++
			<-release
			return nil
		}}
		var callers sync.WaitGroup
		began := time.Now()
		for range 10 {
			callers.Go(func() {
				if err := l.err(); !errors.Is(err, errCheckTimeout) {
					t.Errorf("got %v, want %v", err, errCheckTimeout)
				}
			})
		}
		callers.Wait()
		if took := time.Since(began); took != checkTimeout {
			t.Errorf("took %v, want %v", took, checkTimeout)
		}
		close(release)
		synctest.Wait()
		if checks != 1 {
			t.Errorf("%d checks, want one", checks)
		}
		if err := l.err(); err != nil {
			t.Errorf("after the check has returned: %v", err)
		}
	})
}

// stuckListener accepts connections whose RemoteAddr blocks the accept loop of the hub.
type stuckListener struct {
	net.Listener
	stuck   chan struct{} // gets a value when the accept loop blocks
	release chan struct{} // closed to unblock it
}

// Accept implements net.Listener.
func (l stuckListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return stuckConn{nc, l}, nil
}

type stuckConn struct {
	net.Conn
	listener stuckListener
}

// RemoteAddr implements net.Conn.
func (c stuckConn) RemoteAddr() net.Addr {
	select {
	case c.listener.stuck <- struct{}{}:
	case <-c.listener.release:
	}
	<-c.listener.release
	return c.Conn.RemoteAddr()
}

// TestLiveness_ProbesReportStalledAccept queries the probes of a hub that hangs while it
// accepts a client.
func TestLiveness_ProbesReportStalledAccept(t *testing.T) {
	h, err := hub.New(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stuck, release := make(chan struct{}), make(chan struct{})
	watchdog := &watchdogListener{Listener: stuckListener{ln, stuck, release}}
	c := newConfig()
	c.admin.addr = "127.0.0.1:0"
	var stderr programtest.Output
	var shift atomic.Int64 // added to the clock
	alive := &liveness{check: func() error { return watchdog.check(time.Now().Add(time.Duration(shift.Load())), h) }}
	s := &program{config: c, logger: settings.NewLogger(&stderr, settings.LogJSON, nil)}
	a, err := s.openAdmin(h, alive)
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	running := serve.Start(t.Context(), h, watchdog)
	var opened struct{ Addr string }
	if err := json.Unmarshal([]byte(stderr.String()), &opened); err != nil {
		t.Fatal(err)
	}
	probe := func(path string) (code int, text string) { return httpGet(t, opened.Addr, path, "") }
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, text := probe(path); code != http.StatusOK {
			t.Errorf("%s of a hub that works: %d %s", path, code, text)
		}
	}
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-stuck
	shift.Store(int64(2 * acceptTimeout))
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, text := probe(path); code != http.StatusServiceUnavailable || !strings.Contains(text, errAcceptStalled.Error()) {
			t.Errorf("%s of a hub that hangs: %d %s", path, code, text)
		}
	}
	close(release)
	if err := running.Close(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
}

// TestServer_BlockedLogReader blocks the readers of the log and of the statistics once the hub
// serves.
func TestServer_BlockedLogReader(t *testing.T) {
	read, write := io.Pipe() // has no buffer
	defer read.Close()
	s := programtest.NewRunning(t)
	go func() { // ends with the server; the test waits for it
		defer close(s.Done)
		s.Code = Run(command.Process{
			Args:   []string{"-addr=127.0.0.1", "-port=0", "-admin=127.0.0.1:0", "-log=json", "-stat=false"},
			Stdout: io.Discard, Stderr: write, Signals: s.Signals,
		})
	}()
	admin, hub := readAddresses(t, read)
	_, port, err := net.SplitHostPort(hub)
	if err != nil {
		t.Fatal(err)
	}
	sender, receiver := programtest.Dial(t, port), programtest.Dial(t, port)
	for range 100 {
		programtest.Dial(t, port).Close()
	}
	if _, err := sender.SendReport(t.Context(), []uint64{receiver.ID()}, []byte("hello"), &client.SendOptions{Level: wire.LevelWritten}); err != nil {
		t.Error(err)
	}
	if code, text := httpGet(t, admin, "/readyz", ""); code != http.StatusOK {
		t.Errorf("/readyz: %d %s", code, text)
	}
	if _, text := httpGet(t, admin, "/metrics", ""); !strings.Contains(text, "messagehub_log_lines_dropped_total 0\n") {
		t.Error("the metric of dropped lines is missing")
	}
	s.Signals <- os.Interrupt
	<-s.Done
	if s.Code != command.ExitOK {
		t.Errorf("exit code %d, want %d", s.Code, command.ExitOK)
	}
}

// TestServer_PrintStatsTimesOut prints statistics to a blocked standard output.
func TestServer_PrintStatsTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := hub.New(hub.Config{})
		if err != nil {
			t.Fatal(err)
		}
		w := gatedWriter{gate: make(chan struct{})}
		began := time.Now()
		if err := (&program{config: newConfig()}).printStats(h, &w); err == nil || time.Since(began) != printTimeout {
			t.Errorf("print returned %v after %v, want an error after %v", err, time.Since(began), printTimeout)
		}
		close(w.gate)
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
