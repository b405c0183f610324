package settings

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// testFlags are settings with secrets, for tests.
type testFlags struct {
	settings *Settings
	pin      int
	token    string
}

func newTestFlags() *testFlags {
	m := &testFlags{settings: New("made_up", "MADE_UP", "made_up does nothing.")}
	Add(m.settings, &m.pin, "pin", 0, IntRange(0, 9999), "number that opens", Secret|Reloadable)
	Add(m.settings, &m.token, "token", "", AnyText(), "word that opens", Secret)
	m.settings.AddShowFlags()
	m.settings.AddCommonFlags()
	return m
}

// TestSettings_SecretsHidden looks for a secret in all output about settings.
func TestSettings_SecretsHidden(t *testing.T) {
	const good, wrong = "1234", "56789"
	t.Setenv("MADE_UP_TOKEN", good)
	m := newTestFlags()
	if err := m.settings.Read([]string{"-pin=" + good}); err != nil {
		t.Fatal(err)
	}
	effective := EffectiveConfig(m.settings)
	for _, want := range []string{`(?m)^# pin = \(set\) +# flag$`, `(?m)^# token = \(set\) +# environment variable MADE_UP_TOKEN$`} {
		if !regexp.MustCompile(want).MatchString(effective) {
			t.Errorf("no %s in\n%s", want, effective)
		}
	}
	if got := EffectiveConfig(newTestFlags().settings); !strings.Contains(got, "# token = (not set)") {
		t.Errorf("no secret that is not set:\n%s", got)
	}
	var log strings.Builder
	st, other := m.settings.Lookup("pin"), newTestFlags().settings.Lookup("pin")
	st.logChange(NewLogger(&log, LogText, slog.LevelInfo).Warn, "changed", other)
	texts := []string{effective, ConfigTemplate(m.settings), log.String()}

	texts = append(texts, settingsError(t, "-pin="+wrong))
	texts = append(texts, settingsError(t, "-config="+writeConfigFile(t, "pin "+wrong)))
	t.Setenv("MADE_UP_PIN", wrong)
	texts = append(texts, settingsError(t))
	m = newTestFlags()
	if err := m.settings.Read([]string{"-pin=1"}); err != nil || len(m.settings.Warnings.All()) != 1 {
		t.Errorf("%v, %q", err, m.settings.Warnings.All())
	}
	texts = append(texts, m.settings.Warnings.All()...)
	for _, text := range texts {
		if strings.Contains(text, good) || strings.Contains(text, wrong) {
			t.Errorf("shows a secret:\n%s", text)
		}
	}
}

// settingsError returns the error of invalid settings.
func settingsError(t *testing.T, args ...string) string {
	t.Helper()
	err := newTestFlags().settings.Read(args)
	if err == nil || !strings.Contains(err.Error(), "(hidden): allowed are") {
		t.Fatalf("%q: got %v", args, err)
	}
	return err.Error()
}

// writeConfigFile writes a config file and returns its path.
func writeConfigFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hub.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
