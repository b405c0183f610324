package settings

import (
	"fmt"
	"io"
	"strings"
)

// ManPage is the manual page of one program, generated from the settings of the program.
type ManPage struct {
	Name      string // program name
	Section   int    // of the manual: 1 for user commands, 8 for system administration
	About     string // one line, for section NAME
	Programs  []ManProgram
	ExitCodes []ManItem
	Files     []ManItem
	Examples  []ManItem // command lines, and what they do
	SeeAlso   string
}

// ManProgram is the description of a program or of one of its subcommands.
type ManProgram struct {
	Heading  string // empty for a program without subcommands
	Settings *Settings
}

// ManItem is a term and its meaning.
type ManItem struct{ Term, Meaning string }

// FileName returns the file name of the page.
func (m *ManPage) FileName() string { return fmt.Sprintf("%s.%d", m.Name, m.Section) }

// Write writes the page in the roff macros of man(7). build is the version in the footer.
func (m *ManPage) Write(w io.Writer, build string) {
	page := roff{w}
	page.printf(".TH %s %d \"\" %s \"go-message-hub\"\n",
		quoteRoff(strings.ToUpper(m.Name)), m.Section, quoteRoff(build))
	page.printf(".nh\n.ad l\n") // do not hyphenate commands
	page.heading("SH", "NAME")
	page.printf("%s \\- %s\n", escapeRoff(m.Name), escapeRoff(m.About))
	m.writeSynopsis(page)
	for _, program := range m.Programs {
		program.writeDescription(page)
	}
	m.writeConfiguration(page)
	writeItems(page, "EXIT STATUS", m.ExitCodes)
	writeItems(page, "FILES", m.Files)
	writeItems(page, "EXAMPLES", m.Examples)
	page.heading("SH", "SEE ALSO")
	page.text(m.SeeAlso)
}

func (m *ManPage) writeSynopsis(page roff) {
	page.heading("SH", "SYNOPSIS")
	for i, program := range m.Programs {
		if i > 0 {
			page.printf(".br\n")
		}
		s := program.Settings
		page.printf(".B %s\n", escapeRoff(s.Program))
		page.printf("[\\fIflags\\fR]")
		if s.OperandUsage != "" {
			page.printf(" %s", escapeRoff(s.OperandUsage))
		}
		page.printf("\n")
	}
	page.printf(".br\n.B %s \\-version\n", escapeRoff(m.Name))
}

// writeDescription writes the description of a program and its options.
func (p ManProgram) writeDescription(page roff) {
	s := p.Settings
	level := "SH"
	if p.Heading == "" {
		page.heading("SH", "DESCRIPTION")
	} else {
		page.heading("SH", strings.ToUpper(p.Heading))
		level = "SS"
	}
	page.text(s.About)
	page.heading(level, "Options")
	for _, st := range s.list {
		page.printf(".TP\n\\fB\\-%s\\fR=\\fI%s\\fR\n", escapeRoff(st.Name), escapeRoff(displayDefault(st)))
		page.text(optionText(s, st))
	}
	if s.Notes != "" {
		page.heading(level, "Notes")
		page.literal(s.Notes)
	}
}

// displayDefault returns the default, or "" in quotes for an empty default.
func displayDefault(st *Setting) string {
	if st.Default == "" {
		return `""`
	}
	return st.Default
}

// optionText returns the help text of an option with its limits and its environment variable.
func optionText(s *Settings, st *Setting) string {
	text := strings.ReplaceAll(st.Usage, "\n", " ") + st.UsageSuffix() + "."
	if !st.Is(CommandLineOnly) { // command-line-only options ignore the environment
		text += " Environment: " + s.EnvVar(st.Name) + "."
	}
	return text
}

// writeConfiguration writes the section about the sources of settings.
func (m *ManPage) writeConfiguration(page roff) {
	s := m.Programs[0].Settings
	first := s.list[0]
	page.heading("SH", "CONFIGURATION")
	page.text(fmt.Sprintf("Each option is shown with its default. It can also be set by an environment variable, and in the file that -config names, "+
		"by a line such as %q; # begins a comment. Flags override environment variables, which override the file. "+
		"Sizes are in bytes or have a unit (65536, 64KiB, 256MiB), durations have a unit (500ms, 10s, 1m30s).", first.Name+"="+first.Default))
}

// writeItems writes a section of terms and their meanings. It writes nothing if there are no
// items.
func writeItems(page roff, heading string, items []ManItem) {
	if len(items) == 0 {
		return
	}
	page.heading("SH", heading)
	for _, item := range items {
		page.printf(".TP\n.B %s\n", escapeRoff(item.Term))
		page.text(item.Meaning)
	}
}
