package command

import (
	"fmt"
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
		document("hub.conf", newServer().settings.writeConfig),
		document(hubctl+".bash", func(w io.Writer) { completeBash(w, completions()) }),
		document(hubctl+".zsh", func(w io.Writer) { completeZsh(w, completions()) }),
	)
}

func document(name string, write func(io.Writer)) Document {
	var text strings.Builder
	write(&text)
	return Document{name, text.String()}
}

// writeConfig writes a config file in which every setting stands as a comment, with its
// default.
func (s *settings) writeConfig(w io.Writer) {
	fmt.Fprintf(w, "# Settings of %s, one on a line. What begins with # is a comment: here, each\n"+
		"# setting with its default. A variable of the environment beats this file.\n", s.program)
	for _, one := range s.list {
		if one.name == "config" || one.name == "version" {
			continue // which a file cannot set
		}
		usage := one.usage
		if one.limits != "" {
			usage += " (" + one.limits + ")"
		}
		fmt.Fprintf(w, "\n# %s\n#%s=%s\n", strings.ReplaceAll(usage, "\n", "\n# "), one.name, one.fallback)
	}
}
