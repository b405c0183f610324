package command

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printUsage prints the usage: all settings with their defaults and limits.
func (s *settings) printUsage(w io.Writer) {
	usage := s.program + " [flags]"
	if s.operandUsage != "" {
		usage += " " + s.operandUsage
	}
	fmt.Fprintf(w, "%s\n\nUsage: %s\n\n", s.about, usage)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, st := range s.list {
		lines := strings.Split(st.usage+st.usageSuffix(), "\n")
		fmt.Fprintf(table, "  -%s=%s\t%s\n", st.name, st.defaultValue, lines[0])
		for _, line := range lines[1:] {
			fmt.Fprintf(table, "\t%s\n", line)
		}
	}
	table.Flush()
	first := s.list[0]
	fmt.Fprintf(w, `
All but %[4]s can also be set by an environment variable, -%[1]s
by %[2]s, or in the file of -config, by a line such as "%[1]s=%[3]s".
Flags override environment variables, which override the file. Sizes are in bytes or
have a unit (65536, 64KiB, 256MiB), durations have a unit (500ms, 10s, 1m30s).
`, first.name, s.envVar(first.name), first.defaultValue, s.commandLineOnlyFlags())
	if s.notes != "" {
		fmt.Fprintf(w, "\n%s\n", s.notes)
	}
}

// usageSuffix returns the limits and attributes of a setting, to append to the help text.
func (st *setting) usageSuffix() string {
	var parts []string
	if st.limits != "" {
		parts = append(parts, st.limits)
	}
	if st.is(reloadable) {
		parts = append(parts, "reloadable")
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, "; ") + ")"
}

// commandLineOnlyFlags returns the names of the command-line-only settings.
func (s *settings) commandLineOnlyFlags() string {
	var names []string
	for _, st := range s.list {
		if st.is(commandLineOnly) {
			names = append(names, "-"+st.name)
		}
	}
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
