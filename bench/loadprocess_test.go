package main

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// startScript starts a shell script in place of the load program.
func startScript(t *testing.T, script string) *loadProcess {
	t.Helper()
	l, err := startLoadCommand(exec.CommandContext(t.Context(), "sh", "-c", script))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLoadProcess_During(t *testing.T) {
	l := startScript(t, `echo moving; echo '{"seconds": 2.5, "tries": 7}'`)
	m, load, err := l.during(func() (*measurement, error) { return &measurement{Deliveries: 3}, nil })
	if err != nil {
		t.Fatal(err)
	}
	if m.Deliveries != 3 || load.Seconds != 2.5 || load.Attempts != 7 {
		t.Errorf("%+v, %+v", m, load)
	}
}

// TestLoadProcess_FailedMeasurement has a load that would go on for a minute.
func TestLoadProcess_FailedMeasurement(t *testing.T) {
	l := startScript(t, `echo moving; exec sleep 60`)
	want := errors.New("lost")
	if _, _, err := l.during(func() (*measurement, error) { return nil, want }); !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
	if l.cmd.ProcessState == nil {
		t.Error("the load was not killed")
	}
}

func TestLoadProcess_Errors(t *testing.T) {
	for name, test := range map[string]struct{ script, want string }{
		"not connected": {`echo 'no route' >&2; exit 1`, "no route"},
		"exit code":     {`echo moving; echo 'out of ports' >&2; exit 1`, "out of ports"},
		"no result":     {`echo moving`, "JSON"},
	} {
		_, _, err := startScript(t, test.script).during(func() (*measurement, error) { return nil, nil })
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
