package server

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/wire"
)

func TestProxyFlags_Validate(t *testing.T) {
	for args, want := range map[string]string{
		"-proxy-protocol":                                    "-proxy-protocol requires -proxy-trusted",
		"-proxy-trusted=10.0.0.1":                            "-proxy-trusted requires -proxy-protocol",
		"-proxy-protocol -proxy-trusted=10.0.0.1/8":          "-proxy-trusted=10.0.0.1/8: allowed are ",
		"-proxy-protocol -proxy-trusted=lb.example":          "-proxy-trusted=lb.example: allowed are ",
		"-proxy-protocol -proxy-trusted=10.0.0.1,":           `-proxy-trusted=10.0.0.1,: "" is not an address or network`,
		"-proxy-protocol -proxy-trusted=fe80::1%eth0":        "-proxy-trusted=fe80::1%eth0",
		"-proxy-protocol -proxy-trusted=::ffff:10.0.0.0/104": "-proxy-trusted=::ffff:10.0.0.0/104",
	} {
		programtest.CheckUsageError(t, programtest.Run(Run, append(strings.Fields(args), "-check")...), "start_server: "+want)
	}
	got := programtest.Run(Run, "-check", "-proxy-protocol", "-proxy-trusted=10.0.0.5, ::ffff:10.0.0.6,10.1.0.0/16,2001:db8::/32")
	if got.Code != command.ExitOK || !strings.Contains(got.Stdout, "proxy-trusted = 10.0.0.5,10.0.0.6,10.1.0.0/16,2001:db8::/32 ") {
		t.Errorf("%+v", got)
	}
}

// TestServer_ProxyProtocol checks that the admin address lists the client address from the
// PROXY header.
func TestServer_ProxyProtocol(t *testing.T) {
	s, port, admin := startServerWithAdmin(t, "-admin=127.0.0.1:0", "-proxy-protocol", "-proxy-trusted=127.0.0.0/8,::1", "-max-per-address=1")
	connect := func(from string) net.Conn {
		nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		header := "PROXY TCP4 " + from + " 192.0.2.1 40000 9999\r\n"
		if _, err := nc.Write(append([]byte(header), wire.AppendIdentityRequest(nil)...)); err != nil {
			t.Fatal(err)
		}
		return nc
	}
	for _, from := range []string{"198.51.100.7", "198.51.100.8"} {
		if _, err := io.ReadFull(connect(from), make([]byte, 13)); err != nil {
			t.Fatal(err)
		}
		if _, text := httpGet(t, admin, "/api/clients", ""); !strings.Contains(text, `"address":"`+from+`:40000"`) {
			t.Errorf("%s is not listed: %s", from, text)
		}
	}
	if text, err := io.ReadAll(connect("198.51.100.7")); len(text) > 0 {
		t.Errorf("a second client of one address was accepted: %q, %v", text, err)
	}
	if _, text := httpGet(t, admin, "/metrics", ""); !strings.Contains(text, `connections_refused_total{reason="too many from its address"} 1`) {
		t.Error("the rejected connection is not counted")
	}
	s.WaitForLine(&s.Stderr, "reading the PROXY protocol")
}
