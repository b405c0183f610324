package command

import (
	"encoding/base64"
	"flag"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// testFlags are settings with secrets, for tests.
type testFlags struct {
	settings *settings
	pin      int
	token    string
}

func newTestFlags() *testFlags {
	m := &testFlags{settings: newSettings("made_up", "MADE_UP", "made_up does nothing.")}
	addSetting(m.settings, &m.pin, "pin", 0, intRange(0, 9999), "number that opens", secret|reloadable)
	addSetting(m.settings, &m.token, "token", "", anyText(), "word that opens", secret)
	m.settings.addShowFlags()
	m.settings.addCommonFlags()
	return m
}

// TestSettings_SecretsHidden looks for a secret in all output about settings.
func TestSettings_SecretsHidden(t *testing.T) {
	const good, wrong = "1234", "56789"
	t.Setenv("MADE_UP_TOKEN", good)
	m := newTestFlags()
	if err := m.settings.read([]string{"-pin=" + good}); err != nil {
		t.Fatal(err)
	}
	effective := m.settings.effectiveConfig()
	for _, want := range []string{`(?m)^# pin = \(set\) +# flag$`, `(?m)^# token = \(set\) +# environment variable MADE_UP_TOKEN$`} {
		if !regexp.MustCompile(want).MatchString(effective) {
			t.Errorf("no %s in\n%s", want, effective)
		}
	}
	if got := newTestFlags().settings.effectiveConfig(); !strings.Contains(got, "# token = (not set)") {
		t.Errorf("no secret that is not set:\n%s", got)
	}
	var log outputBuffer
	st, other := m.settings.lookup("pin"), newTestFlags().settings.lookup("pin")
	st.logChange(newLogger(&log, logText, slog.LevelInfo).Warn, "changed", other)
	texts := []string{effective, m.settings.configTemplate(), log.String()}

	texts = append(texts, settingsError(t, "-pin="+wrong))
	texts = append(texts, settingsError(t, "-config="+writeConfigFile(t, "pin "+wrong)))
	t.Setenv("MADE_UP_PIN", wrong)
	texts = append(texts, settingsError(t))
	m = newTestFlags()
	if err := m.settings.read([]string{"-pin=1"}); err != nil || len(m.settings.warnings) != 1 {
		t.Errorf("%v, %q", err, m.settings.warnings)
	}
	texts = append(texts, m.settings.warnings...)
	for _, text := range texts {
		if strings.Contains(text, good) || strings.Contains(text, wrong) {
			t.Errorf("shows a secret:\n%s", text)
		}
	}
}

// settingsError returns the error of invalid settings.
func settingsError(t *testing.T, args ...string) string {
	t.Helper()
	err := newTestFlags().settings.read(args)
	if err == nil || !strings.Contains(err.Error(), "(hidden): allowed are") {
		t.Fatalf("%q: got %v", args, err)
	}
	return err.Error()
}

// TestPrintConfig_IsConfigFile reads the output of -print-config, unchanged and with every
// line uncommented. Both give the defaults.
func TestPrintConfig_IsConfigFile(t *testing.T) {
	got := runProgram(Server, "-print-config", "-port=1")
	if got.code != ExitOK || got.stderr != "" {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	commented := regexp.MustCompile(`(?m)^#([a-z])`)
	uncommented := commented.ReplaceAllString(got.stdout, "$1")
	for text, origin := range map[string]string{got.stdout: "default", uncommented: "FILE:"} {
		path := writeConfigFile(t, text)
		s := parseServerFlags(t, "-config="+path).settings
		for _, st := range s.list {
			if st.is(notInFile) {
				continue
			}
			if actual := strings.ReplaceAll(st.origin, path, "FILE"); st.get() != st.defaultValue || !strings.HasPrefix(actual, origin) {
				t.Errorf("%s is %s from %s, want the default from %s", st.name, st.displayValue(), actual, origin)
			}
		}
	}
	for _, st := range newServer().settings.list {
		if !st.is(notInFile) && !strings.Contains(got.stdout, "\n# Allowed are "+st.allowed+".\n") {
			t.Errorf("the allowed values of %s are missing", st.name)
		}
	}
}

func TestCheck_PrintsSources(t *testing.T) {
	t.Setenv("HUB_STALL", "2s")
	path := writeConfigFile(t, "# here\nmax-clients 7\nstall 3s\n")
	got := runProgram(Server, "-check", "-port=1234", "-config="+path)
	if got.code != ExitOK || got.stderr != "" {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	for line, origin := range map[string]string{
		"port = 1234":        "flag",
		"stall = 2s":         "environment variable HUB_STALL",
		"max-clients = 7":    path + ":2",
		"addr =":             "default",
		"# config = " + path: "flag",
	} {
		want := "(?m)^" + regexp.QuoteMeta(line) + " +# " + regexp.QuoteMeta(origin) + "$"
		if !regexp.MustCompile(want).MatchString(got.stdout) {
			t.Errorf("no %s in\n%s", want, got.stdout)
		}
	}
}

// TestCheck_PrintsConfigFile reads the output of -check again and compares the settings.
func TestCheck_PrintsConfigFile(t *testing.T) {
	args := []string{"-check", "-port=1", "-addr=::1", "-stat=false", "-max-memory=1.5GiB", "-stall=1m30s", "-log=json", "-log-level=debug"}
	got := runProgram(Server, args...)
	if got.code != ExitOK {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	want, again := parseServerFlags(t, args...).settings, parseServerFlags(t, "-config="+writeConfigFile(t, got.stdout)).settings
	for i, st := range want.list {
		if !st.is(notInFile) && st.get() != again.list[i].get() {
			t.Errorf("%s is %s, want %s", st.name, again.list[i].displayValue(), st.displayValue())
		}
	}
}

// TestCheck_CommentsUnrepresentableValues checks that values which a line of a config file
// cannot represent are printed as comments.
func TestCheck_CommentsUnrepresentableValues(t *testing.T) {
	keys := writeConfigFile(t, base64.StdEncoding.EncodeToString(make([]byte, 32)))
	for value, want := range map[string]string{
		"a #b": "# auth-issuer = a #b ",
		"a\nb": `# auth-issuer = "a\nb" `,
		" a":   "# auth-issuer =  a ",
		"=a":   "auth-issuer = =a ",
		`"a"`:  `# auth-issuer = "a" `,
	} {
		if got := runProgram(Server, "-check", "-auth-keys="+keys, "-auth-issuer="+value).stdout; !strings.Contains(got, "\n"+want) {
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
		path := writeConfigFile(t, "# one\n"+line+"\n")
		for _, args := range [][]string{{"-check"}, nil} {
			checkUsageError(t, runProgram(Server, append(args, "-config="+path)...), "start_server: "+path+":2: "+want)
		}
	}
}

// TestCheck_RejectsInvalidHosts checks invalid and valid hosts of -addr and -admin.
func TestCheck_RejectsInvalidHosts(t *testing.T) {
	for _, host := range []string{`"0.0.0.0"`, "'::1'", "a b", "http://hub", "hub/", "[hub]", "[::1", "::1]", "hub,hub", "::x"} {
		checkUsageError(t, runProgram(Server, "-check", "-addr="+host), "start_server: -addr="+host+": allowed are ")
		if !strings.ContainsAny(host, "[]") {
			checkUsageError(t, runProgram(Server, "-check", "-admin="+host+":1"), "start_server: -admin="+host+":1: allowed are ")
		}
	}
	for _, host := range []string{"", "0.0.0.0", "::", "[::]", "fe80::1%eth0", "hub.example", "my_hub", "xn--hb-xka.example."} {
		if got := runProgram(Server, "-check", "-addr="+host); got.code != ExitOK {
			t.Errorf("%s: %s", host, got.stderr)
		}
	}
}

// TestCheck_RejectsOpenAdminAddress checks that -check rejects the same admin addresses as the
// start.
func TestCheck_RejectsOpenAdminAddress(t *testing.T) {
	for _, addr := range []string{":9990", "0.0.0.0:9990", "[::]:9990", "192.0.2.1:9990"} {
		checkUsageError(t, runProgram(Server, "-check", "-admin="+addr), "start_server: -admin="+addr+": no token")
		if got := runProgram(Server, "-check", "-admin="+addr, "-admin-token-file="+writeTokenFile(t, adminToken)); got.code != ExitOK {
			t.Errorf("%s with a token: %s", addr, got.stderr)
		}
	}
	for _, addr := range []string{"127.0.0.1:9990", "[::1]:9990", "localhost:9990", "off"} {
		if got := runProgram(Server, "-check", "-admin="+addr); got.code != ExitOK {
			t.Errorf("%s: %s", addr, got.stderr)
		}
	}
}

func TestCheck_RejectsInvalidSettings(t *testing.T) {
	checkUsageError(t, runProgram(Server, "-check", "-port=x"), "start_server: -port=x: allowed are")
	checkUsageError(t, runProgram(Server, "-check", "-config=/no/such/file"), "start_server: config file: open /no/such/file: ")
	checkUsageError(t, runProgram(Server, "-check", "-max-memory=1MiB"), "start_server: -max-memory=1MiB is too small for -max-body=1MiB: the minimum is ")
}

func TestCheck_Warns(t *testing.T) {
	t.Setenv("HUB_PORTS", "1")
	got := runProgram(Server, "-check", "-log=json")
	if got.code != ExitOK || !strings.HasPrefix(got.stderr, "start_server: HUB_PORTS is not a setting") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
}

func TestCheck_OutputFails(t *testing.T) {
	for _, arg := range []string{"-check", "-print-config"} {
		var stderr outputBuffer
		code := Server(Process{Args: []string{arg}, Stdout: brokenPipe{}, Stderr: &stderr})
		if code != ExitFailure || stderr.String() != "start_server: cannot print: broken pipe\n" {
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
	if c.settings.checkOnly || c.settings.printConfig {
		t.Error("an environment variable was used")
	}
	var names []string
	c.settings.flags.VisitAll(func(f *flag.Flag) {
		if c.settings.lookup(f.Name).is(commandLineOnly) {
			names = append(names, f.Name)
		}
	})
	if want := []string{"check", "print-config", "version"}; !slices.Equal(names, want) {
		t.Errorf("command-line-only flags are %q, want %q", names, want)
	}
}
