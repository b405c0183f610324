package server

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/command/serve"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/wire"
)

// TestServer_ServesUntilInterrupted sends a message between two clients, interrupts the hub,
// and checks the statistics.
func TestServer_ServesUntilInterrupted(t *testing.T) {
	s, port := startServer(t)
	a, b := programtest.Dial(t, port), programtest.Dial(t, port)
	if err := a.Send(t.Context(), []uint64{b.ID()}, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	m, err := b.Receive(t.Context())
	if err != nil || string(m.Body) != "hello" {
		t.Fatalf("received %q, %v", m.Body, err)
	}
	got := s.Interrupt()
	if got.Code != command.ExitOK {
		t.Errorf("exit code %d, want %d", got.Code, command.ExitOK)
	}
	for _, want := range []string{"Clients Connected:", "Delivered:", "Bytes Read:"} {
		if !strings.Contains(got.Stdout, want) {
			t.Errorf("the statistics do not contain %q:\n%s", want, got.Stdout)
		}
	}
	if strings.Contains(got.Stdout, `"msg"`) || strings.Contains(got.Stderr, "Clients Connected") {
		t.Error("log lines and statistics are mixed")
	}
	for line := range strings.Lines(got.Stderr) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("log line that is not JSON: %s", line)
		}
	}
}

func TestServer_StatOff(t *testing.T) {
	s, _ := startServer(t, "-stat=false")
	if got := s.Interrupt(); got.Code != command.ExitOK || got.Stdout != "" {
		t.Errorf("exit code %d, stdout %q", got.Code, got.Stdout)
	}
}

// TestServer_AppliesLimits checks the effect of one setting of each kind.
func TestServer_AppliesLimits(t *testing.T) {
	t.Setenv("HUB_MAX_CLIENTS", "1")
	s, port := startServer(t, "-max-body=1KiB")
	a := programtest.Dial(t, port)
	if _, err := client.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port), nil); err == nil {
		t.Error("a second client was accepted")
	}
	if err := a.Send(t.Context(), []uint64{a.ID()}, make([]byte, 1<<10)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Receive(t.Context()); err != nil {
		t.Errorf("the largest body allowed: %v", err)
	}
	s.Interrupt()
}

// TestServer_SilentClientDoesNotDelayShutdown shuts down with a client that has never sent
// anything.
func TestServer_SilentClientDoesNotDelayShutdown(t *testing.T) {
	s, port := startServer(t, "-drain=24h")
	silent, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	programtest.Dial(t, port) // the answer shows that the hub has accepted the silent client
	if got := s.Interrupt(); got.Code != command.ExitOK {
		t.Errorf("exit code %d, want %d", got.Code, command.ExitOK)
	}
}

func TestServer_PortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	got := programtest.Run(Run, "-addr=127.0.0.1", "-port="+port, "-admin=off")
	if got.Code != command.ExitFailure || got.Stdout != "" {
		t.Errorf("exit code %d, want %d; stdout %q", got.Code, command.ExitFailure, got.Stdout)
	}
	if n := strings.Count(got.Stderr, "\n"); n != 1 || !strings.Contains(got.Stderr, ":"+port) || !strings.Contains(got.Stderr, "-port") {
		t.Errorf("%d lines, want one that names the port and what to do:\n%s", n, got.Stderr)
	}
}

func TestServer_ForeignAddress(t *testing.T) {
	got := programtest.Run(Run, "-addr=192.0.2.1", "-port=0", "-admin=off") // reserved for documentation
	if got.Code != command.ExitFailure || !strings.Contains(got.Stderr, "-addr") {
		t.Errorf("exit code %d, stderr %s", got.Code, got.Stderr)
	}
}

// TestServer_SecondSignalAbortsDrain fills the queue of a client that does not read, which
// blocks the drain, and sends two signals.
func TestServer_SecondSignalAbortsDrain(t *testing.T) {
	s, port := startServer(t, "-drain=24h", "-stall=24h")
	stalled := dialFullQueue(t, port)
	defer stalled.Close()

	s.Signals <- os.Interrupt
	s.WaitForLine(&s.Stderr, "stopping")
	got := s.Interrupt()
	if got.Code != command.ExitFailure || got.Stdout != "" {
		t.Errorf("exit code %d, want %d; stdout %q", got.Code, command.ExitFailure, got.Stdout)
	}
	if !strings.Contains(got.Stderr, "aborted at once") {
		t.Errorf("log does not say so: %s", got.Stderr)
	}
}

// TestServer_DrainTimesOut fills the same queue and sends one signal with a short drain.
func TestServer_DrainTimesOut(t *testing.T) {
	s, port := startServer(t, "-drain=50ms", "-stall=24h")
	stalled := dialFullQueue(t, port)
	defer stalled.Close()

	got := s.Interrupt()
	if got.Code != command.ExitOK || !strings.Contains(got.Stdout, "Clients Connected:") {
		t.Errorf("exit code %d, want %d; stdout %q", got.Code, command.ExitOK, got.Stdout)
	}
	if !strings.Contains(got.Stderr, "could not be delivered in time") {
		t.Errorf("the log does not report undelivered messages: %s", got.Stderr)
	}
}

// dialFullQueue connects a client that sends to itself and never reads, until its writes
// block. The hub then has queued data that it cannot write.
func dialFullQueue(t *testing.T, port string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		t.Fatal(err)
	}
	const firstOfAFreshHub = 1
	frame := wire.AppendRelay(nil, []uint64{firstOfAFreshHub}, make([]byte, 1<<20))
	for {
		// A loopback socket that accepts nothing for half a second is blocked.
		if err := conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(frame); errors.Is(err, os.ErrDeadlineExceeded) {
			return conn
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestServer_WarnsOfLowFileLimit(t *testing.T) {
	s, _ := startServer(t, "-max-clients=1073741824")
	got := s.Interrupt()
	if !strings.Contains(got.Stderr, "the limit of open files is too low") {
		t.Skip("this system allows 2^30 open files")
	}
	if !strings.Contains(got.Stderr, "-max-clients") || !strings.Contains(got.Stderr, "ulimit") {
		t.Errorf("the warning does not say what to do: %s", got.Stderr)
	}
}

func TestServer_StatsOutputFails(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	var stderr programtest.Output
	code := Run(command.Process{Args: []string{"-addr=127.0.0.1", "-port=0", "-admin=off"}, Stdout: programtest.BrokenPipe{}, Stderr: &stderr, Signals: signals})
	if code != command.ExitFailure || !strings.Contains(stderr.String(), "cannot print the statistics") {
		t.Errorf("exit code %d, stderr %s", code, &stderr)
	}
}

// TestServer_ListenerFails closes the listener of a hub.
func TestServer_ListenerFails(t *testing.T) {
	h, err := hub.New(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running := serve.Start(t.Context(), h, ln)
	ln.Close()
	<-running.Done()
	var stdout, stderr programtest.Output
	logger := settings.NewLogger(&stderr, settings.LogText, slog.LevelInfo)
	s := &program{config: newConfig(), logger: logger}
	if code := s.shutdown(t.Context(), running, &stdout); code != command.ExitFailure {
		t.Errorf("exit code %d, want %d", code, command.ExitFailure)
	}
	if !strings.Contains(stderr.String(), "stopped unexpectedly") || !strings.Contains(stdout.String(), "Clients Connected") {
		t.Errorf("log %s\nstatistics %s", &stderr, &stdout)
	}
}
