package command

import (
	"slices"
	"strings"
	"testing"
)

// documentOf returns the text of a document.
func documentOf(t *testing.T, name string) string {
	t.Helper()
	all := Documents("1.2.3")
	i := slices.IndexFunc(all, func(d Document) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("there is no %s", name)
	}
	return all[i].Text
}

// TestConfigFileOfTheService reads the file as it comes, which sets nothing, and with all
// its settings.
func TestConfigFileOfTheService(t *testing.T) {
	text := documentOf(t, "hub.conf")
	var all strings.Builder
	set := make(map[string]bool)
	for line := range strings.Lines(text) {
		if setting, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(setting, " ") {
			name, _, _ := strings.Cut(setting, "=")
			set[name] = true
			line = setting
		}
		all.WriteString(line)
	}
	none := parseServer(t, "-config", configFile(t, text))
	every := parseServer(t, "-config", configFile(t, all.String()))
	for _, one := range every.settings.list {
		if one.name == "config" || one.name == "version" {
			continue
		}
		if !set[one.name] || none.settings.given(one.name) || !every.settings.given(one.name) || one.get() != one.fallback {
			t.Errorf("%s is in the file: %t, with the value %q", one.name, set[one.name], one.get())
		}
	}
}

func TestCompletionsOfThePackage(t *testing.T) {
	for _, shell := range []string{bash, zsh} {
		if got, want := documentOf(t, hubctl+"."+shell), run(Hubctl, "completion", shell).stdout; got != want {
			t.Errorf("%s is not what hubctl completion %s prints", shell, shell)
		}
	}
}
