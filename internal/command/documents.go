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
func Documents(build string) (all []Document) {
	for _, page := range manPages(build) {
		all = append(all, document(page.file(), page.write))
	}
	return append(all,
		Document{"hub.conf", newServer().settings.template()},
		document(hubctl+".bash", func(w io.Writer) { completeBash(w, completions()) }),
		document(hubctl+".zsh", func(w io.Writer) { completeZsh(w, completions()) }),
	)
}

func document(name string, write func(io.Writer)) Document {
	var text strings.Builder
	write(&text)
	return Document{name, text.String()}
}
