package server

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
)

// startServiceManager makes the test the service manager of the programs that it starts. The
// returned function returns the next notification, and waits at most ten seconds for it.
func startServiceManager(t *testing.T) (receive func() string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return func() string {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		var datagram [512]byte
		n, err := conn.Read(datagram[:])
		if err != nil {
			t.Fatal(err)
		}
		return string(datagram[:n])
	}
}

// TestServiceNotifier_Lifecycle checks the notifications of a service: ready when clients can
// connect, alive in the requested interval, also during the drain, and stopping.
func TestServiceNotifier_Lifecycle(t *testing.T) {
	receive := startServiceManager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	s, port := startServer(t, "-drain=500ms", "-stall=24h")
	if got, want := receive(), "READY=1\nSTATUS=listening on 127.0.0.1:"+port; got != want {
		t.Fatalf("notified %q, want %q", got, want)
	}
	stalled := dialFullQueue(t, port) // makes the drain last until its timeout
	defer stalled.Close()
	for range 3 {
		if got := receive(); got != "WATCHDOG=1" {
			t.Errorf("notified %q", got)
		}
	}
	ended := make(chan programtest.Result, 1)
	go func() { ended <- s.Interrupt() }() // ends with the server
	state := receive()
	for ; state == "WATCHDOG=1"; state = receive() {
	}
	if state != "STOPPING=1\nEXTEND_TIMEOUT_USEC=10500000" {
		t.Errorf("notified %q", state)
	}
	if state := receive(); state != "WATCHDOG=1" {
		t.Errorf("notified %q during the drain", state)
	}
	if got := <-ended; got.Code != command.ExitOK || strings.Contains(got.Stderr, "service manager") {
		t.Errorf("exit code %d: %s", got.Code, got.Stderr)
	}
}

func TestServiceNotifier_ManagerGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	s, port := startServer(t)
	programtest.Dial(t, port)
	if got := s.Interrupt(); got.Code != command.ExitOK || !strings.Contains(got.Stderr, "cannot notify the service manager") {
		t.Errorf("exit code %d: %s", got.Code, got.Stderr)
	}
}
