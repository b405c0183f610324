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

// madeUp are settings of no program, with a secret among them.
type madeUp struct {
	settings *settings
	pin      int
	token    string
}

func newMadeUp() *madeUp {
	m := &madeUp{settings: newSettings("made_up", "MADE_UP", "made_up does nothing.")}
	add(m.settings, &m.pin, "pin", 0, whole(0, 9999), "number that opens", secret|reloadable)
	add(m.settings, &m.token, "token", "", text(), "word that opens", secret)
	m.settings.addShow()
	m.settings.addCommon()
	return m
}

// TestSecretsAreNotShown looks for a secret in everything that settings say.
func TestSecretsAreNotShown(t *testing.T) {
	const good, wrong = "1234", "56789"
	t.Setenv("MADE_UP_TOKEN", good)
	m := newMadeUp()
	if err := m.settings.read([]string{"-pin=" + good}); err != nil {
		t.Fatal(err)
	}
	effective := m.settings.effective()
	for _, want := range []string{`(?m)^# pin = \(set\) +# flag$`, `(?m)^# token = \(set\) +# environment variable MADE_UP_TOKEN$`} {
		if !regexp.MustCompile(want).MatchString(effective) {
			t.Errorf("no %s in\n%s", want, effective)
		}
	}
	if got := newMadeUp().settings.effective(); !strings.Contains(got, "# token = (not set)") {
		t.Errorf("no secret that is not set:\n%s", got)
	}
	var log output
	one, other := m.settings.lookup("pin"), newMadeUp().settings.lookup("pin")
	one.logChange(newLogger(&log, logText, slog.LevelInfo).Warn, "changed", other)
	said := []string{effective, m.settings.template(), log.String()}

	said = append(said, refusal(t, "-pin="+wrong))
	said = append(said, refusal(t, "-config="+configFile(t, "pin "+wrong)))
	t.Setenv("MADE_UP_PIN", wrong)
	said = append(said, refusal(t))
	m = newMadeUp()
	if err := m.settings.read([]string{"-pin=1"}); err != nil || len(m.settings.warnings) != 1 {
		t.Errorf("%v, %q", err, m.settings.warnings)
	}
	said = append(said, m.settings.warnings...)
	for _, text := range said {
		if strings.Contains(text, good) || strings.Contains(text, wrong) {
			t.Errorf("shows a secret:\n%s", text)
		}
	}
}

// refusal returns what is said of wrong settings.
func refusal(t *testing.T, args ...string) string {
	t.Helper()
	err := newMadeUp().settings.read(args)
	if err == nil || !strings.Contains(err.Error(), "(hidden): allowed are") {
		t.Fatalf("%q: got %v", args, err)
	}
	return err.Error()
}

// TestTemplateIsAConfigFile reads what -print-config prints, as it is and with every line
// uncommented: that sets everything to what it is in any case.
func TestTemplateIsAConfigFile(t *testing.T) {
	got := run(Server, "-print-config", "-port=1")
	if got.code != ExitOK || got.stderr != "" {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	commented := regexp.MustCompile(`(?m)^#([a-z])`)
	all := commented.ReplaceAllString(got.stdout, "$1")
	for text, origin := range map[string]string{got.stdout: "default", all: "FILE:"} {
		path := configFile(t, text)
		s := parseServer(t, "-config="+path).settings
		for _, one := range s.list {
			if one.is(notInFile) {
				continue
			}
			if now := strings.ReplaceAll(one.origin, path, "FILE"); one.get() != one.fallback || !strings.HasPrefix(now, origin) {
				t.Errorf("%s is %s from %s, want the default from %s", one.name, one.shown(), now, origin)
			}
		}
	}
	for _, one := range newServer().settings.list {
		if !one.is(notInFile) && !strings.Contains(got.stdout, "\n# Allowed are "+one.want+".\n") {
			t.Errorf("does not say what is allowed for %s", one.name)
		}
	}
}

func TestCheckShowsWhereSettingsComeFrom(t *testing.T) {
	t.Setenv("HUB_STALL", "2s")
	path := configFile(t, "# here\nmax-clients 7\nstall 3s\n")
	got := run(Server, "-check", "-port=1234", "-config="+path)
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

// TestCheckPrintsAConfigFile reads it again, and gets the same settings.
func TestCheckPrintsAConfigFile(t *testing.T) {
	args := []string{"-check", "-port=1", "-addr=::1", "-stat=false", "-max-memory=1.5GiB", "-stall=1m30s", "-log=json", "-log-level=debug"}
	got := run(Server, args...)
	if got.code != ExitOK {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	want, again := parseServer(t, args...).settings, parseServer(t, "-config="+configFile(t, got.stdout)).settings
	for i, one := range want.list {
		if !one.is(notInFile) && one.get() != again.list[i].get() {
			t.Errorf("%s is %s, want %s", one.name, again.list[i].shown(), one.shown())
		}
	}
}

// TestWhatNoFileCanSay is a value that a line would not give back.
func TestWhatNoFileCanSay(t *testing.T) {
	keys := configFile(t, base64.StdEncoding.EncodeToString(make([]byte, 32)))
	for value, want := range map[string]string{
		"a #b": "# auth-issuer = a #b ",
		"a\nb": `# auth-issuer = "a\nb" `,
		" a":   "# auth-issuer =  a ",
		"=a":   "auth-issuer = =a ",
		`"a"`:  `# auth-issuer = "a" `,
	} {
		if got := run(Server, "-check", "-auth-keys="+keys, "-auth-issuer="+value).stdout; !strings.Contains(got, "\n"+want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// TestConfigFile_ValuesWithoutQuotes has quotes as other formats want them.
func TestConfigFile_ValuesWithoutQuotes(t *testing.T) {
	for line, want := range map[string]string{
		`addr = "0.0.0.0"`:          `addr "0.0.0.0": values stand without quotes`,
		`addr "localhost"`:          `addr "localhost": values stand without quotes`,
		`-admin='localhost:9990'`:   `admin 'localhost:9990': values stand without quotes`,
		`auth-issuer = "us" # them`: `auth-issuer "us": values stand without quotes`,
		`port = "1"`:                `port "1": values stand without quotes`,
	} {
		path := configFile(t, "# one\n"+line+"\n")
		for _, args := range [][]string{{"-check"}, nil} {
			checkRefused(t, run(Server, append(args, "-config="+path)...), "start_server: "+path+":2: "+want)
		}
	}
}

// TestCheckRefusesHostsThatCannotBe from all sources.
func TestCheckRefusesHostsThatCannotBe(t *testing.T) {
	for _, host := range []string{`"0.0.0.0"`, "'::1'", "a b", "http://hub", "hub/", "[hub]", "[::1", "::1]", "hub,hub", "::x"} {
		checkRefused(t, run(Server, "-check", "-addr="+host), "start_server: -addr="+host+": allowed are ")
		if !strings.ContainsAny(host, "[]") {
			checkRefused(t, run(Server, "-check", "-admin="+host+":1"), "start_server: -admin="+host+":1: allowed are ")
		}
	}
	for _, host := range []string{"", "0.0.0.0", "::", "[::]", "fe80::1%eth0", "hub.example", "my_hub", "xn--hb-xka.example."} {
		if got := run(Server, "-check", "-addr="+host); got.code != ExitOK {
			t.Errorf("%s: %s", host, got.stderr)
		}
	}
}

// TestCheckRefusesAnAdminAddressWithoutToken as the start does.
func TestCheckRefusesAnAdminAddressWithoutToken(t *testing.T) {
	for _, addr := range []string{":9990", "0.0.0.0:9990", "[::]:9990", "192.0.2.1:9990"} {
		checkRefused(t, run(Server, "-check", "-admin="+addr), "start_server: -admin="+addr+": no token")
		if got := run(Server, "-check", "-admin="+addr, "-admin-token-file="+tokenFile(t, adminToken)); got.code != ExitOK {
			t.Errorf("%s with a token: %s", addr, got.stderr)
		}
	}
	for _, addr := range []string{"127.0.0.1:9990", "[::1]:9990", "localhost:9990", "off"} {
		if got := run(Server, "-check", "-admin="+addr); got.code != ExitOK {
			t.Errorf("%s: %s", addr, got.stderr)
		}
	}
}

func TestCheckRefusesWhatTheServerWould(t *testing.T) {
	checkRefused(t, run(Server, "-check", "-port=x"), "start_server: -port=x: allowed are")
	checkRefused(t, run(Server, "-check", "-config=/no/such/file"), "start_server: config file: open /no/such/file: ")
	checkRefused(t, run(Server, "-check", "-max-memory=1MiB"), "start_server: -max-memory=1MiB is too little for -max-body=1MiB: that takes ")
}

func TestCheckWarns(t *testing.T) {
	t.Setenv("HUB_PORTS", "1")
	got := run(Server, "-check", "-log=json")
	if got.code != ExitOK || !strings.HasPrefix(got.stderr, "start_server: HUB_PORTS is not a setting") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
}

func TestShowThatNobodyTakes(t *testing.T) {
	for _, arg := range []string{"-check", "-print-config"} {
		var stderr output
		code := Server(Process{Args: []string{arg}, Stdout: brokenPipe{}, Stderr: &stderr})
		if code != ExitFailure || stderr.String() != "start_server: cannot print: broken pipe\n" {
			t.Errorf("%s: exit code %d: %s", arg, code, &stderr)
		}
	}
}

// TestOnlyFlagsAsk would otherwise let a variable keep the server from serving.
func TestOnlyFlagsAsk(t *testing.T) {
	t.Setenv("HUB_CHECK", "true")
	t.Setenv("HUB_PRINT_CONFIG", "true")
	c := parseServer(t)
	if c.settings.check || c.settings.print {
		t.Error("a variable asked")
	}
	var names []string
	c.settings.flags.VisitAll(func(f *flag.Flag) {
		if c.settings.lookup(f.Name).is(question) {
			names = append(names, f.Name)
		}
	})
	if want := []string{"check", "print-config", "version"}; !slices.Equal(names, want) {
		t.Errorf("questions are %q, want %q", names, want)
	}
}
