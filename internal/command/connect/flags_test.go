package connect_test

import (
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/connect"
	"github.com/sechlol/go-message-hub/internal/command/hubctl"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/command/server"
	"github.com/sechlol/go-message-hub/internal/command/simulation"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// TestHubFlags_Addresses checks all forms of the address of a hub in all client programs.
func TestHubFlags_Addresses(t *testing.T) {
	_, port := programtest.StartServer(t, server.Run)
	programs := map[string]func(args ...string) programtest.Result{
		"hubctl": func(args ...string) programtest.Result {
			return programtest.Run(hubctl.Run, append([]string{"list"}, args...)...)
		},
		"start_simulation": func(args ...string) programtest.Result {
			return programtest.Run(simulation.Run, append([]string{"-ncli=0", "-stat=false"}, args...)...)
		},
	}
	for name, program := range programs {
		for _, args := range [][]string{
			{"-addr=127.0.0.1:" + port},
			{"-addr=127.0.0.1", "-port=" + port},
			{"-addr=hub://127.0.0.1", "-port=" + port},
			{"-addr=hub://127.0.0.1/", "-port=" + port},
			{"-addr=HUB://127.0.0.1:" + port + "/"},
			{"-addr=127.0.0.1:1, 127.0.0.1:" + port},
			{"-addr=127.0.0.1,hub://127.0.0.2/", "-port=" + port},
		} {
			if got := program(args...); got.Code != command.ExitOK {
				t.Errorf("%s %v: exit code %d, %s", name, args, got.Code, got.Stderr)
			}
		}
		for addr, want := range map[string]string{
			"hub://":             "missing host: allowed are names and addresses",
			"hub://host/room":    "unexpected path /room: allowed",
			"hub://alice@host":   "user info is not supported",
			"hub://host?token=x": "unexpected query or fragment ?token=x",
			"HTTP://host":        "unknown scheme HTTP://, must be hub:// or hubs://: allowed",
			"host:0":             "must be from 1 to 65535",
			"host,host:0":        "must be from 1 to 65535",
			"host,":              "missing host",
			"host,hubs://host2":  "some have the prefix hubs:// and some have not",
			"host,host":          "host:9999 is listed twice",
		} {
			got := program("-addr=" + addr)
			if got.Code != command.ExitUsage || !strings.Contains(programtest.FirstLine(got.Stderr), "-addr="+addr+": ") || !strings.Contains(programtest.FirstLine(got.Stderr), want) {
				t.Errorf("%s -addr=%s: exit code %d, %s\nwant %q", name, addr, got.Code, got.Stderr, want)
			}
		}
	}
}

// TestFlags_SeveralAddresses checks the forms of a list of addresses.
func TestFlags_SeveralAddresses(t *testing.T) {
	for _, test := range []struct {
		args            []string
		text, hostPorts string
		several         bool
	}{
		{nil, "localhost:9999", "localhost:9999", false},
		{[]string{"-addr=a,b:2, [::1]"}, "a:9999,b:2,[::1]:9999", "a:9999,b:2,[::1]:9999", true},
		{[]string{"-addr=hubs://a,hubs://b", "-port=7"}, "hubs://a:7,hubs://b:7", "a:7,b:7", true},
	} {
		s := settings.New("test", "TEST", "")
		var f connect.Flags
		f.AddTo(s)
		if err := s.Read(test.args); err != nil {
			t.Fatal(err)
		}
		if f.String() != test.text || f.HostPorts() != test.hostPorts || f.HasSeveral() != test.several || f.UsesTLS() != strings.HasPrefix(test.text, "hubs://") {
			t.Errorf("%q: %s, %s, several: %v, TLS: %v, want %+v", test.args, &f, f.HostPorts(), f.HasSeveral(), f.UsesTLS(), test)
		}
	}
	got := programtest.Run(hubctl.Run, "list", "-addr=a,b:2", "-port=7")
	if got.Code != command.ExitUsage || !strings.Contains(got.Stderr, "-addr=a,b:2 includes a port: remove -port") {
		t.Errorf("two ports: exit code %d, %s", got.Code, got.Stderr)
	}
	got = programtest.Run(hubctl.Run, "list", "-addr=a,hub://b", "-ca=x")
	if got.Code != command.ExitUsage || !strings.Contains(got.Stderr, "set -addr=hubs://a,hubs://b") {
		t.Errorf("a CA without TLS: exit code %d, %s", got.Code, got.Stderr)
	}
}
