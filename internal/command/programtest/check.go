package programtest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
)

// CheckUsageError checks that a program has printed the given error and the hint to the usage,
// and has done nothing else.
func CheckUsageError(t *testing.T, got Result, want string) {
	t.Helper()
	if got.Code != command.ExitUsage || got.Stdout != "" {
		t.Errorf("exit code %d, want %d; stdout %q", got.Code, command.ExitUsage, got.Stdout)
	}
	if !strings.HasPrefix(got.Stderr, want) {
		t.Errorf("stderr begins\n%s, want\n%s", FirstLine(got.Stderr), want)
	}
	if !strings.Contains(got.Stderr, ` -h" lists`) {
		t.Errorf("the hint to the usage is missing: %s", got.Stderr)
	}
}

// CheckResult compares the exit code and standard output with the expected values, and looks
// for a text on standard error.
func CheckResult(t *testing.T, got Result, code int, stdout, stderr string) {
	t.Helper()
	if got.Code != code || got.Stdout != stdout {
		t.Errorf("exit code %d, want %d; stdout %q, want %q; stderr %s", got.Code, code, got.Stdout, stdout, got.Stderr)
	}
	if !strings.Contains(got.Stderr, stderr) || stderr == "" && got.Stderr != "" {
		t.Errorf("stderr %q, want %q", got.Stderr, stderr)
	}
}

// DecodeLines returns the JSON objects of text, one per line.
func DecodeLines[T any](t *testing.T, text string) (objects []T) {
	t.Helper()
	for line := range strings.Lines(text) {
		var object T
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		objects = append(objects, object)
	}
	return objects
}
