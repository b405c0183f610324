package settings

import (
	"fmt"
	"io"
	"strings"
)

// WriteReference writes the flags and exit codes of the programs as Markdown, in one section
// for each program. It comes from the same settings as the usage texts and the manual pages.
func WriteReference(w io.Writer, pages []ManPage) {
	for _, page := range pages {
		fmt.Fprintf(w, "\n## %s\n", page.Name)
		for _, program := range page.Programs {
			writeProgramReference(w, program)
		}
		fmt.Fprint(w, "\n| exit code | meaning |\n|---|---|\n")
		for _, code := range page.ExitCodes {
			fmt.Fprintf(w, "| %s | %s |\n", code.Term, markdownCell(code.Meaning))
		}
	}
}

// writeProgramReference writes a section for a program or a subcommand, with a table of its
// flags.
func writeProgramReference(w io.Writer, p ManProgram) {
	s := p.Settings
	if p.Heading != "" {
		fmt.Fprintf(w, "\n### %s\n", p.Heading)
	}
	fmt.Fprintf(w, "\n%s\n", markdownText(s.About))
	fmt.Fprint(w, "\n| flag | default | meaning |\n|---|---|---|\n")
	for _, st := range s.list {
		value := ""
		if st.Default != "" {
			value = "`" + st.Default + "`"
		}
		fmt.Fprintf(w, "| `-%s` | %s | %s |\n", st.Name, value, markdownCell(st.Usage+st.UsageSuffix()))
	}
	if s.Notes != "" {
		fmt.Fprintf(w, "\n```\n%s\n```\n", strings.Trim(s.Notes, "\n"))
	}
}

// markdownText returns text as a paragraph in which Markdown shows each character as it is.
func markdownText(text string) string {
	return strings.NewReplacer("<", "&lt;", "*", `\*`, "_", `\_`).Replace(strings.TrimSpace(text))
}

// markdownCell is markdownText for a cell of a table.
func markdownCell(text string) string {
	return strings.ReplaceAll(markdownText(strings.Join(strings.Fields(text), " ")), "|", `\|`)
}
