package hubctl

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/tokens"
)

// TestHubctlToken_KeepsKeys checks that a second key pair does not overwrite the first.
func TestHubctlToken_KeepsKeys(t *testing.T) {
	key := programtest.MakeKeyFile(t, Run)
	before, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	got := programtest.Run(Run, "token", "-sign-key="+key)
	programtest.CheckResult(t, got, command.ExitFailure, "", "and was not overwritten; -sub makes a token with it")
	if after, err := os.ReadFile(key); err != nil || !slices.Equal(after, before) {
		t.Errorf("the key has changed: %v", err)
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others can read the private key: %v, %v", info.Mode(), err)
	}
}

func TestHubctlToken_Invalid(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "no-key")
	got := programtest.Run(Run, "token", "-sub=alice", "-sign-key="+missing)
	programtest.CheckResult(t, got, command.ExitFailure, "", "run without -sub to make a key pair")
	got = programtest.Run(Run, "token", "-sub=alice", "-send=5-", "-sign-key="+programtest.MakeKeyFile(t, Run))
	programtest.CheckResult(t, got, command.ExitFailure, "", "hubctl token: -send=5-: ")
}

func TestParseRanges(t *testing.T) {
	for text, want := range map[string][]tokens.Range{
		"all": nil, "none": {}, "": {}, "2": {{First: 2, Last: 2}}, "2, 5-10": {{First: 2, Last: 2}, {First: 5, Last: 10}},
	} {
		if got, err := parseRanges(text); err != nil || !slices.Equal(got, want) || (got == nil) != (want == nil) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	if got, err := parseRanges("2,x"); err == nil {
		t.Errorf("2,x is parsed as %v", got)
	}
}
