package command

import (
	"strings"
	"testing"
)

// TestHubFlags_Addresses checks all forms of the address of a hub in all client programs.
func TestHubFlags_Addresses(t *testing.T) {
	_, port := startServer(t)
	programs := map[string]func(args ...string) programResult{
		"hubctl": func(args ...string) programResult { return runProgram(Hubctl, append([]string{"list"}, args...)...) },
		"start_simulation": func(args ...string) programResult {
			return runProgram(Simulation, append([]string{"-ncli=0", "-stat=false"}, args...)...)
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
			if got := program(args...); got.code != ExitOK {
				t.Errorf("%s %v: exit code %d, %s", name, args, got.code, got.stderr)
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
			if got.code != ExitUsage || !strings.Contains(firstLine(got.stderr), "-addr="+addr+": ") || !strings.Contains(firstLine(got.stderr), want) {
				t.Errorf("%s -addr=%s: exit code %d, %s\nwant %q", name, addr, got.code, got.stderr, want)
			}
		}
	}
}
