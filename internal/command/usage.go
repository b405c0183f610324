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
	if s.operand != "" {
		usage += " " + s.operand
	}
	fmt.Fprintf(w, "%s\n\nUsage: %s\n\n", s.about, usage)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, one := range s.list {
		lines := strings.Split(one.usage+one.bounds(), "\n")
		fmt.Fprintf(table, "  -%s=%s\t%s\n", one.name, one.fallback, lines[0])
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
`, first.name, s.variable(first.name), first.fallback, s.questions())
	if s.notes != "" {
		fmt.Fprintf(w, "\n%s\n", s.notes)
	}
}

// bounds returns what else there is to know of a setting, for the end of its usage.
func (one *setting) bounds() string {
	var all []string
	if one.limits != "" {
		all = append(all, one.limits)
	}
	if one.is(reloadable) {
		all = append(all, "reloadable")
	}
	if len(all) == 0 {
		return ""
	}
	return " (" + strings.Join(all, "; ") + ")"
}

// questions names the settings that only a flag can set.
func (s *settings) questions() string {
	var names []string
	for _, one := range s.list {
		if one.is(question) {
			names = append(names, "-"+one.name)
		}
	}
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
