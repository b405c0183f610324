package command

import (
	"fmt"
	"io"
	"strings"
)

// manPage is the manual page of one program, made from its settings.
type manPage struct {
	name    string // of the program
	section int    // of the manual: 1 is for commands, 8 for what an administrator runs
	build   string
	about   string // one line
	parts   []manPart
	codes   []manItem
	files   []manItem
	shown   []manItem // examples: what to type, and what it does
	also    string
}

// manPart is the description of a program, or of one of its subcommands.
type manPart struct {
	heading  string // empty for a program without subcommands
	settings *settings
}

// manItem is a word and what it means.
type manItem struct{ what, means string }

// manPages returns the pages of all programs.
func manPages(build string) []manPage {
	hub, load := newServer().settings, newSimulated().settings
	return []manPage{
		{
			name: "start_server", section: 8, build: build, about: "run a message hub",
			parts: []manPart{{"", hub}}, codes: plainCodes, files: serverFiles,
			shown: []manItem{
				{"start_server -addr=127.0.0.1", "serves this machine alone."},
				{"HUB_PORT=7000 start_server -max-memory=256MiB -drain=30s", "serves on another port, with more memory, and takes its time to end."},
				{"systemctl enable --now go-message-hub", "runs the hub as a service, now and whenever the machine starts."},
			},
			also: "hubctl(1), start_simulation(1), systemd.service(5)",
		},
		{
			name: "start_simulation", section: 1, build: build, about: "put a message hub under load and verify it",
			parts: []manPart{{"", load}}, codes: plainCodes,
			shown: []manItem{
				{"start_simulation -embed", "runs a hub and its load in one program."},
				{"start_simulation -addr=hub.example.org -ncli=10 -nmex=20 -size=1024", "puts a light load on a hub elsewhere."},
			},
			also: "hubctl(1), start_server(8)",
		},
		{
			name: hubctl, section: 1, build: build, about: "speak to a message hub from the command line",
			parts: verbParts(), codes: append(plainCodes[:len(plainCodes):len(plainCodes)],
				manItem{fmt.Sprint(ExitSome), "send: some receivers got the message, and others did not."},
				manItem{fmt.Sprint(ExitNone), "send: no receiver got it."}),
			shown: []manItem{
				{"hubctl listen", "prints what comes; its first line names its id."},
				{"hubctl send -to=2,3 hello", "sends to two clients, and prints what became of it."},
				{"hubctl ping -n=1 -timeout=2s", "tells by its exit code whether there is a hub."},
			},
			also: "start_simulation(1), start_server(8)",
		},
	}
}

var plainCodes = []manItem{
	{fmt.Sprint(ExitOK), "All went well."},
	{fmt.Sprint(ExitFailure), "Something did not go well; standard error says what."},
	{fmt.Sprint(ExitUsage), "A flag, a variable or a line of the config file was wrong."},
}

var serverFiles = []manItem{
	{"/etc/go-message-hub/hub.conf", "The config file of the service."},
	{"/etc/go-message-hub/environment", "Variables of the service, which beat the config file. It need not exist."},
}

func verbParts() (parts []manPart) {
	for _, v := range verbs() {
		s, _ := v.prepare()
		parts = append(parts, manPart{s.program, s})
	}
	return parts
}

// file returns the name under which the manual has the page.
func (m *manPage) file() string { return fmt.Sprintf("%s.%d", m.name, m.section) }

// write writes the page in roff, as man(7) describes it.
func (m *manPage) write(w io.Writer) {
	page := roff{w}
	page.printf(".TH %s %d \"\" %s \"go-message-hub\"\n", quoteRoff(strings.ToUpper(m.name)), m.section, quoteRoff(m.build))
	page.printf(".nh\n.ad l\n") // what is to be typed must not be broken by hyphens
	page.heading("SH", "NAME")
	page.printf("%s \\- %s\n", escapeRoff(m.name), escapeRoff(m.about))
	m.synopsis(page)
	for _, part := range m.parts {
		part.describe(page)
	}
	m.sources(page)
	page.items("EXIT STATUS", m.codes)
	page.items("FILES", m.files)
	page.items("EXAMPLES", m.shown)
	page.heading("SH", "SEE ALSO")
	page.text(m.also)
}

func (m *manPage) synopsis(page roff) {
	page.heading("SH", "SYNOPSIS")
	for i, part := range m.parts {
		if i > 0 {
			page.printf(".br\n")
		}
		s := part.settings
		page.printf(".B %s\n", escapeRoff(s.program))
		page.printf("[\\fIflags\\fR]")
		if s.operand != "" {
			page.printf(" %s", escapeRoff(s.operand))
		}
		page.printf("\n")
	}
	page.printf(".br\n.B %s \\-version\n", escapeRoff(m.name))
}

// describe writes what a program does, and its options.
func (p manPart) describe(page roff) {
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
	for _, one := range s.list {
		page.printf(".TP\n\\fB\\-%s\\fR=\\fI%s\\fR\n", escapeRoff(one.name), escapeRoff(one.shownDefault()))
		page.text(s.optionText(one))
	}
	if s.notes != "" {
		page.heading(level, "Notes")
		page.literal(s.notes)
	}
}

// shownDefault returns the default as it is shown, which is never nothing.
func (one *setting) shownDefault() string {
	if one.fallback == "" {
		return `""`
	}
	return one.fallback
}

// optionText returns all that there is to know of an option.
func (s *settings) optionText(one *setting) string {
	text := strings.ReplaceAll(one.usage, "\n", " ") + one.bounds() + "."
	if !one.is(question) { // those are not taken from there
		text += " Environment: " + s.variable(one.name) + "."
	}
	return text
}

// sources says where settings come from.
func (m *manPage) sources(page roff) {
	s := m.parts[0].settings
	first := s.list[0]
	page.heading("SH", "CONFIGURATION")
	page.text(fmt.Sprintf("Each option is shown with its default. It can also be set in the environment, and in the file that -config names, "+
		"by a line such as %q; # begins a comment. A flag beats the environment, which beats the file. "+
		"Sizes are bytes or have a unit (65536, 64KiB, 256MiB), times have one (500ms, 10s, 1m30s).", first.name+"="+first.fallback))
}

// roff is a page that is being written.
type roff struct{ w io.Writer }

func (r roff) printf(format string, args ...any) { fmt.Fprintf(r.w, format, args...) }

func (r roff) heading(level, text string) {
	if level == "SH" {
		text = strings.ToUpper(text)
	}
	r.printf(".%s %s\n", level, quoteRoff(text))
}

// text writes a paragraph, which is filled.
func (r roff) text(text string) {
	for line := range strings.Lines(text) {
		r.printf("%s\n", escapeRoff(strings.TrimSpace(line)))
	}
}

// literal writes lines as they are.
func (r roff) literal(text string) {
	r.printf(".nf\n")
	for line := range strings.SplitSeq(text, "\n") {
		r.printf("%s\n", escapeRoff(line))
	}
	r.printf(".fi\n")
}

// items writes a section of words and their meanings, if there are any.
func (r roff) items(heading string, items []manItem) {
	if len(items) == 0 {
		return
	}
	r.heading("SH", heading)
	for _, item := range items {
		r.printf(".TP\n.B %s\n", escapeRoff(item.what))
		r.text(item.means)
	}
}

// escapeRoff keeps a line of text from meaning something to roff: its backslashes, the
// dashes of flags, which are no hyphens, and what would be a request at its beginning.
func escapeRoff(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`, "`", `\(ga`).Replace(line)
	if strings.HasPrefix(line, ".") || line == "" {
		line = `\&` + line
	}
	return line
}

// quoteRoff returns text as one argument of a request.
func quoteRoff(text string) string {
	return `"` + strings.ReplaceAll(escapeRoff(text), `"`, `\(dq`) + `"`
}
