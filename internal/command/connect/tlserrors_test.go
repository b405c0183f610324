package connect_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/hubctl"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/command/server"
	"github.com/sechlol/go-message-hub/internal/command/simulation"
)

// startServerWithCert starts a hub with the given certificate and returns its port.
func startServerWithCert(t *testing.T, pair testcerts.Pair) (port string) {
	t.Helper()
	cert, key := pair.WriteFiles(t)
	_, port = programtest.StartServer(t, server.Run, "-tls-cert="+cert, "-tls-key="+key)
	return port
}

// TestTLS_ExplainsErrors checks that each TLS error is one sentence with advice.
func TestTLS_ExplainsErrors(t *testing.T) {
	_, port, ca := programtest.StartTLSServer(t, server.Run)
	_, plain := programtest.StartServer(t, server.Run)
	other := testcerts.NewAuthority(t)
	elsewhere := startServerWithCert(t, other.Issue(time.Now().Add(time.Hour), "elsewhere.example", "192.0.2.1"))
	expired := startServerWithCert(t, other.Issue(time.Now().Add(-time.Hour), "localhost"))
	clientCA := testcerts.NewAuthority(t)
	_, mutual, mutualCA := programtest.StartTLSServer(t, server.Run, "-tls-client-ca="+clientCA.WriteFile())
	foreignCert, foreignKey := other.IssueLocal().WriteFiles(t)
	expiredCert, expiredKey := clientCA.Issue(time.Now().Add(-time.Hour), "somebody").WriteFiles(t)
	goodCert, goodKey := clientCA.Issue(time.Now().Add(time.Hour), "somebody").WriteFiles(t)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-addr=hubs://localhost:" + port}, "set the authority with -ca"},
		{[]string{"-addr=hubs://localhost:" + port, "-ca=" + other.WriteFile()}, "set the authority with -ca"},
		{[]string{"-addr=hubs://localhost:" + elsewhere, "-ca=" + other.WriteFile()}, "its certificate is for elsewhere.example, 192.0.2.1, not for localhost"},
		{[]string{"-addr=hubs://localhost:" + expired, "-ca=" + other.WriteFile()}, "its certificate expired at 2"},
		{[]string{"-addr=hubs://localhost:" + plain, "-ca=" + ca}, "it does not speak TLS (then remove hubs://)"},
		{[]string{"-addr=localhost", "-port=" + port}, "requires TLS (-addr=hubs://"},
		{[]string{"-addr=hubs://localhost:" + mutual, "-ca=" + mutualCA}, "the hub requires a client certificate: set -cert and -key"},
		{[]string{"-addr=hubs://localhost:" + mutual, "-ca=" + mutualCA, "-cert=" + foreignCert, "-key=" + foreignKey}, "the hub rejected the certificate of -cert"},
		{[]string{"-addr=hubs://localhost:" + mutual, "-ca=" + mutualCA, "-cert=" + expiredCert, "-key=" + expiredKey}, "the hub rejected the certificate of -cert"},
		{[]string{"-addr=hubs://localhost:" + mutual, "-ca=" + mutualCA, "-cert=" + goodCert}, "-cert and -key belong together"},
		{[]string{"-addr=hubs://localhost:" + mutual, "-ca=nothing"}, "-ca: open nothing: no such file"},
		{[]string{"-addr=localhost", "-ca=" + ca}, "set -addr=hubs://localhost"},
		{[]string{"-addr=hubs://localhost:1", "-port=2"}, "remove -port"},
		{[]string{"-addr=https://localhost"}, "hubs://hub.example"},
	} {
		got := programtest.Run(hubctl.Run, append([]string{"list"}, test.args...)...)
		if got.Code == command.ExitOK || !strings.Contains(programtest.FirstLine(got.Stderr), test.want) {
			t.Errorf("hubctl list %v: exit code %d, %s\nwant %q", test.args, got.Code, got.Stderr, test.want)
		}
		got = programtest.Run(simulation.Run, append([]string{"-ncli=1", "-stat=false"}, test.args...)...)
		if test.want == "requires TLS (-addr=hubs://" {
			test.want = "-addr=hubs://… is for TLS"
		}
		if got.Code == command.ExitOK || !strings.Contains(got.Stderr, test.want) {
			t.Errorf("start_simulation %v: exit code %d, %s\nwant %q", test.args, got.Code, got.Stderr, test.want)
		}
	}
	if got := programtest.Run(hubctl.Run, "list", "-addr=hubs://localhost:"+mutual, "-ca="+mutualCA, "-cert="+goodCert, "-key="+goodKey); got.Code != command.ExitOK {
		t.Errorf("with a valid certificate: %+v", got)
	}
}
