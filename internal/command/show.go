package command

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// addShowFlags adds the settings of programs that can print their configuration.
func (s *settings) addShowFlags() {
	addSetting(s, &s.checkOnly, "check", false, boolean(),
		"validate all settings, print them with their sources, and\nexit", commandLineOnly|notInFile)
	addSetting(s, &s.printConfig, "print-config", false, boolean(), "print a config file with all defaults, and exit", commandLineOnly|notInFile)
}

// printOutput prints text to standard output and returns the exit code.
func (s *settings) printOutput(p Process, text string) int {
	_, err := io.WriteString(p.Stdout, text)
	switch {
	case errors.Is(err, errOutputClosed):
		return ExitPipe
	case err != nil:
		fmt.Fprintf(p.Stderr, "%s: cannot print: %v\n", s.program, err)
		return ExitFailure
	}
	return ExitOK
}

// configTemplate returns a config file that sets nothing: each setting is a comment that shows
// the default.
func (s *settings) configTemplate() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Configuration of %s, for -config. Each line that begins with # and no
# space shows a default: remove the # to change the value. Flags and environment
# variables override this file; the variable of max-this is %s.
`, s.program, s.envVar("max-this"))
	if slices.ContainsFunc(s.list, func(st *setting) bool { return st.is(reloadable) }) {
		fmt.Fprint(&b, "# Reloadable settings are applied on SIGHUP; the others require a restart.\n")
	}
	for _, st := range s.list {
		if st.is(notInFile) {
			continue
		}
		fmt.Fprintf(&b, "\n# %s\n", strings.ReplaceAll(st.usage, "\n", "\n# "))
		if st.allowed != "" {
			fmt.Fprintf(&b, "# Allowed are %s.\n", st.allowed)
		}
		if st.is(reloadable) {
			fmt.Fprintln(&b, "# Reloadable.")
		}
		fmt.Fprintf(&b, "#%s\n", strings.TrimSpace(st.name+" = "+st.defaultValue))
	}
	return b.String()
}

// effectiveConfig returns the current settings as a config file. A comment after each setting
// names the source of the value.
func (s *settings) effectiveConfig() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The settings of %s are valid. The comment after each names its source.\n", s.program)
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, st := range s.list {
		if !st.is(commandLineOnly) {
			fmt.Fprintf(table, "%s\t# %s\n", s.configLine(st), st.origin)
		}
	}
	table.Flush()
	return b.String()
}

// configLine returns the line of a config file that sets the current value, or a comment if
// the value cannot be written in a config file.
func (s *settings) configLine(st *setting) string {
	value := st.get()
	line := strings.TrimSpace(st.name + " = " + value)
	if _, parsed, err := s.parseLine(line); err == nil && parsed == value && quoted(line) == line && !st.is(secret) {
		return line
	}
	return "# " + st.name + " = " + st.displayValue()
}

// displayValue returns the value for users.
func (st *setting) displayValue() string { return st.formatValue(st.get()) }

// formatValue returns value, which need not be valid, for users. It hides a secret.
func (st *setting) formatValue(value string) string {
	switch {
	case !st.is(secret):
		return quoted(value)
	case value == "":
		return "(not set)"
	default:
		return "(set)"
	}
}

// logChange logs the current value of the setting, and the value and source of next.
func (st *setting) logChange(log func(string, ...any), message string, next *setting) {
	log(message, "setting", st.name, "old", st.displayValue(), "new", next.displayValue(), "source", next.origin)
}
