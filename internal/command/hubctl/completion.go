package hubctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// The shells that have a completion script.
const (
	bash = "bash"
	zsh  = "zsh"
)

// newCompletionCommand returns the subcommand that prints the scripts for the completion of
// describe.
func newCompletionCommand(describe func() settings.Completion) (*settings.Settings, func(command.Process) int) {
	s := newSettings("completion",
		"hubctl completion prints a script that lets a shell complete the subcommands of hubctl, their\n"+
			"flags, and the values of these flags.")
	s.OperandChoices = []string{bash, zsh}
	s.OperandUsage = strings.Join(s.OperandChoices, "|")
	s.AddCommonFlags()
	s.Notes = `For bash, in ~/.bashrc:  source <(hubctl completion bash)
For zsh, in ~/.zshrc after compinit:  source <(hubctl completion zsh)`
	return s, func(p command.Process) int { return printCompletion(p, s, describe) }
}

// printCompletion prints the script for the shell that the operand names.
func printCompletion(p command.Process, s *settings.Settings, describe func() settings.Completion) int {
	scripts := map[string]func(io.Writer, settings.Completion){bash: settings.WriteBashCompletion, zsh: settings.WriteZshCompletion}
	if len(s.Operands) == 0 {
		return p.UsageError(s, fmt.Errorf("the shell is missing: choose %s", strings.Join(s.OperandChoices, " or ")))
	}
	shell := s.Operands[0]
	script := scripts[shell]
	if script == nil {
		return p.UsageError(s, fmt.Errorf("there is no script for %q: choose %s", shell, strings.Join(s.OperandChoices, " or ")))
	}
	var text strings.Builder
	script(&text, describe())
	return p.Print(s, text.String())
}
