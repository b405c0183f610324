// Package programtest runs the programs of this module in tests, in the process of the test or
// in one of their own. Only tests use it. It imports none of the programs, so that their own
// tests can use it.
package programtest

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sechlol/go-message-hub/internal/command"
)

// childEnv is the environment variable that makes a test binary run as its program.
const childEnv = "COMMAND_TEST_CHILD"

// Main runs the tests of a package, with the environment variables that tests need. In a
// process that Child has started it runs program instead, which can be nil if no test uses
// Child.
func Main(m *testing.M, program func(command.Process) int) {
	if os.Getenv(childEnv) != "" {
		os.Exit(command.Main(program))
	}
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		for _, prefix := range []string{"HUB_", "SIMULATION_", "HUBCTL_", "OTEL_"} {
			if strings.HasPrefix(name, prefix) {
				os.Unsetenv(name) // the tests set what they need
			}
		}
	}
	goleak.VerifyTestMain(m)
}

// Child returns a command that runs the program of Main in its own process. The cleanup of the
// test kills the process if it is still running.
func Child(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, os.Args[0], args...)
	c.Env = append(os.Environ(), childEnv+"=1")
	return c
}
