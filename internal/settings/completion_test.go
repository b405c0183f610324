package settings_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/hubctl"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
)

// writeCompletionScript writes a completion script to a file and returns the path of its
// shell.
func writeCompletionScript(t *testing.T, shell string) (program, file string) {
	t.Helper()
	program, err := exec.LookPath(shell)
	if err != nil {
		t.Skipf("%s is not installed", shell)
	}
	got := programtest.Run(hubctl.Run, "completion", shell)
	if got.Code != command.ExitOK || got.Stderr != "" {
		t.Fatalf("exit code %d: %s", got.Code, got.Stderr)
	}
	file = filepath.Join(t.TempDir(), "_hubctl")
	if err := os.WriteFile(file, []byte(got.Stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	return program, file
}

func TestCompletion_ScriptsParse(t *testing.T) {
	for _, shell := range []string{"bash", "zsh"} {
		t.Run(shell, func(t *testing.T) {
			program, file := writeCompletionScript(t, shell)
			if messages, err := exec.CommandContext(t.Context(), program, "-n", file).CombinedOutput(); err != nil || len(messages) > 0 {
				t.Errorf("%v: %s", err, messages)
			}
		})
	}
}

// TestCompletion_ListsEveryFlag checks that the scripts contain every flag and every value.
func TestCompletion_ListsEveryFlag(t *testing.T) {
	for _, shell := range []string{"bash", "zsh"} {
		script := programtest.Run(hubctl.Run, "completion", shell).Stdout
		for _, cmd := range hubctl.Completion().Entries {
			for _, f := range cmd.Flags {
				if !strings.Contains(script, "-"+f.Name) || !strings.Contains(script, cmd.Name) {
					t.Errorf("%s does not complete %s -%s", shell, cmd.Name, f.Name)
				}
				for _, word := range f.Choices {
					if !f.Bare && !strings.Contains(script, word) {
						t.Errorf("%s does not complete %s -%s=%s", shell, cmd.Name, f.Name, word)
					}
				}
			}
		}
	}
}

// TestCompletion_Bash checks the completions of the last word in bash.
func TestCompletion_Bash(t *testing.T) {
	program, file := writeCompletionScript(t, "bash")
	const ask = `source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _hubctl; printf '%s|' "${COMPREPLY[@]}"`
	tests := []struct{ words, want string }{
		{"hubctl l", "listen |list |"},
		{"hubctl send -l", "-level=|-log=|-log-level=|"},
		{"hubctl send -level =", "written |received |processed |"},
		{"hubctl send -level = r", "received |"},
		{"hubctl send --level r", "received |"},
		{"hubctl send -json = f", "false |"},
		{"hubctl send -json -t", "-token=|-token-file=|-to=|-ttl=|-timeout=|"},
		{"hubctl list -n", "|"},
		{"hubctl completion b", "bash |"},
		{"hubctl help p", "ping |"},
	}
	for _, tt := range tests {
		args := append([]string{"--norc", "-c", ask, "bash", file}, strings.Fields(tt.words)...)
		got, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.words, got, err, tt.want)
		}
	}
}
