package command

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
)

// checkEnv warns of variables that are without effect although somebody
// must have meant them for this program. It leaves alone what merely has the
// program's prefix: Kubernetes gives each container variables such as
// HUB_SERVICE_HOST when a service is called hub.
func (s *settings) checkEnv() {
	for _, st := range s.list {
		s.checkEnvVar(st, os.Getenv(s.envVar(st.name)))
	}
	for _, variable := range os.Environ() {
		key, value, _ := strings.Cut(variable, "=")
		suffix, hasPrefix := strings.CutPrefix(key, s.prefix+"_")
		if !hasPrefix || value == "" { // an empty one counts as not set
			continue
		}
		name := strings.ToLower(strings.ReplaceAll(suffix, "_", "-"))
		if s.lookup(name) != nil && os.Getenv(s.envVar(name)) == value { // Windows does not mind how it is written
			continue
		}
		if candidate := s.similar(name, commandLineOnly); candidate != nil {
			s.warn("%s is not a setting and has no effect, is %s meant?", key, s.envVar(candidate.name))
		}
	}
}

// checkEnvVar warns of the variable of a setting when it has a value that is not used.
func (s *settings) checkEnvVar(st *setting, value string) {
	switch {
	case value == "" || st.name == "version": // HUB_VERSION may well be somebody else's
	case st.is(commandLineOnly):
		s.warn("%s has no effect: only a flag can ask, -%s", s.envVar(st.name), st.name)
	case st.origin == "flag" && st.check(value) != nil:
		text := quoted(value)
		if st.is(secret) {
			text = "(hidden)"
		}
		s.warn("%s=%s would be refused if -%s did not beat it: allowed are %s", s.envVar(st.name), text, st.name, st.allowed)
	}
}

// similar returns the setting whose name is most like one that is none, or nil when
// that is like no other. Settings with any of the traits in leave are left out.
func (s *settings) similar(name string, excluded flagAttr) *setting {
	const longest = 64 // far beyond all of ours, and short enough to be compared at once
	if len(name) > longest {
		return nil
	}
	var best *setting
	minDistance := math.MaxInt
	for _, st := range s.list {
		if st.attrs&excluded != 0 {
			continue
		}
		if d := editDistance(name, st.name); d < minDistance && isTypoOf(name, st.name, d) {
			best, minDistance = st, d
		}
	}
	return best
}

// isTypoOf reports whether somebody may have meant known and written name, which is d
// edits away from it: one in three to four letters, two in more, or one word goes on
// where the other ends, such as address for addr. A further part does not count:
// port-9999-tcp is not like port.
func isTypoOf(name, known string, edits int) bool {
	const few, some = 3, 5
	switch {
	case edits == 0, edits == 1 && len(known) >= few, edits == 2 && len(known) >= some:
		return true
	case len(name) <= few:
		return false
	}
	suffix, hasPrefix := strings.CutPrefix(name, known)
	return hasPrefix && !strings.HasPrefix(suffix, "-") || strings.HasPrefix(known, name)
}

// editDistance returns how many letters must be added, taken away, changed or swapped with
// the next to make b of a (optimal string alignment).
func editDistance(a, b string) int {
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

// didYouMean asks whether a setting was meant, at the end of a sentence.
func didYouMean(prefix string, st *setting) string {
	if st == nil {
		return ""
	}
	return ", is " + prefix + st.name + " meant?"
}

func (s *settings) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

// warnIgnored warns of parts of a file that are not used.
func (s *settings) warnIgnored(setting string, ignored []string) {
	for _, item := range ignored {
		s.warn("%s: ignored: %s", setting, item)
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

// emitWarnings tells them as a program that is used by hand tells everything else.
func (s *settings) emitWarnings(w io.Writer) {
	if s.logFormat == logJSON {
		s.logWarnings(s.logger(w, slog.LevelWarn))
	} else {
		s.printWarnings(w)
	}
}
