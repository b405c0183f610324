package settings

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// ConfigTemplate returns a config file that sets nothing: each setting is a comment that shows
// the default.
func ConfigTemplate(s *Settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# Configuration of %s, for -config. Each line that begins with # and no
# space shows a default: remove the # to change the value. Flags and environment
# variables override this file; the variable of max-this is %s.
`, s.Program, s.EnvVar("max-this"))
	if slices.ContainsFunc(s.list, func(st *Setting) bool { return st.Is(Reloadable) }) {
		fmt.Fprint(&b, "# Reloadable settings are applied on SIGHUP; the others require a restart.\n")
	}
	for _, st := range s.list {
		if st.Is(NotInFile) {
			continue
		}
		fmt.Fprintf(&b, "\n# %s\n", strings.ReplaceAll(st.Usage, "\n", "\n# "))
		if st.Allowed != "" {
			fmt.Fprintf(&b, "# Allowed are %s.\n", st.Allowed)
		}
		if st.Is(Reloadable) {
			fmt.Fprintln(&b, "# Reloadable.")
		}
		fmt.Fprintf(&b, "#%s\n", strings.TrimSpace(st.Name+" = "+st.Default))
	}
	return b.String()
}

// EffectiveConfig returns the current settings as a config file. A comment after each setting
// names the source of the value.
func EffectiveConfig(s *Settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The settings of %s are valid. The comment after each names its source.\n", s.Program)
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, st := range s.list {
		if !st.Is(CommandLineOnly) {
			fmt.Fprintf(table, "%s\t# %s\n", configLine(s, st), st.Origin)
		}
	}
	table.Flush()
	return b.String()
}

// configLine returns the line of a config file that sets the current value, or a comment if
// the value cannot be written in a config file.
func configLine(s *Settings, st *Setting) string {
	value := st.Value()
	line := strings.TrimSpace(st.Name + " = " + value)
	if _, parsed, err := parseLine(s, line); err == nil && parsed == value && Quote(line) == line && !st.Is(Secret) {
		return line
	}
	return "# " + st.Name + " = " + st.DisplayValue()
}
