package command

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
)

// reviewVariables warns of variables that are without effect although somebody
// must have meant them for this program. It leaves alone what merely has the
// program's prefix: Kubernetes gives each container variables such as
// HUB_SERVICE_HOST when a service is called hub.
func (s *settings) reviewVariables() {
	for _, one := range s.list {
		s.reviewVariable(one, os.Getenv(s.variable(one.name)))
	}
	for _, variable := range os.Environ() {
		key, value, _ := strings.Cut(variable, "=")
		rest, ours := strings.CutPrefix(key, s.prefix+"_")
		if !ours || value == "" { // an empty one counts as not set
			continue
		}
		name := strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
		if s.lookup(name) != nil && os.Getenv(s.variable(name)) == value { // Windows does not mind how it is written
			continue
		}
		if near := s.similar(name, question); near != nil {
			s.warn("%s is not a setting and has no effect, is %s meant?", key, s.variable(near.name))
		}
	}
}

// reviewVariable warns of the variable of a setting when it has a value that is not used.
func (s *settings) reviewVariable(one *setting, value string) {
	switch {
	case value == "" || one.name == "version": // HUB_VERSION may well be somebody else's
	case one.is(question):
		s.warn("%s has no effect: only a flag can ask, -%s", s.variable(one.name), one.name)
	case one.origin == "flag" && one.check(value) != nil:
		text := shown(value)
		if one.is(secret) {
			text = "(hidden)"
		}
		s.warn("%s=%s would be refused if -%s did not beat it: allowed are %s", s.variable(one.name), text, one.name, one.want)
	}
}

// similar returns the setting whose name is most like one that is none, or nil when
// that is like no other. Settings with any of the traits in leave are left out.
func (s *settings) similar(name string, leave trait) *setting {
	const longest = 64 // far beyond all of ours, and short enough to be compared at once
	if len(name) > longest {
		return nil
	}
	var best *setting
	least := math.MaxInt
	for _, one := range s.list {
		if one.traits&leave != 0 {
			continue
		}
		if d := distance(name, one.name); d < least && isLike(name, one.name, d) {
			best, least = one, d
		}
	}
	return best
}

// isLike reports whether somebody may have meant known and written name, which is d
// edits away from it: one in three to four letters, two in more, or one word goes on
// where the other ends, such as address for addr. A further part does not count:
// port-9999-tcp is not like port.
func isLike(name, known string, d int) bool {
	const few, some = 3, 5
	switch {
	case d == 0, d == 1 && len(known) >= few, d == 2 && len(known) >= some:
		return true
	case len(name) <= few:
		return false
	}
	more, longer := strings.CutPrefix(name, known)
	return longer && !strings.HasPrefix(more, "-") || strings.HasPrefix(known, name)
}

// distance returns how many letters must be added, taken away, changed or swapped with
// the next to make b of a (optimal string alignment).
func distance(a, b string) int {
	table := make([][]int, len(a)+1) // of the distances between all beginnings
	for i := range table {
		table[i] = make([]int, len(b)+1)
		for j := range table[i] {
			if i == 0 || j == 0 {
				table[i][j] = i + j
				continue
			}
			change := table[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			table[i][j] = min(change, table[i-1][j]+1, table[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				table[i][j] = min(table[i][j], table[i-2][j-2]+1)
			}
		}
	}
	return table[len(a)][len(b)]
}

// meant asks whether a setting was meant, at the end of a sentence.
func meant(before string, one *setting) string {
	if one == nil {
		return ""
	}
	return ", is " + before + one.name + " meant?"
}

func (s *settings) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

// warnIgnored warns of parts of a file that are not used.
func (s *settings) warnIgnored(setting string, ignored []string) {
	for _, what := range ignored {
		s.warn("%s: ignored: %s", setting, what)
	}
}

// logWarnings writes a line for each warning that has not been told yet.
func (s *settings) logWarnings(logger *slog.Logger) {
	for _, warning := range s.warnings {
		logger.Warn("a setting may be wrong", "warning", warning)
	}
	s.warnings = nil
}

// printWarnings prints them for people.
func (s *settings) printWarnings(w io.Writer) {
	for _, warning := range s.warnings {
		fmt.Fprintf(w, "%s: %s\n", s.program, warning)
	}
	s.warnings = nil
}

// tellWarnings tells them as a program that is used by hand tells everything else.
func (s *settings) tellWarnings(w io.Writer) {
	if s.log == logJSON {
		s.logWarnings(s.logger(w, slog.LevelWarn))
	} else {
		s.printWarnings(w)
	}
}
