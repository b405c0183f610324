package command

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// addShowFlags adds the settings of a program that prints its configuration when asked to.
func (s *settings) addShowFlags() {
	addSetting(s, &s.checkOnly, "check", false, boolean(),
		"look whether all settings are right, print them with\nwhere each comes from, and end", commandLineOnly|notInFile)
	addSetting(s, &s.printConfig, "print-config", false, boolean(), "print a config file with all defaults, and end", commandLineOnly|notInFile)
}

// printOutput prints text, and returns the exit code.
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

// configTemplate returns a config file that sets nothing: each line that would is a
// comment, and shows the default.
func (s *settings) configTemplate() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Configuration of %s, for -config. Each line that begins with a # and no
# space shows a default: take the # away to set something else. A flag or a
# variable beats what stands here; the variable of max-this is %s.
`, s.program, s.envVar("max-this"))
	if slices.ContainsFunc(s.list, func(st *setting) bool { return st.is(reloadable) }) {
		fmt.Fprint(&b, "# What is reloadable follows this file on SIGHUP, and the rest takes a restart.\n")
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

// effectiveConfig returns the settings as they are, as a config file with the source of
// each behind it.
func (s *settings) effectiveConfig() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The settings of %s are right. Behind each stands where it comes from.\n", s.program)
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, st := range s.list {
		if !st.is(commandLineOnly) {
			fmt.Fprintf(table, "%s\t# %s\n", s.configLine(st), st.origin)
		}
	}
	table.Flush()
	return b.String()
}

// configLine returns the line of a config file that sets what is set, or a comment when
// there is no such line.
func (s *settings) configLine(st *setting) string {
	value := st.get()
	line := strings.TrimSpace(st.name + " = " + value)
	if _, parsed, err := s.parseLine(line); err == nil && parsed == value && quoted(line) == line && !st.is(secret) {
		return line
	}
	return "# " + st.name + " = " + st.displayValue()
}

// displayValue returns the value for people.
func (st *setting) displayValue() string { return st.formatValue(st.get()) }

// formatValue returns a value that it has, or was to have, for people.
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

// logChange writes a line that says what a setting has, and what it would have
// now.
func (st *setting) logChange(log func(string, ...any), message string, next *setting) {
	log(message, "setting", st.name, "old", st.displayValue(), "new", next.displayValue(), "source", next.origin)
}
