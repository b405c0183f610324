package hubctl

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
)

// bodyCases are bodies of several kinds, with the text that hubctl listen prints.
var bodyCases = []struct{ body, line string }{
	{"hello", "hello"},
	{"from a pipe\n", "from a pipe"},
	{"", ""},
	{"größer 漢字", "größer 漢字"},
	{"two\nlines\n", `"two\nlines\n"`},
	{"\x1b[31mred", `"\x1b[31mred"`},
	{`"quoted"`, `"\"quoted\""`},
	{"(5 bytes)", `"(5 bytes)"`},
	{"\xff\xfe\x00", "(3 bytes)"},
}

// TestHubctl_SendToListen sends messages from hubctl send to hubctl listen.
func TestHubctl_SendToListen(t *testing.T) {
	_, port := startServer(t)
	people, first := programtest.StartListen(t, Run, port)
	program, second := programtest.StartListen(t, Run, port, "-json")
	for _, tt := range bodyCases {
		got := programtest.RunWithStdin(Run, tt.body, programtest.HubctlArgs(port, "send", "-to="+first+","+second, "-level=processed")...)
		programtest.CheckResult(t, got, command.ExitOK, first+"  processed\n"+second+"  processed\n", "")
	}
	lines := strings.Split(people.Interrupt().Stdout, "\n")
	ended := program.Interrupt()
	if ended.Code != command.ExitOK || people.Code != command.ExitOK {
		t.Errorf("exit codes %d and %d after an interrupt", people.Code, ended.Code)
	}
	objects := programtest.DecodeLines[map[string]string](t, ended.Stdout)
	if len(objects) != len(bodyCases) || len(lines) != len(bodyCases)+1 {
		t.Fatalf("printed\n%v\n%v", lines, objects)
	}
	for i, tt := range bodyCases {
		sender, line, _ := strings.Cut(lines[i], "  ")
		o := objects[i]
		if line != tt.line || sender != o["sender"] || o["seq"] != "1" || !strings.HasSuffix(o["time"], "Z") {
			t.Errorf("%q is printed as %q and %v", tt.body, lines[i], o)
		}
		body, isText := o["body"]
		if raw, err := base64.StdEncoding.DecodeString(o["body_base64"]); !isText && err == nil {
			body = string(raw)
		}
		if body != tt.body {
			t.Errorf("%q is printed as %v", tt.body, o)
		}
	}
}

func TestHubctlListen_EndsAfterN(t *testing.T) {
	_, port := startServer(t)
	l, id := programtest.StartListen(t, Run, port, "-n=2")
	for _, text := range []string{"a", "b"} {
		programtest.CheckResult(t, programtest.Run(Run, programtest.HubctlArgs(port, "send", "-to="+id, "-level=processed", text)...), command.ExitOK, id+"  processed\n", "")
	}
	<-l.Done
	if l.Code != command.ExitOK || strings.Count(l.Stdout.String(), "\n") != 2 {
		t.Errorf("exit code %d, stdout %q", l.Code, &l.Stdout)
	}
}

// TestHubctlListen_Reconnects stops the hub and starts another hub on the same port.
func TestHubctlListen_Reconnects(t *testing.T) {
	hub, port := startServer(t)
	l, _ := programtest.StartListen(t, Run, port)
	hub.Interrupt()
	l.WaitForLine(&l.Stderr, "disconnected")
	startServer(t, "-port="+port)
	l.WaitForLine(&l.Stderr, "new id")
	if got := l.Interrupt(); got.Code != command.ExitOK {
		t.Errorf("exit code %d", got.Code)
	}
}

// TestHubctlListen_BodyTooLarge sends the largest body of the hub to two listeners. The
// listener with a smaller -max-body does not receive the body, and both stay connected.
func TestHubctlListen_BodyTooLarge(t *testing.T) {
	_, port := startServer(t, "-max-body=2MiB")
	_, first := programtest.StartListen(t, Run, port)
	_, second := programtest.StartListen(t, Run, port, "-max-body=1MiB")
	file := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(file, bytes.Repeat([]byte{'x'}, 1_500_000), 0o600); err != nil {
		t.Fatal(err)
	}
	to := "-to=" + first + "," + second
	got := programtest.Run(Run, programtest.HubctlArgs(port, "send", to, "-max-body=2MiB", "-file="+file)...)
	programtest.CheckResult(t, got, ExitPartial, first+"  received\n"+second+"  too large\n", "1 of 2 receivers reached")
	got = programtest.Run(Run, programtest.HubctlArgs(port, "send", to, "small")...)
	programtest.CheckResult(t, got, command.ExitOK, first+"  received\n"+second+"  received\n", "")
}

// TestHubctlListen_EndsWhenOutputCloses closes standard output, as "| head -1" does, and
// checks that no session stays at the hub.
func TestHubctlListen_EndsWhenOutputCloses(t *testing.T) {
	_, port := startServer(t, "-resume-window=1h")
	reader, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr programtest.Output
	code := make(chan int, 1)
	go func() { // ends when the second message cannot be printed
		code <- Run(command.Process{Args: programtest.HubctlArgs(port, "listen"), Stdout: stdout, Stderr: &stderr})
	}()
	l := programtest.NewRunning(t)
	_, id, _ := strings.Cut(l.WaitForLine(&stderr, "connected"), " id=")
	id, _, _ = strings.Cut(id, " ")
	for _, text := range []string{"first", "second"} {
		if got := programtest.Run(Run, programtest.HubctlArgs(port, "send", "-to="+id, "-level=received", text)...); got.Code != command.ExitOK && text == "first" {
			t.Fatalf("%+v", got)
		}
		if text == "first" {
			if _, err := reader.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			reader.Close()
		}
	}
	if c := <-code; c != command.ExitFailure || !strings.Contains(stderr.String(), "broken pipe") {
		t.Errorf("exit code %d, stderr %s", c, &stderr)
	}
	if got := programtest.Run(Run, programtest.HubctlArgs(port, "list")...); got.Stdout != "" {
		t.Errorf("still listed: %s", got.Stdout)
	}
}
