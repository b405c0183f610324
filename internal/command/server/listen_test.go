package server

import (
	"net"
	"strings"
	"testing"
)

// TestListenAt_Families connects over IPv4 and IPv6 to listeners at addresses of one family or
// of both.
func TestListenAt_Families(t *testing.T) {
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	probe.Close()
	for host, want := range map[string]struct{ v4, v6 bool }{
		"0.0.0.0": {v4: true}, "127.0.0.1": {v4: true}, "::ffff:0.0.0.0": {v4: true},
		"::1": {v6: true}, "::": {true, true}, "": {true, true},
	} {
		ln, err := listenAt(net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatalf("%q: %v", host, err)
		}
		_, port, err := net.SplitHostPort(ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		reaches := func(host string) bool {
			nc, err := net.Dial("tcp", net.JoinHostPort(host, port))
			if err == nil {
				nc.Close()
			}
			return err == nil
		}
		if v4, v6 := reaches("127.0.0.1"), reaches("::1"); v4 != want.v4 || v6 != want.v6 {
			t.Errorf("%q listens on IPv4: %t, on IPv6: %t, want %+v", host, v4, v6, want)
		}
		ln.Close()
	}
}

// TestServer_ListensOnIPv4Only checks both addresses of a hub with IPv4 addresses.
func TestServer_ListensOnIPv4Only(t *testing.T) {
	s, _, admin := startServerWithAdmin(t, "-addr=0.0.0.0", "-admin=0.0.0.0:0", "-admin-token-file="+writeTokenFile(t, adminToken))
	if line := s.WaitForLine(&s.Stderr, `"listening"`); !strings.Contains(line, `"addr":"0.0.0.0:`) || !strings.HasPrefix(admin, "0.0.0.0:") {
		t.Errorf("the hub listens on %s, its admin address is %s", line, admin)
	}
}
