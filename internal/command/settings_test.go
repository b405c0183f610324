package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeConfigFile writes a config file and returns its path.
func writeConfigFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hub.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// parseServerFlags reads valid settings of start_server.
func parseServerFlags(t *testing.T, args ...string) *server {
	t.Helper()
	var stdout, stderr outputBuffer
	c := newServer()
	if code, done := c.settings.parse(Process{Args: args, Stdout: &stdout, Stderr: &stderr}); done {
		t.Fatalf("exit code %d: %s%s", code, &stdout, &stderr)
	}
	return c
}

func TestSettings_Precedence(t *testing.T) {
	tests := []struct {
		name            string
		flag, env, file string
		want            time.Duration
	}{
		{name: "default", want: 10 * time.Second},
		{name: "file", file: "3s", want: 3 * time.Second},
		{name: "environment", env: "2s", want: 2 * time.Second},
		{name: "flag", flag: "1s", want: time.Second},
		{name: "environment over file", env: "2s", file: "3s", want: 2 * time.Second},
		{name: "flag over file", flag: "1s", file: "3s", want: time.Second},
		{name: "flag over environment", flag: "1s", env: "2s", want: time.Second},
		{name: "flag over all", flag: "1s", env: "2s", file: "3s", want: time.Second},
		{name: "flag that repeats the default over all", flag: "10s", env: "2s", file: "3s", want: 10 * time.Second},
		{name: "flag over a wrong environment", flag: "1s", env: "soon", want: time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var args []string
			if tt.flag != "" {
				args = append(args, "-stall="+tt.flag)
			}
			if tt.env != "" {
				t.Setenv("HUB_STALL", tt.env)
			}
			if tt.file != "" {
				args = append(args, "-config", writeConfigFile(t, "stall "+tt.file))
			}
			if got := parseServerFlags(t, args...).stallTimeout; got != tt.want {
				t.Errorf("stall is %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSettings_ConfigFileFromEnvironment(t *testing.T) {
	t.Setenv("HUB_CONFIG", writeConfigFile(t, "port=1234"))
	if got := parseServerFlags(t).port; got != 1234 {
		t.Errorf("port %d, want 1234", got)
	}
}

func TestSettings_FlagSyntax(t *testing.T) {
	for _, args := range [][]string{{"-port=1234"}, {"-port", "1234"}, {"--port=1234"}, {"--port", "1234"}} {
		if got := parseServerFlags(t, args...).port; got != 1234 {
			t.Errorf("%q: port %d, want 1234", args, got)
		}
	}
	for arg, want := range map[string]bool{"-stat": true, "-stat=true": true, "-stat=false": false, "-stat=0": false} {
		if got := parseServerFlags(t, arg).stat; got != want {
			t.Errorf("%s: %t, want %t", arg, got, want)
		}
	}
}

func TestConfigFile_LineSyntax(t *testing.T) {
	const file = `
# where to listen
port 1234            # a comment behind a value
-addr=127.0.0.1
max-memory = 64MiB
	stall	250ms
stat
`
	t.Setenv("HUB_STAT", "") // an empty variable counts as not set
	c := parseServerFlags(t, "-config", writeConfigFile(t, file))
	if c.port != 1234 || c.addr != "127.0.0.1" || c.maxMemory != 64<<20 || c.stallTimeout != 250*time.Millisecond || !c.stat {
		t.Errorf("got %+v", c)
	}
}

func TestSize_Units(t *testing.T) {
	for text, want := range map[string]int64{
		"1048576": 1 << 20, "64MiB": 64 << 20, "64 MiB": 64 << 20, "64mib": 64 << 20, "1GiB": 1 << 30, "1.5GiB": 3 << 29, "10MB": 10_000_000,
	} {
		if got := parseServerFlags(t, "-max-memory="+text).maxMemory; got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

func TestHostName_Parse(t *testing.T) {
	for text, want := range map[string]string{"": "", "hub.example": "hub.example", "::1": "::1", "[::1]": "::1", "10.0.0.1": "10.0.0.1"} {
		if got := parseServerFlags(t, "-addr="+text).addr; got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// TestSettings_Invalid checks the error of invalid settings: the source, the value, and the
// allowed values.
func TestSettings_Invalid(t *testing.T) {
	tests := []struct {
		name string
		args []string
		env  string // value of HUB_PORT
		file string
		want string // beginning of the first line; FILE stands for the config file
	}{
		{name: "flag", args: []string{"-port=x"}, want: "-port=x: allowed are whole numbers from 0 to 65535"},
		{name: "flag out of range", args: []string{"-port", "65536"}, want: "-port=65536: allowed are whole numbers from 0 to 65535"},
		{name: "negative", args: []string{"-max-clients=-1"}, want: "-max-clients=-1: allowed are whole numbers from 1 to 1073741824"},
		{name: "size", args: []string{"-max-body=big"}, want: "-max-body=big: allowed are sizes from 1 to 1GiB, in bytes or with a unit (65536, 64KiB, 256MiB, 1GiB)"},
		{name: "size too large for a number", args: []string{"-max-memory=9EiB"}, want: "-max-memory=9EiB: allowed are sizes from 1MiB to 1PiB, in bytes or with a unit (65536, 64KiB, 256MiB, 1GiB)"},
		{name: "time without a unit", args: []string{"-stall=10"}, want: "-stall=10: allowed are times from 1ms to 24h, with a unit (500ms, 10s, 1m30s)"},
		{name: "no zero that means something else", args: []string{"-stall=0s"}, want: "-stall=0s: allowed are times from 1ms to 24h, with a unit (500ms, 10s, 1m30s)"},
		{name: "bool", args: []string{"-stat=maybe"}, want: "-stat=maybe: allowed are true and false"},
		{name: "bool without a sign", args: []string{"-stat", "false"}, want: `"false" after -stat: boolean values need an equals sign, -stat=false`},
		{name: "word", args: []string{"-log=xml"}, want: "-log=xml: allowed are text and json"},
		{name: "host with a port", args: []string{"-addr=localhost:9999"}, want: "-addr=localhost:9999: allowed are names and addresses without a port; set the port with -port"},
		{name: "unknown flag", args: []string{"-prot=1"}, want: "flag provided but not defined: -prot, did you mean -port?\n"},
		{name: "unknown flag like none", args: []string{"-colour=blue"}, want: "flag provided but not defined: -colour\n"},
		{name: "no value", args: []string{"-port"}, want: "flag needs an argument: -port: allowed are whole numbers from 0 to 65535\n"},
		{name: "no flag", args: []string{"-port=1", "start"}, want: `"start" is not a flag: write flags as -name=value`},
		{name: "environment", env: "tcp://10.0.0.1:9999", want: "HUB_PORT=tcp://10.0.0.1:9999: allowed are whole numbers from 0 to 65535"},
		{name: "a value of two lines", env: "1\n2", want: `HUB_PORT="1\n2": allowed are whole numbers from 0 to 65535`},
		{name: "file", file: "# x\nport 99999\n", want: "FILE:2: port 99999: allowed are whole numbers from 0 to 65535"},
		{name: "unknown in the file", file: "prot 1\n", want: `FILE:1: "prot" is not a valid setting of a config file, did you mean port?`},
		{name: "like nothing", file: "colour blue\n", want: `FILE:1: "colour" is not a valid setting of a config file` + "\n"},
		{name: "command-line-only setting in the file", file: "check\n", want: `FILE:1: "check" is not a valid setting of a config file` + "\n"},
		{name: "repeated in the file", file: "port 1\n\nport=1\n", want: "FILE:3: port is already set in line 1\n"},
		{name: "line that a flag overrides", args: []string{"-port=1"}, file: "port x\n", want: "FILE:1: port x: allowed are whole numbers from 0 to 65535\n"},
		{name: "line that a variable overrides", env: "1", file: "port x\n", want: "FILE:1: port x: allowed are whole numbers from 0 to 65535\n"},
		{name: "empty flag", args: []string{"-port="}, want: `-port="": allowed are whole numbers from 0 to 65535`},
		{name: "empty line", file: "port =\n", want: `FILE:1: port "": allowed are whole numbers from 0 to 65535`},
		{name: "file that names a file", file: "config x\n", want: `FILE:1: "config" is not a valid setting of a config file`},
		{name: "no value in the file", file: "port\n", want: "FILE:1: port has no value: allowed are whole numbers from 0 to 65535\n"},
		{name: "endless line", file: "\nport " + strings.Repeat("1", 1<<17), want: "FILE:2: longer than 65536 bytes, is this a config file?"},
		{name: "no file", args: []string{"-config=/no/such/file"}, want: "config file: open /no/such/file: no such file or directory"},
		{
			name: "report timeouts that do not fit together", args: []string{"-report-timeout=2h"},
			want: "-max-report-timeout=1h is below -report-timeout=2h\n",
		},
		{
			name: "settings that do not fit together", args: []string{"-max-memory=1MiB"},
			want: "-max-memory=1MiB is too small for -max-body=1MiB: the minimum is ",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.env != "" {
				t.Setenv("HUB_PORT", tt.env)
			}
			if tt.file != "" {
				path := writeConfigFile(t, tt.file)
				tt.args = append(tt.args, "-config="+path)
				tt.want = strings.ReplaceAll(tt.want, "FILE", path)
			}
			checkUsageError(t, runProgram(Server, tt.args...), "start_server: "+tt.want)
		})
	}
}

// checkUsageError checks that a program has printed the given error and the hint to the usage,
// and has done nothing else.
func checkUsageError(t *testing.T, got programResult, want string) {
	t.Helper()
	if got.code != ExitUsage || got.stdout != "" {
		t.Errorf("exit code %d, want %d; stdout %q", got.code, ExitUsage, got.stdout)
	}
	if !strings.HasPrefix(got.stderr, want) {
		t.Errorf("stderr begins\n%s, want\n%s", firstLine(got.stderr), want)
	}
	if !strings.Contains(got.stderr, ` -h" lists`) {
		t.Errorf("the hint to the usage is missing: %s", got.stderr)
	}
}

// TestSettings_InvalidFromEverySource gives each setting of start_server an invalid value by a
// flag, an environment variable and a line of the config file.
func TestSettings_InvalidFromEverySource(t *testing.T) {
	for _, st := range newServer().settings.list {
		wrong := "x:1" // invalid for all types except text
		if st.check(wrong) == nil || st.is(commandLineOnly) {
			continue
		}
		t.Run(st.name, func(t *testing.T) {
			end := ": allowed are " + st.allowed + "\n"
			checkUsageError(t, runProgram(Server, "-"+st.name+"="+wrong), "start_server: -"+st.name+"="+wrong+end)
			path := writeConfigFile(t, st.name+" "+wrong)
			checkUsageError(t, runProgram(Server, "-config="+path), "start_server: "+path+":1: "+st.name+" "+wrong+end)
			variable := st.owner.envVar(st.name)
			t.Setenv(variable, wrong)
			checkUsageError(t, runProgram(Server), "start_server: "+variable+"="+wrong+end)
		})
	}
}

func TestConfigFile_Directory(t *testing.T) {
	folder := t.TempDir()
	checkUsageError(t, runProgram(Server, "-config="+folder), "start_server: config file: read "+folder+": ")
}

func TestPrograms_Help(t *testing.T) {
	programs := map[string]func(Process) int{"start_server": Server, "start_simulation": Simulation}
	for name, program := range programs {
		for _, arg := range []string{"-h", "-help", "--help"} {
			got := runProgram(program, arg)
			if got.code != ExitOK || got.stderr != "" {
				t.Errorf("%s %s: exit code %d, stderr %q", name, arg, got.code, got.stderr)
			}
			for _, want := range []string{"Usage: " + name, "-port=9999", "-stat=true", "(text or json)", "_"} {
				if !strings.Contains(got.stdout, want) {
					t.Errorf("%s %s does not contain %q", name, arg, want)
				}
			}
		}
	}
}

func TestServer_Version(t *testing.T) {
	t.Setenv("HUB_VERSION", "3.1") // of another program
	got := runProgram(Server, "-version")
	if got.code != ExitOK || !strings.HasPrefix(got.stdout, "start_server ") || got.stderr != "" {
		t.Errorf("got %+v", got)
	}
	if c := parseServerFlags(t); c.settings.showVersion {
		t.Error("a variable set -version")
	}
}

// TestSettings_DocumentedDefaults checks the defaults that the specification of the system
// requires.
func TestSettings_DocumentedDefaults(t *testing.T) {
	c := newSimulator()
	if c.remote.addr != "localhost" || c.remote.port != 9999 || c.size != 10240 || c.clients != 100 || c.messages != 100 || c.interval != 1 || !c.stat {
		t.Errorf("start_simulation has %+v", c)
	}
	if s := newServer(); s.port != 9999 || s.addr != "" {
		t.Errorf("start_server has %+v", s)
	}
}
