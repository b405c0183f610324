package command

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// addShow adds the settings of a program that prints its configuration when asked to.
func (s *settings) addShow() {
	add(s, &s.check, "check", false, yesNo(),
		"look whether all settings are right, print them with\nwhere each comes from, and end", question|notInFile)
	add(s, &s.print, "print-config", false, yesNo(), "print a config file with all defaults, and end", question|notInFile)
}

// show prints text, and returns the exit code.
func (s *settings) show(p Process, text string) int {
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

// template returns a config file that sets nothing: each line that would is a
// comment, and shows the default.
func (s *settings) template() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Configuration of %s, for -config. Each line that begins with a # and no
# space shows a default: take the # away to set something else. A flag or a
# variable beats what stands here; the variable of max-this is %s.
`, s.program, s.variable("max-this"))
	if slices.ContainsFunc(s.list, func(one *setting) bool { return one.is(reloadable) }) {
		fmt.Fprint(&b, "# What is reloadable follows this file on SIGHUP, and the rest takes a restart.\n")
	}
	for _, one := range s.list {
		if one.is(notInFile) {
			continue
		}
		fmt.Fprintf(&b, "\n# %s\n", strings.ReplaceAll(one.usage, "\n", "\n# "))
		if one.want != "" {
			fmt.Fprintf(&b, "# Allowed are %s.\n", one.want)
		}
		if one.is(reloadable) {
			fmt.Fprintln(&b, "# Reloadable.")
		}
		fmt.Fprintf(&b, "#%s\n", strings.TrimSpace(one.name+" = "+one.fallback))
	}
	return b.String()
}

// effective returns the settings as they are, as a config file with the source of
// each behind it.
func (s *settings) effective() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The settings of %s are right. Behind each stands where it comes from.\n", s.program)
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, one := range s.list {
		if !one.is(question) {
			fmt.Fprintf(table, "%s\t# %s\n", s.assignment(one), one.origin)
		}
	}
	table.Flush()
	return b.String()
}

// assignment returns the line of a config file that sets what is set, or a comment when
// there is no such line.
func (s *settings) assignment(one *setting) string {
	value := one.get()
	line := strings.TrimSpace(one.name + " = " + value)
	if _, same, err := s.splitLine(line); err == nil && same == value && shown(line) == line && !one.is(secret) {
		return line
	}
	return "# " + one.name + " = " + one.shown()
}

// shown returns the value for people.
func (one *setting) shown() string { return one.shownAs(one.get()) }

// shownAs returns a value that it has, or was to have, for people.
func (one *setting) shownAs(value string) string {
	switch {
	case !one.is(secret):
		return shown(value)
	case value == "":
		return "(not set)"
	default:
		return "(set)"
	}
}

// logChange writes a line that says what a setting has, and what it would have
// now.
func (one *setting) logChange(log func(string, ...any), what string, now *setting) {
	log(what, "setting", one.name, "old", one.shown(), "new", now.shown(), "source", now.origin)
}
