package command

import (
	"slices"
	"testing"
)

// documentText returns the text of the document with the given name.
func documentText(t *testing.T, name string) string {
	t.Helper()
	docs := Documents("1.2.3")
	i := slices.IndexFunc(docs, func(d Document) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("there is no %s", name)
	}
	return docs[i].Text
}

// TestDocuments_ConfigFileMatchesPrintConfig checks that hub.conf is the output of
// -print-config, which has its own tests.
func TestDocuments_ConfigFileMatchesPrintConfig(t *testing.T) {
	if got, want := documentText(t, "hub.conf"), runProgram(Server, "-print-config").stdout; got != want {
		t.Errorf("hub.conf is not what -print-config prints:\n%s", got)
	}
}

func TestDocuments_CompletionsMatchCommand(t *testing.T) {
	for _, shell := range []string{bash, zsh} {
		if got, want := documentText(t, hubctl+"."+shell), runProgram(Hubctl, "completion", shell).stdout; got != want {
			t.Errorf("%s is not what hubctl completion %s prints", shell, shell)
		}
	}
}
