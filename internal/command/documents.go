package command

import (
	"io"
	"strings"
)

// Document is a file for those who use the programs, made from their settings, so that it
// says what is true of them.
type Document struct{ Name, Text string }

// Documents returns all of them: a manual page of each program, hub.conf for the hub
// as a service, and the completions of hubctl. Build is what was built, for the foot of
// the pages.
func Documents(build string) (docs []Document) {
	for _, page := range manPages(build) {
		docs = append(docs, newDocument(page.fileName(), page.write))
	}
	return append(docs,
		Document{"hub.conf", newServer().settings.configTemplate()},
		newDocument(hubctl+".bash", func(w io.Writer) { writeBashCompletion(w, completionEntries()) }),
		newDocument(hubctl+".zsh", func(w io.Writer) { writeZshCompletion(w, completionEntries()) }),
	)
}

func newDocument(name string, write func(io.Writer)) Document {
	var text strings.Builder
	write(&text)
	return Document{name, text.String()}
}
