package programtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
)

// WriteFile writes a file.
func WriteFile(t *testing.T, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// WriteConfigFile writes a config file and returns its path.
func WriteConfigFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hub.conf")
	WriteFile(t, path, []byte(text))
	return path
}

// MakeKeyFile makes a key pair with hubctl and returns the file of the private key.
func MakeKeyFile(t *testing.T, hubctl func(command.Process) int) (key string) {
	t.Helper()
	key = filepath.Join(t.TempDir(), "key.pem")
	if got := Run(hubctl, "token", "-sign-key="+key); got.Code != command.ExitOK || !strings.Contains(got.Stdout, "-auth-keys="+key+".pub") {
		t.Fatalf("no keys: %+v", got)
	}
	return key
}

// MakeTokenFile makes a token with hubctl and returns its file.
func MakeTokenFile(t *testing.T, hubctl func(command.Process) int, key string, args ...string) string {
	t.Helper()
	got := Run(hubctl, append([]string{"token", "-sign-key=" + key}, args...)...)
	if got.Code != command.ExitOK {
		t.Fatalf("no token: %+v", got)
	}
	file := filepath.Join(t.TempDir(), "token")
	WriteFile(t, file, []byte(got.Stdout))
	return file
}
