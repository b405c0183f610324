package command

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
	"github.com/sechlol/go-message-hub/wire"
)

// dial connects a client until the end of the test.
func dial(t *testing.T, port string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestServer_ServesUntilInterrupted sends a message between two clients, interrupts the hub,
// and checks the statistics.
func TestServer_ServesUntilInterrupted(t *testing.T) {
	s, port := startServer(t)
	a, b := dial(t, port), dial(t, port)
	if err := a.Send(t.Context(), []uint64{b.ID()}, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	m, err := b.Receive(t.Context())
	if err != nil || string(m.Body) != "hello" {
		t.Fatalf("received %q, %v", m.Body, err)
	}
	got := s.interrupt()
	if got.code != ExitOK {
		t.Errorf("exit code %d, want %d", got.code, ExitOK)
	}
	for _, want := range []string{"Clients Connected:", "Delivered:", "Bytes Read:"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("the statistics do not contain %q:\n%s", want, got.stdout)
		}
	}
	if strings.Contains(got.stdout, `"msg"`) || strings.Contains(got.stderr, "Clients Connected") {
		t.Error("log lines and statistics are mixed")
	}
	for line := range strings.Lines(got.stderr) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("log line that is not JSON: %s", line)
		}
	}
}

func TestServer_StatOff(t *testing.T) {
	s, _ := startServer(t, "-stat=false")
	if got := s.interrupt(); got.code != ExitOK || got.stdout != "" {
		t.Errorf("exit code %d, stdout %q", got.code, got.stdout)
	}
}

// TestServer_AppliesLimits checks the effect of one setting of each kind.
func TestServer_AppliesLimits(t *testing.T) {
	t.Setenv("HUB_MAX_CLIENTS", "1")
	s, port := startServer(t, "-max-body=1KiB")
	a := dial(t, port)
	if _, err := client.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port), nil); err == nil {
		t.Error("a second client was accepted")
	}
	if err := a.Send(t.Context(), []uint64{a.ID()}, make([]byte, 1<<10)); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Receive(t.Context()); err != nil {
		t.Errorf("the largest body allowed: %v", err)
	}
	s.interrupt()
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
	dial(t, port) // the answer shows that the hub has accepted the silent client
	if got := s.interrupt(); got.code != ExitOK {
		t.Errorf("exit code %d, want %d", got.code, ExitOK)
	}
}

func TestServer_PortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	got := runProgram(Server, "-addr=127.0.0.1", "-port="+port, "-admin=off")
	if got.code != ExitFailure || got.stdout != "" {
		t.Errorf("exit code %d, want %d; stdout %q", got.code, ExitFailure, got.stdout)
	}
	if n := strings.Count(got.stderr, "\n"); n != 1 || !strings.Contains(got.stderr, ":"+port) || !strings.Contains(got.stderr, "-port") {
		t.Errorf("%d lines, want one that names the port and what to do:\n%s", n, got.stderr)
	}
}

func TestServer_ForeignAddress(t *testing.T) {
	got := runProgram(Server, "-addr=192.0.2.1", "-port=0", "-admin=off") // reserved for documentation
	if got.code != ExitFailure || !strings.Contains(got.stderr, "-addr") {
		t.Errorf("exit code %d, stderr %s", got.code, got.stderr)
	}
}

// TestServer_SecondSignalAbortsDrain fills the queue of a client that does not read, which
// blocks the drain, and sends two signals.
func TestServer_SecondSignalAbortsDrain(t *testing.T) {
	s, port := startServer(t, "-drain=24h", "-stall=24h")
	stalled := dialFullQueue(t, port)
	defer stalled.Close()

	s.signals <- os.Interrupt
	s.waitForLine(&s.stderr, "stopping")
	got := s.interrupt()
	if got.code != ExitFailure || got.stdout != "" {
		t.Errorf("exit code %d, want %d; stdout %q", got.code, ExitFailure, got.stdout)
	}
	if !strings.Contains(got.stderr, "aborted at once") {
		t.Errorf("log does not say so: %s", got.stderr)
	}
}

// TestServer_DrainTimesOut fills the same queue and sends one signal with a short drain.
func TestServer_DrainTimesOut(t *testing.T) {
	s, port := startServer(t, "-drain=50ms", "-stall=24h")
	stalled := dialFullQueue(t, port)
	defer stalled.Close()

	got := s.interrupt()
	if got.code != ExitOK || !strings.Contains(got.stdout, "Clients Connected:") {
		t.Errorf("exit code %d, want %d; stdout %q", got.code, ExitOK, got.stdout)
	}
	if !strings.Contains(got.stderr, "could not be delivered in time") {
		t.Errorf("the log does not report undelivered messages: %s", got.stderr)
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
	got := s.interrupt()
	if !strings.Contains(got.stderr, "the limit of open files is too low") {
		t.Skip("this system allows 2^30 open files")
	}
	if !strings.Contains(got.stderr, "-max-clients") || !strings.Contains(got.stderr, "ulimit") {
		t.Errorf("the warning does not say what to do: %s", got.stderr)
	}
}

// brokenPipe is a standard output whose reader has closed it.
type brokenPipe struct{}

// Write implements io.Writer.
func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestServer_StatsOutputFails(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	var stderr outputBuffer
	code := Server(Process{Args: []string{"-addr=127.0.0.1", "-port=0", "-admin=off"}, Stdout: brokenPipe{}, Stderr: &stderr, Signals: signals})
	if code != ExitFailure || !strings.Contains(stderr.String(), "cannot print the statistics") {
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
	running := serve(t.Context(), h, ln)
	ln.Close()
	<-running.done
	var stdout, stderr outputBuffer
	logger := newLogger(&stderr, logText, slog.LevelInfo)
	if code := newServer().shutdown(t.Context(), running, &stdout, logger); code != ExitFailure {
		t.Errorf("exit code %d, want %d", code, ExitFailure)
	}
	if !strings.Contains(stderr.String(), "stopped unexpectedly") || !strings.Contains(stdout.String(), "Clients Connected") {
		t.Errorf("log %s\nstatistics %s", &stderr, &stdout)
	}
}
