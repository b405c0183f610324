package connect_test

import (
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/hubctl"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/command/server"
	"github.com/sechlol/go-message-hub/internal/command/simulation"
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
		} {
			got := program("-addr=" + addr)
			if got.Code != command.ExitUsage || !strings.Contains(programtest.FirstLine(got.Stderr), "-addr="+addr+": ") || !strings.Contains(programtest.FirstLine(got.Stderr), want) {
				t.Errorf("%s -addr=%s: exit code %d, %s\nwant %q", name, addr, got.Code, got.Stderr, want)
			}
		}
	}
}
