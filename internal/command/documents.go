package command

import (
	"io"
	"strings"
)

// Document is a file for users of the programs, generated from the settings of the programs.
type Document struct{ Name, Text string }

// Documents returns the manual page of each program, hub.conf for the hub as a service, and
// the completion scripts of hubctl. build is the version in the footer of the manual pages.
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
