package programtest

import (
	"strings"

	"github.com/sechlol/go-message-hub/internal/command"
)

// Result is the exit code and the output of a program.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Run runs a program until it exits by itself.
func Run(program func(command.Process) int, args ...string) Result {
	var stdout, stderr Output
	code := program(command.Process{Args: args, Stdout: &stdout, Stderr: &stderr})
	return Result{code, stdout.String(), stderr.String()}
}

// RunWithStdin runs a program with the given standard input until it exits by itself.
func RunWithStdin(program func(command.Process) int, stdin string, args ...string) Result {
	var stdout, stderr Output
	code := program(command.Process{Args: args, Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr})
	return Result{code, stdout.String(), stderr.String()}
}
