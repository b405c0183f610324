package hubctl

import (
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/wire"
)

func TestHubctl_InvalidCommandLines(t *testing.T) {
	many := strings.Repeat("1,", wire.MaxReceivers) + "1"
	tests := []struct {
		args []string
		want string
	}{
		{nil, ": a subcommand is missing"},
		{[]string{"lsit"}, `: "lsit" is not a subcommand: the subcommands are listen, send, list, nodes, watch, ping, token, completion and help`},
		{[]string{"help", "lsit"}, `: "lsit" is not a subcommand: `},
		{[]string{"-port=1", "list"}, ": -port=1: the subcommand comes first, then its flags"},
		{[]string{"list", "all"}, ` list: "all" is not a flag`},
		{[]string{"list", "-to=1"}, " list: flag provided but not defined: -to"},
		{[]string{"list", "-port=0"}, " list: -port=0: allowed are whole numbers from 1 to 65535"},
		{[]string{"listen", "-n=0"}, " listen: -n=0: allowed are whole numbers from 1, and all"},
		{[]string{"ping", "-interval=0s"}, " ping: -interval=0s: allowed are times from 1ms to 1h"},
		{[]string{"send", "hi"}, " send: -to is missing: name the receivers, such as -to=2,3"},
		{[]string{"send", "-to=2,x", "hi"}, ` send: -to=2,x: "x" is not an id: allowed are 1 to 255 ids, in decimal and separated by commas`},
		{[]string{"send", "-to=2,", "hi"}, ` send: -to=2,: "" is not an id: `},
		{[]string{"send", "-to=-1", "hi"}, ` send: -to=-1: "-1" is not an id: `},
		{[]string{"send", "-to=18446744073709551616"}, ` send: -to=18446744073709551616: "18446744073709551616" is not an id: `},
		{[]string{"send", "-to=" + many}, " send: -to=" + many + ": the number of entries is 256: allowed are 1 to 255 ids"},
		{[]string{"send", "-to=2", "hello", "world"}, ` send: "world" is an extra argument: put a text with spaces in quotes`},
		{[]string{"send", "hi", "-to=2"}, ` send: "-to=2" follows "hi": flags come first`},
		{[]string{"send", "-to=2", "-file=x", "hi"}, " send: a text and -file=x exclude each other: remove one"},
		{[]string{"send", "-to=2", "-level=best"}, " send: -level=best: allowed are written, received and processed"},
		{[]string{"send", "-to=2", "-overload=cry"}, " send: -overload=cry: allowed are wait, fail and drop"},
		{[]string{"send", "-to=2", "-ttl=-1s"}, " send: -ttl=-1s: allowed are times from 0s"},
		{[]string{"completion"}, " completion: the shell is missing: choose bash or zsh"},
		{[]string{"completion", "fish"}, ` completion: there is no script for "fish": choose bash or zsh`},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			programtest.CheckUsageError(t, programtest.Run(Run, tt.args...), "hubctl"+tt.want)
		})
	}
}

func TestHubctl_Help(t *testing.T) {
	for _, arg := range []string{"help", "-h", "-help", "--help"} {
		got := programtest.Run(Run, arg)
		for _, name := range subcommandNames() {
			if got.Code != command.ExitOK || !strings.Contains(got.Stdout, "  "+name+" ") {
				t.Errorf("%s: exit code %d, does not name %s", arg, got.Code, name)
			}
		}
	}
	for _, name := range subcommandNames() {
		got, viaHelp := programtest.Run(Run, name, "-h"), programtest.Run(Run, "help", name)
		if got != viaHelp || got.Code != command.ExitOK || !strings.Contains(got.Stdout, "Usage: hubctl "+name+" [flags]") {
			t.Errorf("%s: got %+v and %+v", name, got, viaHelp)
		}
	}
	if got := programtest.Run(Run, "send", "-h"); !strings.Contains(got.Stdout, "[flags] [text]") || !strings.Contains(got.Stdout, "4  no receiver got it") {
		t.Errorf("send -h prints\n%s", got.Stdout)
	}
	if got := programtest.Run(Run, "-version"); got.Code != command.ExitOK || !strings.HasPrefix(got.Stdout, "hubctl ") {
		t.Errorf("-version: got %+v", got)
	}
}

func TestHubctl_OutputFails(t *testing.T) {
	_, port := startServer(t)
	other := formatID(programtest.DialVersion(t, port, 1).ID())
	for _, args := range [][]string{
		programtest.HubctlArgs(port, "send", "-to="+other, "-level=written", "hi"), programtest.HubctlArgs(port, "list"), programtest.HubctlArgs(port, "watch"), programtest.HubctlArgs(port, "ping"), {"completion", "bash"},
	} {
		var stderr programtest.Output
		code := Run(command.Process{Args: args, Stdout: programtest.BrokenPipe{}, Stderr: &stderr})
		if code != command.ExitFailure || !strings.Contains(stderr.String(), "cannot print: broken pipe") {
			t.Errorf("%s: exit code %d, stderr %s", args[0], code, &stderr)
		}
	}
}
