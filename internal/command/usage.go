package command

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// printUsage prints what can be set, with the defaults and what is allowed.
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
Each but %[4]s can also be set in the environment, -%[1]s
as %[2]s, or in the file that -config names, by a line such as "%[1]s=%[3]s".
A flag beats the environment, which beats the file. Sizes are bytes or have a unit
(65536, 64KiB, 256MiB), times have one (500ms, 10s, 1m30s).
`, first.name, s.envVar(first.name), first.defaultValue, s.commandLineOnlyFlags())
	if s.notes != "" {
		fmt.Fprintf(w, "\n%s\n", s.notes)
	}
}

// usageSuffix returns what else there is to know of a setting, for the end of its usage.
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

// commandLineOnlyFlags names the settings that only a flag can set.
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
