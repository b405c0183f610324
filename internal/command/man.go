package command

import (
	"fmt"
	"io"
	"strings"
)

// manPage is the manual page of one program, generated from the settings of the program.
type manPage struct {
	name      string // program name
	section   int    // of the manual: 1 for user commands, 8 for system administration
	build     string
	about     string // one line, for section NAME
	programs  []manProgram
	exitCodes []manItem
	files     []manItem
	examples  []manItem // command lines, and what they do
	seeAlso   string
}

// manProgram is the description of a program or of one of its subcommands.
type manProgram struct {
	heading  string // empty for a program without subcommands
	settings *settings
}

// manItem is a term and its meaning.
type manItem struct{ term, meaning string }

// manPages returns the pages of all programs. build is the version in the footer.
func manPages(build string) []manPage {
	hub, sim := newServer().settings, newSimulator().settings
	return []manPage{
		{
			name: "start_server", section: 8, build: build, about: "run a message hub",
			programs: []manProgram{{"", hub}}, exitCodes: commonExitCodes, files: serverFiles,
			examples: []manItem{
				{"start_server -addr=127.0.0.1", "serves only clients on this machine."},
				{"HUB_PORT=7000 start_server -max-memory=256MiB -drain=30s", "serves on another port, with more memory, and drains queues for up to 30 s at shutdown."},
				{"systemctl enable --now go-message-hub", "runs the hub as a service, now and after each boot."},
			},
			seeAlso: "hubctl(1), start_simulation(1), systemd.service(5)",
		},
		{
			name: "start_simulation", section: 1, build: build, about: "put a message hub under load and verify it",
			programs: []manProgram{{"", sim}}, exitCodes: commonExitCodes,
			examples: []manItem{
				{"start_simulation -embed", "runs a hub and the load in one process."},
				{"start_simulation -addr=hub.example.org -ncli=10 -nmex=20 -size=1024", "puts a light load on a remote hub."},
			},
			seeAlso: "hubctl(1), start_server(8)",
		},
		{
			name: hubctl, section: 1, build: build, about: "command-line client of a message hub",
			programs: subcommandPrograms(), exitCodes: append(commonExitCodes[:len(commonExitCodes):len(commonExitCodes)],
				manItem{fmt.Sprint(ExitPartial), "send: only some receivers got the message."},
				manItem{fmt.Sprint(ExitUndelivered), "send: no receiver got it."}),
			examples: []manItem{
				{"hubctl listen", "prints received messages; the first line on standard error names its id."},
				{"hubctl send -to=2,3 hello", "sends to two clients and prints the fate for each."},
				{"hubctl ping -n=1 -timeout=2s", "reports by its exit code whether a hub answers."},
			},
			seeAlso: "start_simulation(1), start_server(8)",
		},
	}
}

var commonExitCodes = []manItem{
	{fmt.Sprint(ExitOK), "Success."},
	{fmt.Sprint(ExitFailure), "Failure; standard error says why."},
	{fmt.Sprint(ExitUsage), "A flag, an environment variable or a line of the config file was invalid."},
}

var serverFiles = []manItem{
	{"/etc/go-message-hub/hub.conf", "The config file of the service."},
	{"/etc/go-message-hub/environment", "Environment variables of the service, which override the config file. Optional."},
}

func subcommandPrograms() (programs []manProgram) {
	for _, cmd := range subcommands() {
		s, _ := cmd.setup()
		programs = append(programs, manProgram{s.program, s})
	}
	return programs
}

// fileName returns the file name of the page.
func (m *manPage) fileName() string { return fmt.Sprintf("%s.%d", m.name, m.section) }

// write writes the page in the roff macros of man(7).
func (m *manPage) write(w io.Writer) {
	page := roff{w}
	page.printf(".TH %s %d \"\" %s \"go-message-hub\"\n",
		quoteRoff(strings.ToUpper(m.name)), m.section, quoteRoff(m.build))
	page.printf(".nh\n.ad l\n") // do not hyphenate commands
	page.heading("SH", "NAME")
	page.printf("%s \\- %s\n", escapeRoff(m.name), escapeRoff(m.about))
	m.writeSynopsis(page)
	for _, program := range m.programs {
		program.writeDescription(page)
	}
	m.writeConfiguration(page)
	page.items("EXIT STATUS", m.exitCodes)
	page.items("FILES", m.files)
	page.items("EXAMPLES", m.examples)
	page.heading("SH", "SEE ALSO")
	page.text(m.seeAlso)
}

func (m *manPage) writeSynopsis(page roff) {
	page.heading("SH", "SYNOPSIS")
	for i, program := range m.programs {
		if i > 0 {
			page.printf(".br\n")
		}
		s := program.settings
		page.printf(".B %s\n", escapeRoff(s.program))
		page.printf("[\\fIflags\\fR]")
		if s.operandUsage != "" {
			page.printf(" %s", escapeRoff(s.operandUsage))
		}
		page.printf("\n")
	}
	page.printf(".br\n.B %s \\-version\n", escapeRoff(m.name))
}

// writeDescription writes the description of a program and its options.
func (p manProgram) writeDescription(page roff) {
	s := p.settings
	level := "SH"
	if p.heading == "" {
		page.heading("SH", "DESCRIPTION")
	} else {
		page.heading("SH", strings.ToUpper(p.heading))
		level = "SS"
	}
	page.text(s.about)
	page.heading(level, "Options")
	for _, st := range s.list {
		page.printf(".TP\n\\fB\\-%s\\fR=\\fI%s\\fR\n", escapeRoff(st.name), escapeRoff(st.displayDefault()))
		page.text(s.optionText(st))
	}
	if s.notes != "" {
		page.heading(level, "Notes")
		page.literal(s.notes)
	}
}

// displayDefault returns the default, or "" in quotes for an empty default.
func (st *setting) displayDefault() string {
	if st.defaultValue == "" {
		return `""`
	}
	return st.defaultValue
}

// optionText returns the help text of an option with its limits and its environment variable.
func (s *settings) optionText(st *setting) string {
	text := strings.ReplaceAll(st.usage, "\n", " ") + st.usageSuffix() + "."
	if !st.is(commandLineOnly) { // command-line-only options ignore the environment
		text += " Environment: " + s.envVar(st.name) + "."
	}
	return text
}

// writeConfiguration writes the section about the sources of settings.
func (m *manPage) writeConfiguration(page roff) {
	s := m.programs[0].settings
	first := s.list[0]
	page.heading("SH", "CONFIGURATION")
	page.text(fmt.Sprintf("Each option is shown with its default. It can also be set by an environment variable, and in the file that -config names, "+
		"by a line such as %q; # begins a comment. Flags override environment variables, which override the file. "+
		"Sizes are in bytes or have a unit (65536, 64KiB, 256MiB), durations have a unit (500ms, 10s, 1m30s).", first.name+"="+first.defaultValue))
}

// roff writes a page in roff.
type roff struct{ w io.Writer }

func (r roff) printf(format string, args ...any) { fmt.Fprintf(r.w, format, args...) }

func (r roff) heading(level, text string) {
	if level == "SH" {
		text = strings.ToUpper(text)
	}
	r.printf(".%s %s\n", level, quoteRoff(text))
}

// text writes a filled paragraph.
func (r roff) text(text string) {
	for line := range strings.Lines(text) {
		r.printf("%s\n", escapeRoff(strings.TrimSpace(line)))
	}
}

// literal writes text without filling.
func (r roff) literal(text string) {
	r.printf(".nf\n")
	for line := range strings.SplitSeq(text, "\n") {
		r.printf("%s\n", escapeRoff(line))
	}
	r.printf(".fi\n")
}

// items writes a section of terms and their meanings. It writes nothing if there are no items.
func (r roff) items(heading string, items []manItem) {
	if len(items) == 0 {
		return
	}
	r.heading("SH", heading)
	for _, item := range items {
		r.printf(".TP\n.B %s\n", escapeRoff(item.term))
		r.text(item.meaning)
	}
}

// escapeRoff escapes a line of text for roff: backslashes, dashes, which must not become
// hyphens, and a dot at the beginning, which would be a request.
func escapeRoff(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`, "`", `\(ga`).Replace(line)
	if strings.HasPrefix(line, ".") || line == "" {
		line = `\&` + line
	}
	return line
}

// quoteRoff returns text as one quoted argument of a request.
func quoteRoff(text string) string {
	return `"` + strings.ReplaceAll(escapeRoff(text), `"`, `\(dq`) + `"`
}
