package hubctl

import (
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/internal/cluster"
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

// TestConnectedClient_NamesHub compares the parts of an id with those that package cluster makes.
func TestConnectedClient_NamesHub(t *testing.T) {
	for _, test := range []struct {
		id        uint64
		inCluster bool
		want      string
	}{
		{7, false, "7"},
		{7, true, "7                     -"},
		{cluster.FirstID(1), true, "9223374235878031361   1:1"},
		{cluster.FirstID(cluster.MaxNode) + 41, true, "18446741874686296106  4194303:42"},
	} {
		if got := newConnectedClient(test.id, test.inCluster).String(); got != test.want {
			t.Errorf("%d: %q, want %q", test.id, got, test.want)
		}
	}
}
