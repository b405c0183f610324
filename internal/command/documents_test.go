package command

import (
	"slices"
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

// TestConfigFileOfTheService is what -print-config prints, which has tests of its own.
func TestConfigFileOfTheService(t *testing.T) {
	if got, want := documentOf(t, "hub.conf"), run(Server, "-print-config").stdout; got != want {
		t.Errorf("hub.conf is not what -print-config prints:\n%s", got)
	}
}

func TestCompletionsOfThePackage(t *testing.T) {
	for _, shell := range []string{bash, zsh} {
		if got, want := documentOf(t, hubctl+"."+shell), run(Hubctl, "completion", shell).stdout; got != want {
			t.Errorf("%s is not what hubctl completion %s prints", shell, shell)
		}
	}
}
