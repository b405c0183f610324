package settings

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteUsage writes the usage of the program of s: all settings with their defaults and limits.
func WriteUsage(w io.Writer, s *Settings) {
	usage := s.Program + " [flags]"
	if s.OperandUsage != "" {
		usage += " " + s.OperandUsage
	}
	fmt.Fprintf(w, "%s\n\nUsage: %s\n\n", s.About, usage)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, st := range s.list {
		lines := strings.Split(st.Usage+st.UsageSuffix(), "\n")
		fmt.Fprintf(table, "  -%s=%s\t%s\n", st.Name, st.Default, lines[0])
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
`, first.Name, s.EnvVar(first.Name), first.Default, commandLineOnlyFlags(s))
	if s.Notes != "" {
		fmt.Fprintf(w, "\n%s\n", s.Notes)
	}
}

// commandLineOnlyFlags returns the names of the command-line-only settings.
func commandLineOnlyFlags(s *Settings) string {
	var names []string
	for _, st := range s.list {
		if st.Is(CommandLineOnly) {
			names = append(names, "-"+st.Name)
		}
	}
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
