package hubctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
)

// TestEventLog_LogsReconnectFailure restarts the hub while clients lack the credentials to
// reconnect, and restores the credentials later.
func TestEventLog_LogsReconnectFailure(t *testing.T) {
	t.Run("token file gone", func(t *testing.T) {
		t.Parallel()
		key := programtest.MakeKeyFile(t, Run)
		file := programtest.MakeTokenFile(t, Run, key, "-sub=alice")
		token, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		hub, port := startServer(t, "-auth-keys="+key+".pub")
		l := programtest.Start(t, Run, programtest.HubctlArgs(port, "listen", "-token-file="+file)...)
		l.WaitForLine(&l.Stderr, "connected")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		hub.Interrupt()
		startServer(t, "-auth-keys="+key+".pub", "-port="+port)
		line := l.WaitForLine(&l.Stderr, "get token")
		if !strings.Contains(line, "level=WARN") || !strings.Contains(line, "cannot reconnect, trying again") || !strings.Contains(line, file) {
			t.Errorf("%q, want a warning that names the file", line)
		}
		programtest.WriteFile(t, file, token)
		l.WaitForLine(&l.Stderr, "new id")
	})
	t.Run("certificate for another name", func(t *testing.T) {
		t.Parallel()
		authority := testcerts.NewAuthority(t)
		cert, key := authority.IssueLocal().WriteFiles(t)
		hub, port := startServer(t, "-tls-cert="+cert, "-tls-key="+key)
		w := programtest.Start(t, Run, "watch", "-addr=hubs://localhost:"+port, "-ca="+authority.WriteFile())
		w.WaitForLine(&w.Stderr, "connected")
		hub.Interrupt()
		cert, key = authority.Issue(time.Now().Add(time.Hour), "elsewhere.example").WriteFiles(t)
		startServer(t, "-port="+port, "-tls-cert="+cert, "-tls-key="+key)
		w.WaitForLine(&w.Stderr, "its certificate is for elsewhere.example, not for localhost")
	})
}

// TestEventLog_LimitsRepeatedErrors makes attempts fail each second for an hour, and changes
// the error once.
func TestEventLog_LimitsRepeatedErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stderr programtest.Output
		c := newHubCommand("listen", "")
		c.addCommonFlags(connectTimeout, "")
		l := newEventLog(c, command.Process{Stderr: &stderr})
		fail := func(attempt int, err error) (line bool) {
			before := stderr.String()
			l.handleEvent(client.Event{Kind: client.EventReconnectFailed, Attempt: attempt, Err: err})
			return stderr.String() != before
		}
		lines := 0
		for n := range 3600 {
			err := error(&fs.PathError{Op: "open", Path: "token", Err: fs.ErrNotExist})
			if n >= 1800 {
				err = fmt.Errorf("%w at once", client.ErrHubClosed)
			}
			line := fail(n+1, err)
			if line {
				lines++
			}
			if (n == 0 || n == 1800) && !line {
				t.Errorf("attempt %d: a new error is not logged at once", n+1)
			}
			time.Sleep(time.Second)
		}
		if lines < 6 || lines > 30 {
			t.Errorf("%d lines in an hour:\n%s", lines, &stderr)
		}
		if !strings.Contains(stderr.String(), "not_logged_before=") {
			t.Errorf("the number of skipped lines is missing:\n%s", &stderr)
		}
		l.handleEvent(client.Event{Kind: client.EventResumed})
		if !fail(1, fmt.Errorf("%w at once", client.ErrHubClosed)) {
			t.Error("the first failure after a connection is not logged")
		}
	})
}

// TestHubctl_LogLevel checks that -log-level hides lower levels, and that failed attempts are
// shown by default.
func TestHubctl_LogLevel(t *testing.T) {
	for level, want := range map[string]bool{"": true, "debug": true, "info": true, "warn": true, "error": false} {
		var stderr programtest.Output
		c := newHubCommand("listen", "")
		c.addCommonFlags(connectTimeout, "")
		args := []string{"-log-level=" + level}
		if level == "" {
			args = nil
		}
		p := command.Process{Args: args, Stderr: &stderr}
		if code, done := p.Parse(c.settings); done {
			t.Fatalf("%v: exit code %d: %s", args, code, &stderr)
		}
		l := newEventLog(c, p)
		l.handleEvent(client.Event{Kind: client.EventReconnectFailed, Attempt: 1, Err: errors.New("no token")})
		if got := strings.Contains(stderr.String(), "no token"); got != want {
			t.Errorf("%v: failed attempt shown: %t, want %t", args, got, want)
		}
	}
}
