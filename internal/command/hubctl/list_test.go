package hubctl

import (
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
)

func TestHubctlList_PrintsIDs(t *testing.T) {
	_, port := startServer(t)
	programtest.CheckResult(t, programtest.Run(Run, programtest.HubctlArgs(port, "list")...), command.ExitOK, "", "")
	var want string
	var ids []string
	for range 3 {
		id := formatID(programtest.DialVersion(t, port, 2).ID())
		ids = append(ids, id)
		want += id + "\n"
	}
	programtest.CheckResult(t, programtest.Run(Run, programtest.HubctlArgs(port, "list")...), command.ExitOK, want, "")
	got := programtest.Run(Run, programtest.HubctlArgs(port, "list", "-json")...)
	var listed []string
	for _, o := range programtest.DecodeLines[map[string]string](t, got.Stdout) {
		listed = append(listed, o["id"])
	}
	if got.Code != command.ExitOK || !slices.Equal(listed, ids) {
		t.Errorf("exit code %d, listed %v, want %v", got.Code, listed, ids)
	}
}
