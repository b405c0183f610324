package server

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// parseServerFlags reads valid settings of start_server.
func parseServerFlags(t *testing.T, args ...string) *config {
	t.Helper()
	var stdout, stderr programtest.Output
	c, p := newConfig(), command.Process{Args: args, Stdout: &stdout, Stderr: &stderr}
	if code, done := p.Parse(c.settings); done {
		t.Fatalf("exit code %d: %s%s", code, &stdout, &stderr)
	}
	return c
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
				path := programtest.WriteConfigFile(t, tt.file)
				tt.args = append(tt.args, "-config="+path)
				tt.want = strings.ReplaceAll(tt.want, "FILE", path)
			}
			programtest.CheckUsageError(t, programtest.Run(Run, tt.args...), "start_server: "+tt.want)
		})
	}
}

// TestSettings_InvalidFromEverySource gives each setting of start_server an invalid value by a
// flag, an environment variable and a line of the config file.
func TestSettings_InvalidFromEverySource(t *testing.T) {
	s := newConfig().settings
	for _, st := range s.List() {
		wrong := "x:1" // invalid for all types except text
		if st.Check(wrong) == nil || st.Is(settings.CommandLineOnly) {
			continue
		}
		t.Run(st.Name, func(t *testing.T) {
			shown := wrong
			if st.Is(settings.Secret) {
				shown = "(hidden)"
			}
			end := ": allowed are " + st.Allowed + "\n"
			programtest.CheckUsageError(t, programtest.Run(Run, "-"+st.Name+"="+wrong), "start_server: -"+st.Name+"="+shown+end)
			path := programtest.WriteConfigFile(t, st.Name+" "+wrong)
			programtest.CheckUsageError(t, programtest.Run(Run, "-config="+path), "start_server: "+path+":1: "+st.Name+" "+shown+end)
			variable := s.EnvVar(st.Name)
			t.Setenv(variable, wrong)
			programtest.CheckUsageError(t, programtest.Run(Run), "start_server: "+variable+"="+shown+end)
		})
	}
}

func TestConfigFile_Directory(t *testing.T) {
	folder := t.TempDir()
	programtest.CheckUsageError(t, programtest.Run(Run, "-config="+folder), "start_server: config file: read "+folder+": ")
}

func TestServer_Version(t *testing.T) {
	t.Setenv("HUB_VERSION", "3.1") // of another program
	got := programtest.Run(Run, "-version")
	if got.Code != command.ExitOK || !strings.HasPrefix(got.Stdout, "start_server ") || got.Stderr != "" {
		t.Errorf("got %+v", got)
	}
	if c := parseServerFlags(t); c.settings.ShowVersion {
		t.Error("a variable set -version")
	}
}

// TestPrintConfig_IsConfigFile reads the output of -print-config, unchanged and with every
// line uncommented. Both give the defaults.
func TestPrintConfig_IsConfigFile(t *testing.T) {
	got := programtest.Run(Run, "-print-config", "-port=1")
	if got.Code != command.ExitOK || got.Stderr != "" {
		t.Fatalf("exit code %d: %s", got.Code, got.Stderr)
	}
	commented := regexp.MustCompile(`(?m)^#([a-z])`)
	uncommented := commented.ReplaceAllString(got.Stdout, "$1")
	for text, origin := range map[string]string{got.Stdout: "default", uncommented: "FILE:"} {
		path := programtest.WriteConfigFile(t, text)
		s := parseServerFlags(t, "-config="+path).settings
		for _, st := range s.List() {
			if st.Is(settings.NotInFile) {
				continue
			}
			if actual := strings.ReplaceAll(st.Origin, path, "FILE"); st.Value() != st.Default || !strings.HasPrefix(actual, origin) {
				t.Errorf("%s is %s from %s, want the default from %s", st.Name, st.DisplayValue(), actual, origin)
			}
		}
	}
	for _, st := range newConfig().settings.List() {
		if !st.Is(settings.NotInFile) && !strings.Contains(got.Stdout, "\n# Allowed are "+st.Allowed+".\n") {
			t.Errorf("the allowed values of %s are missing", st.Name)
		}
	}
}

func TestCheck_PrintsSources(t *testing.T) {
	t.Setenv("HUB_STALL", "2s")
	path := programtest.WriteConfigFile(t, "# here\nmax-clients 7\nstall 3s\n")
	got := programtest.Run(Run, "-check", "-port=1234", "-config="+path)
	if got.Code != command.ExitOK || got.Stderr != "" {
		t.Fatalf("exit code %d: %s", got.Code, got.Stderr)
	}
	for line, origin := range map[string]string{
		"port = 1234":        "flag",
		"stall = 2s":         "environment variable HUB_STALL",
		"max-clients = 7":    path + ":2",
		"addr =":             "default",
		"# config = " + path: "flag",
	} {
		want := "(?m)^" + regexp.QuoteMeta(line) + " +# " + regexp.QuoteMeta(origin) + "$"
		if !regexp.MustCompile(want).MatchString(got.Stdout) {
			t.Errorf("no %s in\n%s", want, got.Stdout)
		}
	}
}

// TestCheck_PrintsConfigFile reads the output of -check again and compares the settings.
func TestCheck_PrintsConfigFile(t *testing.T) {
	args := []string{"-check", "-port=1", "-addr=::1", "-stat=false", "-max-memory=1.5GiB", "-stall=1m30s", "-log=json", "-log-level=debug"}
	got := programtest.Run(Run, args...)
	if got.Code != command.ExitOK {
		t.Fatalf("exit code %d: %s", got.Code, got.Stderr)
	}
	want, again := parseServerFlags(t, args...).settings, parseServerFlags(t, "-config="+programtest.WriteConfigFile(t, got.Stdout)).settings
	for i, st := range want.List() {
		if !st.Is(settings.NotInFile) && st.Value() != again.List()[i].Value() {
			t.Errorf("%s is %s, want %s", st.Name, again.List()[i].DisplayValue(), st.DisplayValue())
		}
	}
}

// TestCheck_CommentsUnrepresentableValues checks that values which a line of a config file
// cannot represent are printed as comments.
func TestCheck_CommentsUnrepresentableValues(t *testing.T) {
	keys := programtest.WriteConfigFile(t, base64.StdEncoding.EncodeToString(make([]byte, 32)))
	for value, want := range map[string]string{
		"a #b": "# auth-issuer = a #b ",
		"a\nb": `# auth-issuer = "a\nb" `,
		" a":   "# auth-issuer =  a ",
		"=a":   "auth-issuer = =a ",
		`"a"`:  `# auth-issuer = "a" `,
	} {
		if got := programtest.Run(Run, "-check", "-auth-keys="+keys, "-auth-issuer="+value).Stdout; !strings.Contains(got, "\n"+want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestConfigFile_RejectsQuotes uses quotes as in other config formats.
func TestConfigFile_RejectsQuotes(t *testing.T) {
	for line, want := range map[string]string{
		`addr = "0.0.0.0"`:          `addr "0.0.0.0": remove the quotes around the value`,
		`addr "localhost"`:          `addr "localhost": remove the quotes around the value`,
		`-admin='localhost:9990'`:   `admin 'localhost:9990': remove the quotes around the value`,
		`auth-issuer = "us" # them`: `auth-issuer "us": remove the quotes around the value`,
		`port = "1"`:                `port "1": remove the quotes around the value`,
	} {
		path := programtest.WriteConfigFile(t, "# one\n"+line+"\n")
		for _, args := range [][]string{{"-check"}, nil} {
			programtest.CheckUsageError(t, programtest.Run(Run, append(args, "-config="+path)...), "start_server: "+path+":2: "+want)
		}
	}
}

// TestCheck_RejectsInvalidHosts checks invalid and valid hosts of -addr and -admin.
func TestCheck_RejectsInvalidHosts(t *testing.T) {
	for _, host := range []string{`"0.0.0.0"`, "'::1'", "a b", "http://hub", "hub/", "[hub]", "[::1", "::1]", "hub,hub", "::x"} {
		programtest.CheckUsageError(t, programtest.Run(Run, "-check", "-addr="+host), "start_server: -addr="+host+": allowed are ")
		if !strings.ContainsAny(host, "[]") {
			programtest.CheckUsageError(t, programtest.Run(Run, "-check", "-admin="+host+":1"), "start_server: -admin="+host+":1: allowed are ")
		}
	}
	for _, host := range []string{"", "0.0.0.0", "::", "[::]", "fe80::1%eth0", "hub.example", "my_hub", "xn--hb-xka.example."} {
		if got := programtest.Run(Run, "-check", "-addr="+host); got.Code != command.ExitOK {
			t.Errorf("%s: %s", host, got.Stderr)
		}
	}
}

// TestCheck_RejectsOpenAdminAddress checks that -check rejects the same admin addresses as the
// start.
func TestCheck_RejectsOpenAdminAddress(t *testing.T) {
	for _, addr := range []string{":9990", "0.0.0.0:9990", "[::]:9990", "192.0.2.1:9990"} {
		programtest.CheckUsageError(t, programtest.Run(Run, "-check", "-admin="+addr), "start_server: -admin="+addr+": no token")
		if got := programtest.Run(Run, "-check", "-admin="+addr, "-admin-token-file="+writeTokenFile(t, adminToken)); got.Code != command.ExitOK {
			t.Errorf("%s with a token: %s", addr, got.Stderr)
		}
	}
	for _, addr := range []string{"127.0.0.1:9990", "[::1]:9990", "localhost:9990", "off"} {
		if got := programtest.Run(Run, "-check", "-admin="+addr); got.Code != command.ExitOK {
			t.Errorf("%s: %s", addr, got.Stderr)
		}
	}
}

func TestCheck_RejectsInvalidSettings(t *testing.T) {
	programtest.CheckUsageError(t, programtest.Run(Run, "-check", "-port=x"), "start_server: -port=x: allowed are")
	programtest.CheckUsageError(t, programtest.Run(Run, "-check", "-config=/no/such/file"), "start_server: config file: open /no/such/file: ")
	programtest.CheckUsageError(t, programtest.Run(Run, "-check", "-max-memory=1MiB"), "start_server: -max-memory=1MiB is too small for -max-body=1MiB: the minimum is ")
}

func TestCheck_Warns(t *testing.T) {
	t.Setenv("HUB_PORTS", "1")
	got := programtest.Run(Run, "-check", "-log=json")
	if got.Code != command.ExitOK || !strings.HasPrefix(got.Stderr, "start_server: HUB_PORTS is not a setting") || strings.Count(got.Stderr, "\n") != 1 {
		t.Errorf("exit code %d: %s", got.Code, got.Stderr)
	}
}

func TestCheck_OutputFails(t *testing.T) {
	for _, arg := range []string{"-check", "-print-config"} {
		var stderr programtest.Output
		code := Run(command.Process{Args: []string{arg}, Stdout: programtest.BrokenPipe{}, Stderr: &stderr})
		if code != command.ExitFailure || stderr.String() != "start_server: cannot print: broken pipe\n" {
			t.Errorf("%s: exit code %d: %s", arg, code, &stderr)
		}
	}
}

// TestSettings_CommandLineOnlyFlags checks that environment variables cannot set these flags,
// which would prevent the server from serving.
func TestSettings_CommandLineOnlyFlags(t *testing.T) {
	t.Setenv("HUB_CHECK", "true")
	t.Setenv("HUB_PRINT_CONFIG", "true")
	c := parseServerFlags(t)
	if c.settings.CheckOnly || c.settings.PrintConfig {
		t.Error("an environment variable was used")
	}
	var names []string
	for _, st := range c.settings.List() {
		if st.Is(settings.CommandLineOnly) {
			names = append(names, st.Name)
		}
	}
	if want := []string{"check", "print-config", "version"}; !slices.Equal(names, want) {
		t.Errorf("command-line-only flags are %q, want %q", names, want)
	}
}

// TestConfig_DocumentedDefaults checks the defaults that the specification of the system
// requires.
func TestConfig_DocumentedDefaults(t *testing.T) {
	if c := newConfig(); c.port != 9999 || c.addr != "" {
		t.Errorf("start_server has %+v", c)
	}
}

// TestConfig_Credit_KnowsCluster checks which credit the hub gets, which joins a cluster after its
// start.
func TestConfig_Credit_KnowsCluster(t *testing.T) {
	for _, test := range []struct {
		config config
		want   int
	}{
		{config{}, 0}, // the default of the hub
		{config{cluster: clusterFlags{urls: []string{"nats://localhost:4222"}}}, hub.DefaultClusterCredit},
		{config{credit: 5000, cluster: clusterFlags{urls: []string{"nats://localhost:4222"}}}, 5000},
	} {
		if got := test.config.hubConfig().Credit; got != test.want {
			t.Errorf("credit %d of %+v, want %d", got, test.config, test.want)
		}
	}
}

// TestSettings_WarnsOfUnusedVariables sets variables that are probably meant for start_server,
// and others that only have its prefix.
func TestSettings_WarnsOfUnusedVariables(t *testing.T) {
	tests := []struct {
		name, value string
		args        []string
		want        string // empty: no warning
	}{
		{name: "HUB_MAX_CLIENT", value: "1", want: "HUB_MAX_CLIENT is not a setting and has no effect, did you mean HUB_MAX_CLIENTS?"},
		{name: "HUB_MAXCLIENTS", value: "1", want: "HUB_MAXCLIENTS is not a setting and has no effect, did you mean HUB_MAX_CLIENTS?"},
		{name: "HUB_PROT", value: "1", want: "HUB_PROT is not a setting and has no effect, did you mean HUB_PORT?"},
		{name: "HUB_HOST", value: "1"}, // two of four letters differ: not a likely typo
		{name: "HUB_PORTS", value: "1", want: "HUB_PORTS is not a setting and has no effect, did you mean HUB_PORT?"},
		{name: "HUB_ADDRESS", value: "::1", want: "HUB_ADDRESS is not a setting and has no effect, did you mean HUB_ADDR?"},
		{name: "HUB_RESUME", value: "1s", want: "HUB_RESUME is not a setting and has no effect, did you mean HUB_RESUME_WINDOW?"},
		{name: "HUB_CHECK", value: "true", want: "HUB_CHECK has no effect: use the flag -check"},
		{name: "HUB_PORT", value: "tcp://10.0.0.1:9999", args: []string{"-port=1"},
			want: "HUB_PORT=tcp://10.0.0.1:9999 is invalid, but overridden by -port: allowed are whole numbers from 0 to 65535"},
		{name: "HUB_PORT", value: "1", args: []string{"-port=2"}},
		{name: "HUB_VERSION", value: "3.1"},
		{name: "HUB_MAX_CLIENT", value: ""},
		{name: "HUB_PORT_9999_TCP", value: "tcp://10.0.0.1:9999"}, // set by Kubernetes, like the next
		{name: "HUB_SERVICE_HOST", value: "10.0.0.1"},
		{name: "HUB_X", value: "1"},
		{name: "HUBCTL_PORTS", value: "1"},
		{name: "MY_HUB_PORTS", value: "1"},
	}
	for _, tt := range tests {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			t.Setenv(tt.name, tt.value)
			var want []string
			if tt.want != "" {
				want = []string{tt.want}
			}
			if got := parseServerFlags(t, tt.args...).settings.Warnings.All(); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
