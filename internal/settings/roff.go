package settings

import (
	"fmt"
	"io"
	"strings"
)

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
