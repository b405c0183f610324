package programtest

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/internal/command"
)

// StartServer starts server, which is start_server, on a free port of the loopback interface and
// returns the port.
func StartServer(t *testing.T, server func(command.Process) int, args ...string) (s *Running, port string) {
	t.Helper()
	s = Start(t, server, append([]string{"-addr=127.0.0.1", "-port=0", "-log=json", "-admin=off"}, args...)...)
	line := s.WaitForLine(&s.Stderr, `"listening"`)
	var event struct{ Addr string }
	if err := json.Unmarshal([]byte(line), &event); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	_, port, err := net.SplitHostPort(event.Addr)
	if err != nil {
		t.Fatal(err)
	}
	return s, port
}

// StartTLSServer starts server, which is start_server, with TLS and returns its port and the
// file of its CA certificate.
func StartTLSServer(t *testing.T, server func(command.Process) int, args ...string) (s *Running, port, ca string) {
	t.Helper()
	authority := testcerts.NewAuthority(t)
	cert, key := authority.IssueLocal().WriteFiles(t)
	s, port = StartServer(t, server, append(args, "-tls-cert="+cert, "-tls-key="+key)...)
	return s, port, authority.WriteFile()
}

// Dial connects a client until the end of the test.
func Dial(t *testing.T, port string) *client.Client {
	t.Helper()
	return DialVersion(t, port, 0)
}

// DialVersion connects a client of the given protocol version; 0: the default.
func DialVersion(t *testing.T, port string, version int) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), net.JoinHostPort("127.0.0.1", port), &client.Options{Version: version})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// HubctlArgs returns the command line of subcommand cmd of hubctl for the hub at port.
func HubctlArgs(port, cmd string, args ...string) []string {
	return append([]string{cmd, "-addr=127.0.0.1", "-port=" + port}, args...)
}

// StartListen starts hubctl listen and returns its id once it listens.
func StartListen(t *testing.T, hubctl func(command.Process) int, port string, args ...string) (l *Running, id string) {
	t.Helper()
	l = Start(t, hubctl, HubctlArgs(port, "listen", args...)...)
	_, id, _ = strings.Cut(l.WaitForLine(&l.Stderr, "connected"), " id=")
	id, _, _ = strings.Cut(id, " ")
	if _, err := strconv.ParseUint(id, 10, 64); err != nil {
		t.Fatalf("the first line does not contain the id: %s", &l.Stderr)
	}
	return l, id
}
