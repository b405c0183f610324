package command

import (
	"encoding/json"
	"slices"
	"testing"
)

// TestSettings_WarnsOfUnusedVariables sets variables that are probably meant for start_server,
// and others that only have its prefix.
func TestSettings_WarnsOfUnusedVariables(t *testing.T) {
	tests := []struct {
		name, value string
		args        []string
		want        string // empty: no warning
	}{
		{name: "HUB_MAX_CLIENT", value: "1", want: "HUB_MAX_CLIENT is not a setting and has no effect, did you mean HUB_MAX_CLIENTS?"},
		{name: "HUB_MAXCLIENTS", value: "1", want: "HUB_MAXCLIENTS is not a setting and has no effect, did you mean HUB_MAX_CLIENTS?"},
		{name: "HUB_PROT", value: "1", want: "HUB_PROT is not a setting and has no effect, did you mean HUB_PORT?"},
		{name: "HUB_HOST", value: "1"}, // two of four letters differ: not a likely typo
		{name: "HUB_PORTS", value: "1", want: "HUB_PORTS is not a setting and has no effect, did you mean HUB_PORT?"},
		{name: "HUB_ADDRESS", value: "::1", want: "HUB_ADDRESS is not a setting and has no effect, did you mean HUB_ADDR?"},
		{name: "HUB_RESUME", value: "1s", want: "HUB_RESUME is not a setting and has no effect, did you mean HUB_RESUME_WINDOW?"},
		{name: "HUB_CHECK", value: "true", want: "HUB_CHECK has no effect: use the flag -check"},
		{name: "HUB_PORT", value: "tcp://10.0.0.1:9999", args: []string{"-port=1"},
			want: "HUB_PORT=tcp://10.0.0.1:9999 is invalid, but overridden by -port: allowed are whole numbers from 0 to 65535"},
		{name: "HUB_PORT", value: "1", args: []string{"-port=2"}},
		{name: "HUB_VERSION", value: "3.1"},
		{name: "HUB_MAX_CLIENT", value: ""},
		{name: "HUB_PORT_9999_TCP", value: "tcp://10.0.0.1:9999"}, // set by Kubernetes, like the next
		{name: "HUB_SERVICE_HOST", value: "10.0.0.1"},
		{name: "HUB_X", value: "1"},
		{name: "HUBCTL_PORTS", value: "1"},
		{name: "MY_HUB_PORTS", value: "1"},
	}
	for _, tt := range tests {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			t.Setenv(tt.name, tt.value)
			var want []string
			if tt.want != "" {
				want = []string{tt.want}
			}
			if got := parseServerFlags(t, tt.args...).settings.warnings; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestPrograms_WarnOfTypos(t *testing.T) {
	t.Setenv("HUBCTL_TIMEOUTS", "1s")
	t.Setenv("SIMULATION_SIZES", "1")
	t.Setenv("HUB_STALLS", "1s")

	const first = "hubctl list: HUBCTL_TIMEOUTS is not a setting and has no effect, did you mean HUBCTL_TIMEOUT?"
	if got := runProgram(Hubctl, "list", "-port=1"); firstLine(got.stderr) != first {
		t.Errorf("hubctl prints %q", got.stderr)
	}
	simResult := runProgram(Simulation, "-embed", "-ncli=0", "-log=json")
	server, _ := startServer(t)
	for _, stderr := range []string{runProgram(Hubctl, "list", "-port=1", "-log=json").stderr, simResult.stderr, server.interrupt().stderr} {
		var event struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(firstLine(stderr)), &event); err != nil || event.Level != "WARN" {
			t.Errorf("%v: %s", err, stderr)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"port", "port", 0}, {"port", "ports", 1}, {"prot", "port", 1}, {"host", "port", 2}, {"stal", "stall", 1}, {"kitten", "sitting", 3},
	} {
		if got := editDistance(tt.a, tt.b); got != tt.want {
			t.Errorf("%q to %q: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
