package command

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
	"github.com/sechlol/go-message-hub/wire"
)

// TestADoorThatNobodyComesBackTo is about a hub that hangs while it lets somebody in.
func TestADoorThatNobodyComesBackTo(t *testing.T) {
	h, err := hub.New(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{Listener: ln}
	later := func() time.Time { return time.Now().Add(2 * maxAccept) }
	if err := d.alive(later(), h); err != nil {
		t.Errorf("nobody came yet: %v", err)
	}
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	accepted, err := d.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if err := d.alive(time.Now(), h); err != nil {
		t.Errorf("somebody is just coming in: %v", err)
	}
	if err := d.alive(later(), h); err == nil {
		t.Error("said to be alive, but nobody came back")
	}
	work := serve(t.Context(), h, d) // comes back
	if err := work.close(t.Context(), time.Second); err != nil {
		t.Error(err)
	}
	if err := d.alive(later(), h); err != nil {
		t.Errorf("the hub has ended, which is no hanging: %v", err)
	}
}

// TestLiveness_HubThatHangs asks again and again for a hub whose locks nobody gets.
func TestLiveness_HubThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		checks, free := 0, make(chan struct{})
		l := &liveness{check: func() error {
			checks++
			<-free
			return nil
		}}
		var all sync.WaitGroup
		began := time.Now()
		for range 10 {
			all.Go(func() {
				if err := l.err(); !errors.Is(err, errNoAnswer) {
					t.Errorf("got %v, want %v", err, errNoAnswer)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); took != maxCheck {
			t.Errorf("took %v, want %v", took, maxCheck)
		}
		close(free)
		synctest.Wait()
		if checks != 1 {
			t.Errorf("%d checks, want one", checks)
		}
		if err := l.err(); err != nil {
			t.Errorf("once it answers: %v", err)
		}
	})
}

// stuckListener accepts one connection whose first question keeps the hub from ever coming back.
type stuckListener struct {
	net.Listener
	free chan struct{}
}

// Accept implements net.Listener.
func (l stuckListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return stuckConn{nc, l.free}, nil
}

type stuckConn struct {
	net.Conn
	free chan struct{}
}

// RemoteAddr implements net.Conn.
func (c stuckConn) RemoteAddr() net.Addr {
	<-c.free
	return c.Conn.RemoteAddr()
}

// TestLiveness_ProbesSayWhatTheWatchdogKnows has a hub that hangs while it lets a client in.
func TestLiveness_ProbesSayWhatTheWatchdogKnows(t *testing.T) {
	h, err := hub.New(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := make(chan struct{})
	d := &door{Listener: stuckListener{ln, free}}
	c := newServer()
	c.admin = "127.0.0.1:0"
	var stderr output
	var shift atomic.Int64 // of the clock
	alive := &liveness{check: func() error { return d.alive(time.Now().Add(time.Duration(shift.Load())), h) }}
	a, err := c.administer(h, alive, newLogger(&stderr, logJSON, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	work := serve(t.Context(), h, d)
	var opened struct{ Addr string }
	if err := json.Unmarshal([]byte(stderr.String()), &opened); err != nil {
		t.Fatal(err)
	}
	probe := func(path string) (code int, text string) { return ask(t, opened.Addr, path, "") }
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
	for d.since.Load() == 0 {
		time.Sleep(time.Millisecond) // the kernel takes its time
	}
	shift.Store(int64(2 * maxAccept))
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, text := probe(path); code != http.StatusServiceUnavailable || !strings.Contains(text, errNoAccept.Error()) {
			t.Errorf("%s of a hub that hangs: %d %s", path, code, text)
		}
	}
	close(free)
	if err := work.close(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
}

// TestServer_LogThatNobodyReads has a log whose reader reads nothing any more once the hub serves, and
// statistics that nobody reads either.
func TestServer_LogThatNobodyReads(t *testing.T) {
	read, write := io.Pipe() // without any room
	defer read.Close()
	s := &started{t: t, signals: make(chan os.Signal, 1), ended: make(chan struct{})}
	go func() { // ends with the server, for which the test waits
		defer close(s.ended)
		s.code = Server(Process{
			Args:   []string{"-addr=127.0.0.1", "-port=0", "-admin=127.0.0.1:0", "-log=json", "-stat=false"},
			Stdout: io.Discard, Stderr: write, Signals: s.signals,
		})
	}()
	admin, hub := startAddresses(t, read)
	_, port, err := net.SplitHostPort(hub)
	if err != nil {
		t.Fatal(err)
	}
	sender, receiver := dial(t, port), dial(t, port)
	for range 100 {
		dial(t, port).Close()
	}
	if _, err := sender.SendReport(t.Context(), []uint64{receiver.ID()}, []byte("hello"), &client.SendOptions{Level: wire.LevelWritten}); err != nil {
		t.Error(err)
	}
	if code, text := ask(t, admin, "/readyz", ""); code != http.StatusOK {
		t.Errorf("/readyz: %d %s", code, text)
	}
	if _, text := ask(t, admin, "/metrics", ""); !strings.Contains(text, "messagehub_log_lines_dropped_total 0\n") {
		t.Error("dropped lines are not among the metrics")
	}
	s.signals <- os.Interrupt
	<-s.ended
	if s.code != ExitOK {
		t.Errorf("exit code %d, want %d", s.code, ExitOK)
	}
}

// TestServer_PrintIsBounded has statistics that nobody reads.
func TestServer_PrintIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := hub.New(hub.Config{})
		if err != nil {
			t.Fatal(err)
		}
		w := gatedWriter{gate: make(chan struct{})}
		began := time.Now()
		if err := newServer().print(h, &w); err == nil || time.Since(began) != maxPrint {
			t.Errorf("print returned %v after %v, want an error after %v", err, time.Since(began), maxPrint)
		}
		close(w.gate)
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
