package hubctl

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/command/server"
	"github.com/sechlol/go-message-hub/internal/natsserver"
)

const adminToken = "0123456789abcdef"

// startNATS starts a NATS server until the end of the test, and returns its URL.
func startNATS(t *testing.T) string {
	t.Helper()
	s, err := natsserver.Start(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s.ClientURL()
}

// clusteredHub is a hub in a cluster, and its ports.
type clusteredHub struct {
	*programtest.Running
	port, admin string // admin: host and port
}

// startClusteredHub starts a hub of the cluster at url. Its admin address has adminToken.
func startClusteredHub(t *testing.T, url, name string) clusteredHub {
	t.Helper()
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(adminToken), 0o600); err != nil {
		t.Fatal(err)
	}
	s := programtest.Start(t, server.Run, "-addr=127.0.0.1", "-port=0", "-log=json", "-admin=127.0.0.1:0", "-admin-token-file="+tokenFile, "-cluster="+url, "-hub-name="+name)
	addrOf := func(message string) string {
		var event struct{ Addr string }
		if err := json.Unmarshal([]byte(s.WaitForLine(&s.Stderr, message)), &event); err != nil {
			t.Fatal(err)
		}
		return event.Addr
	}
	_, port, err := net.SplitHostPort(addrOf(`"listening"`))
	if err != nil {
		t.Fatal(err)
	}
	return clusteredHub{s, port, addrOf(`"admin address open"`)}
}

// TestHubctlNodes_PrintsHubs runs two hubs over NATS, and prints them and their clients.
func TestHubctlNodes_PrintsHubs(t *testing.T) {
	url := startNATS(t)
	a, b := startClusteredHub(t, url, "alpha"), startClusteredHub(t, url, "beta")
	a.WaitForLine(&a.Stderr, `"hub joined"`)
	b.WaitForLine(&b.Stderr, `"hub joined"`)
	ids := []uint64{programtest.DialVersion(t, a.port, 2).ID(), programtest.DialVersion(t, b.port, 2).ID()}
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(adminToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	nodes := func(args ...string) programtest.Result {
		t.Helper()
		return programtest.Run(Run, append([]string{"nodes", "-admin=" + a.admin, "-admin-token-file=" + tokenFile}, args...)...)
	}
	got := nodes()
	want := `^NODE  HUB    ADDRESS +STATE  SINCE  CLIENTS  ROUND TRIP  LAG +UNDER WAY  SENT AGAIN
1     alpha  \S+ +up     \d+s +\d +- +- +- +-
2     beta   \S+ +up     \d+s +\d +[\d.]+(µs|ms) +[\d.]+(s|µs|ms) +\d+ B +\d+ B
$`
	if got.Code != command.ExitOK || got.Stderr != "" || !regexp.MustCompile(want).MatchString(got.Stdout) {
		t.Errorf("exit code %d, %s\n%s", got.Code, got.Stderr, got.Stdout)
	}
	got = nodes("-json")
	if lines := programtest.DecodeLines[hubNode](t, got.Stdout); len(lines) != 2 || lines[1].Name != "beta" || lines[1].Link == nil || lines[0].Link != nil {
		t.Errorf("%s", got.Stdout)
	}
	programtest.CheckResult(t, programtest.Run(Run, "nodes", "-admin="+a.admin), command.ExitFailure, "", "does not accept this token")
	for want, args := range map[string][]string{
		fmt.Sprintf("%-20d  1:1\n%-20d  2:1\n", ids[0], ids[1]):                                                      programtest.HubctlArgs(b.port, "list"),
		fmt.Sprintf(`{"id":"%d","node":1,"counter":1}`+"\n"+`{"id":"%d","node":2,"counter":1}`+"\n", ids[0], ids[1]): programtest.HubctlArgs(a.port, "list", "-json"),
	} {
		for range 1000 { // a hub knows the clients of others after 100 ms
			if got = programtest.Run(Run, args...); got.Stdout == want {
				break
			}
		}
		programtest.CheckResult(t, got, command.ExitOK, want, "")
	}
}

// TestHubctlNodes_Errors asks addresses that have no cluster.
func TestHubctlNodes_Errors(t *testing.T) {
	lone := programtest.Start(t, server.Run, "-addr=127.0.0.1", "-port=0", "-log=json", "-admin=127.0.0.1:0")
	var event struct{ Addr string }
	if err := json.Unmarshal([]byte(lone.WaitForLine(&lone.Stderr, `"admin address open"`)), &event); err != nil {
		t.Fatal(err)
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.TrimPrefix(r.URL.Path, "/"))
	}))
	defer other.Close()
	for admin, want := range map[string]string{
		event.Addr:    "is not in a cluster",
		other.URL:     "is not that of a hub",
		"127.0.0.1:1": "connection refused; name that of the hub by -admin",
	} {
		programtest.CheckResult(t, programtest.Run(Run, "nodes", "-admin="+admin), command.ExitFailure, "", want)
	}
	for _, admin := range []string{"", "ftp://a", "http://", "http://u:p@a", "http://a?b", "a b"} {
		programtest.CheckResult(t, programtest.Run(Run, "nodes", "-admin="+admin), command.ExitUsage, "", "allowed are host:port")
	}
}

func TestHubctlNodes_CheckStatus(t *testing.T) {
	c := nodesCommand{admin: "a:1"}
	for _, test := range []struct {
		status int
		body   string
		want   string
	}{
		{http.StatusUnauthorized, "", "the admin address a:1 does not accept this token: name the file with its token by -admin-token-file"},
		{http.StatusForbidden, `{"error":"no"}`, "the admin address a:1 answers 403: no"},
		{http.StatusFound, "<html>", "a:1 answers 302: it is not the admin address of a hub"},
	} {
		if err := c.checkStatus(test.status, []byte(test.body)); err == nil || err.Error() != test.want {
			t.Errorf("%d: %v", test.status, err)
		}
	}
}
