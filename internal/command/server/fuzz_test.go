package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
)

// FuzzConfigFile reads any text as the config file of a hub. Either the hub rejects the file
// with one sentence, or the printed settings are the same when they are read again.
func FuzzConfigFile(f *testing.F) {
	f.Add("port = 1\naddr ::1\nstat false\n# a comment\n\nmax-memory=1.5GiB\nlog json\n")
	f.Add("port")
	f.Add("port x")
	f.Add("stall 1m30s # behind\nrate-bytes 1e3")
	f.Add("nothing 1")
	f.Add("port 1\nport 2\r\n\x00")
	f.Add("max-memory 1MiB")
	f.Add("auth-issuer = \" us \"")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "/") {
			return // could name a file of this machine that has no end
		}
		file := filepath.Join(t.TempDir(), "config")
		check := func(text string) programtest.Result {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return programtest.Run(Run, "-check", "-config="+file)
		}
		first := check(text)
		switch first.Code {
		case command.ExitUsage:
			if line := programtest.FirstLine(first.Stderr); !strings.HasPrefix(line, "start_server: ") || len(line) < 30 {
				t.Errorf("%q is refused: %q", text, line)
			}
		case command.ExitOK:
			again := check(first.Stdout)
			for line := range strings.Lines(first.Stdout) {
				if line = settingLine(line); again.Code != command.ExitOK || !strings.Contains("\n"+again.Stdout, "\n"+line) {
					t.Errorf("%q:\n%s\nand again:\n%s%s", text, first.Stdout, again.Stdout, again.Stderr)
				}
			}
		default:
			t.Errorf("%q: %+v", text, first)
		}
	})
}

// settingLine returns a line of a printed configuration without the source of the value. It
// returns "" for a line that cannot be read again.
func settingLine(line string) string {
	line, _, _ = strings.Cut(line, "  # ")
	if strings.HasPrefix(line, "#") {
		return ""
	}
	return strings.TrimSpace(line)
}
