package server

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/natsserver"
)

// freePort returns a port on which nothing listens.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// startNATS starts a NATS server until the end of the test.
func startNATS(t *testing.T, port int) {
	t.Helper()
	s, err := natsserver.Start(t.TempDir(), func(o *server.Options) { o.Port = port })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
}

// TestMembership_WaitsForNATS starts a hub before NATS. Until it has joined, it is not ready and
// says why, and its address is closed.
func TestMembership_WaitsForNATS(t *testing.T) {
	port := freePort(t)
	hubPort := strconv.Itoa(freePort(t))
	args := []string{"-addr=127.0.0.1", "-port=" + hubPort, "-log=json", "-admin=127.0.0.1:0", "-hub-name=one", "-cluster=nats://127.0.0.1:" + strconv.Itoa(port)}
	s := programtest.Start(t, Run, args...)
	var event struct{ Addr string }
	if err := json.Unmarshal([]byte(s.WaitForLine(&s.Stderr, "admin address open")), &event); err != nil {
		t.Fatal(err)
	}
	admin := event.Addr
	s.WaitForLine(&s.Stderr, "not connected to the cluster, trying again")
	for text := ""; !strings.Contains(text, "cannot be reached"); { // the log line comes a moment before
		var code int
		if code, text = httpGet(t, admin, "/readyz", ""); code != http.StatusServiceUnavailable {
			t.Fatalf("/readyz without NATS: %d %s", code, text)
		}
	}
	if nc, err := net.Dial("tcp", "127.0.0.1:"+hubPort); err == nil {
		nc.Close()
		t.Error("the hub accepts connections without NATS")
	}
	startNATS(t, port)
	s.WaitForLine(&s.Stderr, "joined the cluster")
	s.WaitForLine(&s.Stderr, `"listening"`)
	nc, err := net.Dial("tcp", "127.0.0.1:"+hubPort)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	if code, text := httpGet(t, admin, "/readyz", ""); code != http.StatusOK {
		t.Errorf("/readyz: %d %s", code, text)
	}
	if code, text := httpGet(t, admin, "/api/cluster", ""); code != http.StatusOK || !strings.Contains(text, `"name":"one"`) {
		t.Errorf("/api/cluster: %d %s", code, text)
	}
	if got := s.Interrupt(); got.Code != command.ExitOK {
		t.Errorf("exit code %d, stderr %s", got.Code, got.Stderr)
	}
}

// TestMembership_PortInUse starts hubs whose port another program uses: one from the beginning,
// which ends without NATS, and one since it waits for NATS.
func TestMembership_PortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	natsPort := freePort(t)
	args := []string{"-addr=127.0.0.1", "-log=json", "-admin=off", "-cluster=nats://127.0.0.1:" + strconv.Itoa(natsPort)}
	got := programtest.Run(Run, append(args, "-port="+strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))...)
	if got.Code != command.ExitFailure || !strings.Contains(got.Stderr, "cannot listen") || strings.Contains(got.Stderr, "trying again") {
		t.Errorf("in use from the beginning: exit code %d, stderr %s", got.Code, got.Stderr)
	}
	hubPort := strconv.Itoa(freePort(t))
	s := programtest.Start(t, Run, append(args, "-port="+hubPort)...)
	s.WaitForLine(&s.Stderr, "not connected to the cluster, trying again")
	other, err := net.Listen("tcp", "127.0.0.1:"+hubPort)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	startNATS(t, natsPort)
	s.WaitForLine(&s.Stderr, "cannot listen")
	if <-s.Done; s.Code != command.ExitFailure {
		t.Errorf("in use later: exit code %d, stderr %s", s.Code, &s.Stderr)
	}
}

// TestMembership_InterruptedWhileWaiting ends a hub that waits for NATS.
func TestMembership_InterruptedWhileWaiting(t *testing.T) {
	s := programtest.Start(t, Run, "-addr=127.0.0.1", "-port=0", "-log=json", "-admin=off", "-cluster=nats://127.0.0.1:"+strconv.Itoa(freePort(t)))
	s.WaitForLine(&s.Stderr, "not connected to the cluster, trying again")
	if got := s.Interrupt(); got.Code != command.ExitOK || !strings.Contains(got.Stderr, `"stopped"`) {
		t.Errorf("exit code %d, stderr %s", got.Code, got.Stderr)
	}
}

// TestMembership_InvalidFiles checks that a hub whose files of the cluster are invalid does not start
// and names the file.
func TestMembership_InvalidFiles(t *testing.T) {
	short := writeTestFile(t, "short")
	for _, flag := range []string{"-cluster-key-file", "-cluster-credentials", "-cluster-nkey", "-cluster-tls-ca"} {
		got := programtest.Run(Run, "-addr=127.0.0.1", "-port=0", "-admin=off", "-cluster=nats://127.0.0.1:1", flag+"="+short)
		if got.Code != command.ExitUsage || !strings.Contains(got.Stderr, short) || strings.Contains(got.Stderr, "NATS is running") {
			t.Errorf("%s: exit code %d, stderr %s", flag, got.Code, got.Stderr)
		}
	}
}

func TestMembership_WarnsOfUnusedFiles(t *testing.T) {
	s := programtest.Start(t, Run, "-addr=127.0.0.1", "-port=0", "-admin=off", "-cluster-nkey=x")
	s.WaitForLine(&s.Stderr, "-cluster-nkey=x has no effect without -cluster")
	s.Interrupt()
}
