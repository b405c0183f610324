package command_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/hubctl"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/command/server"
	"github.com/sechlol/go-message-hub/internal/command/simulation"
)

func TestPrograms_Help(t *testing.T) {
	programs := map[string]func(command.Process) int{"start_server": server.Run, "start_simulation": simulation.Run}
	for name, program := range programs {
		for _, arg := range []string{"-h", "-help", "--help"} {
			got := programtest.Run(program, arg)
			if got.Code != command.ExitOK || got.Stderr != "" {
				t.Errorf("%s %s: exit code %d, stderr %q", name, arg, got.Code, got.Stderr)
			}
			for _, want := range []string{"Usage: " + name, "-port=9999", "-stat=true", "(text or json)", "_"} {
				if !strings.Contains(got.Stdout, want) {
					t.Errorf("%s %s does not contain %q", name, arg, want)
				}
			}
		}
	}
}

func TestPrograms_WarnOfTypos(t *testing.T) {
	t.Setenv("HUBCTL_TIMEOUTS", "1s")
	t.Setenv("SIMULATION_SIZES", "1")
	t.Setenv("HUB_STALLS", "1s")

	const first = "hubctl list: HUBCTL_TIMEOUTS is not a setting and has no effect, did you mean HUBCTL_TIMEOUT?"
	if got := programtest.Run(hubctl.Run, "list", "-port=1"); programtest.FirstLine(got.Stderr) != first {
		t.Errorf("hubctl prints %q", got.Stderr)
	}
	simResult := programtest.Run(simulation.Run, "-embed", "-ncli=0", "-log=json")
	server, _ := programtest.StartServer(t, server.Run)
	for _, stderr := range []string{programtest.Run(hubctl.Run, "list", "-port=1", "-log=json").Stderr, simResult.Stderr, server.Interrupt().Stderr} {
		var event struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(programtest.FirstLine(stderr)), &event); err != nil || event.Level != "WARN" {
			t.Errorf("%v: %s", err, stderr)
		}
	}
}
