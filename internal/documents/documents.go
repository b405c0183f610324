package main

import (
	"io"
	"strings"

	"github.com/sechlol/go-message-hub/internal/command/hubctl"
	"github.com/sechlol/go-message-hub/internal/command/server"
	"github.com/sechlol/go-message-hub/internal/command/simulation"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// document is a file for users of the programs, generated from the settings of the programs.
type document struct{ name, text string }

// manPages returns the manual pages of all programs.
func manPages() []settings.ManPage {
	return []settings.ManPage{server.ManPage(), simulation.ManPage(), hubctl.ManPage()}
}

// documents returns the manual page of each program, hub.conf for the hub as a service, and
// the completion scripts of hubctl. build is the version in the footer of the manual pages.
func documents(build string) (docs []document) {
	for _, page := range manPages() {
		docs = append(docs, newDocument(page.FileName(), func(w io.Writer) { page.Write(w, build) }))
	}
	completion := hubctl.Completion()
	return append(docs,
		document{"hub.conf", server.ConfigTemplate()},
		newDocument(completion.Program+".bash", func(w io.Writer) { settings.WriteBashCompletion(w, completion) }),
		newDocument(completion.Program+".zsh", func(w io.Writer) { settings.WriteZshCompletion(w, completion) }),
	)
}

func newDocument(name string, write func(io.Writer)) document {
	var text strings.Builder
	write(&text)
	return document{name, text.String()}
}

// referenceIntro is the beginning of docs/REFERENCE.md.
const referenceIntro = "# Reference\n\n" +
	"The flags and exit codes of all programs. `go run ./internal/documents docs/REFERENCE.md` writes this page from the programs' settings.\n\n" +
	"Each flag but `-version`, `-check` and `-print-config` can also be set by an environment variable, and, but for `-config`, by a line `name = value` in the file that `-config` names. " +
	"A flag takes precedence over the variable, which takes precedence over the file. The variable of `-log-level` is `HUB_LOG_LEVEL` for " +
	"`start_server`, `SIMULATION_LOG_LEVEL` for `start_simulation` and `HUBCTL_LOG_LEVEL` for `hubctl`. " +
	"Sizes are bytes or have a unit (65536, 64KiB, 256MiB), times have a unit (500ms, 10s, 1m30s).\n\n" +
	"[OPERATIONS.md](OPERATIONS.md#configuration) describes the file, reloading and `-check`.\n"

// reference returns docs/REFERENCE.md: the flags and exit codes of all programs, as Markdown.
func reference() string {
	var text strings.Builder
	text.WriteString(referenceIntro)
	settings.WriteReference(&text, manPages())
	return text.String()
}
