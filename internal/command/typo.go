package command

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
)

// checkEnv warns of environment variables that have no effect although they were probably
// meant for this program. It ignores other variables with the prefix of the program: for a
// service named hub, Kubernetes sets variables such as HUB_SERVICE_HOST in each container.
func (s *settings) checkEnv() {
	for _, st := range s.list {
		s.checkEnvVar(st, os.Getenv(s.envVar(st.name)))
	}
	for _, variable := range os.Environ() {
		key, value, _ := strings.Cut(variable, "=")
		suffix, hasPrefix := strings.CutPrefix(key, s.prefix+"_")
		if !hasPrefix || value == "" { // an empty variable counts as not set
			continue
		}
		name := strings.ToLower(strings.ReplaceAll(suffix, "_", "-"))
		// On Windows the names of variables ignore case.
		if s.lookup(name) != nil && os.Getenv(s.envVar(name)) == value {
			continue
		}
		if candidate := s.similar(name, commandLineOnly); candidate != nil {
			s.warn("%s is not a setting and has no effect, did you mean %s?", key, s.envVar(candidate.name))
		}
	}
}

// checkEnvVar warns if value, the environment variable of st, is not used.
func (s *settings) checkEnvVar(st *setting, value string) {
	switch {
	case value == "" || st.name == "version": // HUB_VERSION can belong to another program
	case st.is(commandLineOnly):
		s.warn("%s has no effect: use the flag -%s", s.envVar(st.name), st.name)
	case st.origin == "flag" && st.check(value) != nil:
		text := quoted(value)
		if st.is(secret) {
			text = "(hidden)"
		}
		s.warn("%s=%s is invalid, but overridden by -%s: allowed are %s", s.envVar(st.name), text, st.name, st.allowed)
	}
}

// similar returns the setting whose name is most similar to name, or nil if no name is
// similar. It skips settings that have any attribute of excluded.
func (s *settings) similar(name string, excluded flagAttr) *setting {
	const longest = 64 // far longer than all names of settings, and fast to compare
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

// isTypoOf reports whether name, at the given edit distance from known, is likely a typo of
// known: one edit in names of three or four letters, two edits in longer names, or one name is
// a prefix of the other, as address and addr. A further part after a dash does not count:
// port-9999-tcp is not a typo of port.
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

// editDistance returns the minimum number of letters to insert, delete, change or swap with
// the next letter to turn a into b (optimal string alignment distance).
func editDistance(a, b string) int {
	table := make([][]int, len(a)+1) // distances between all prefixes of a and b
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

// didYouMean returns the question whether st was meant, to append to a sentence, or "" if st
// is nil.
func didYouMean(prefix string, st *setting) string {
	if st == nil {
		return ""
	}
	return ", did you mean " + prefix + st.name + "?"
}

func (s *settings) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

// warnIgnored warns of ignored parts of a file.
func (s *settings) warnIgnored(setting string, ignored []string) {
	for _, item := range ignored {
		s.warn("%s: ignored: %s", setting, item)
	}
}

// logWarnings logs the warnings and clears them.
func (s *settings) logWarnings(logger *slog.Logger) {
	for _, warning := range s.warnings {
		logger.Warn("a setting may be wrong", "warning", warning)
	}
	s.warnings = nil
}

// printWarnings prints the warnings as sentences and clears them.
func (s *settings) printWarnings(w io.Writer) {
	for _, warning := range s.warnings {
		fmt.Fprintf(w, "%s: %s\n", s.program, warning)
	}
	s.warnings = nil
}

// emitWarnings logs the warnings with -log=json, and otherwise prints them as sentences.
func (s *settings) emitWarnings(w io.Writer) {
	if s.logFormat == logJSON {
		s.logWarnings(s.logger(w, slog.LevelWarn))
	} else {
		s.printWarnings(w)
	}
}
