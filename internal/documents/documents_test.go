package main

import (
	"os"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command/hubctl"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/command/server"
)

// documentText returns the text of the document with the given name.
func documentText(t *testing.T, name string) string {
	t.Helper()
	docs := documents("1.2.3")
	i := slices.IndexFunc(docs, func(d document) bool { return d.name == name })
	if i < 0 {
		t.Fatalf("there is no %s", name)
	}
	return docs[i].text
}

// TestDocuments_ConfigFileMatchesPrintConfig checks that hub.conf is the output of
// -print-config, which has its own tests.
func TestDocuments_ConfigFileMatchesPrintConfig(t *testing.T) {
	if got, want := documentText(t, "hub.conf"), programtest.Run(server.Run, "-print-config").Stdout; got != want {
		t.Errorf("hub.conf is not what -print-config prints:\n%s", got)
	}
}

func TestDocuments_CompletionsMatchCommand(t *testing.T) {
	for _, shell := range []string{"bash", "zsh"} {
		if got, want := documentText(t, "hubctl."+shell), programtest.Run(hubctl.Run, "completion", shell).Stdout; got != want {
			t.Errorf("%s is not what hubctl completion %s prints", shell, shell)
		}
	}
}

// TestReference_IsUpToDate fails when a setting changes and docs/REFERENCE.md does not.
func TestReference_IsUpToDate(t *testing.T) {
	page, err := os.ReadFile("../../docs/REFERENCE.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != reference() {
		t.Error("docs/REFERENCE.md is out of date: run 'go run ./internal/documents docs/REFERENCE.md'")
	}
}
