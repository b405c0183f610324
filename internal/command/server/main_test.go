package server

import (
	"bufio"
	"encoding/json"
	"io"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command/programtest"
)

func TestMain(m *testing.M) { programtest.Main(m, Run) }

// startServer starts a hub on a free port of the loopback interface and returns the port.
func startServer(t *testing.T, args ...string) (s *programtest.Running, port string) {
	t.Helper()
	return programtest.StartServer(t, Run, args...)
}

// readAddresses reads the JSON log of a hub until the log contains the admin address and the
// address of the hub.
func readAddresses(t *testing.T, log io.Reader) (admin, hub string) {
	t.Helper()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var event struct{ Msg, Addr string }
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		switch event.Msg {
		case "admin address open":
			admin = event.Addr
		case "listening":
			return admin, event.Addr
		}
	}
	t.Fatal("the hub stopped before it listened")
	return "", ""
}
