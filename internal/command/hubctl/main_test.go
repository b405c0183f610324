package hubctl

import (
	"testing"

	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/command/server"
)

func TestMain(m *testing.M) { programtest.Main(m, Run) }

// startServer starts a hub on a free port of the loopback interface and returns the port.
func startServer(t *testing.T, args ...string) (s *programtest.Running, port string) {
	t.Helper()
	return programtest.StartServer(t, server.Run, args...)
}
