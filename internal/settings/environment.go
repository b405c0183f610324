package settings

import (
	"os"
	"strings"
)

// checkEnv warns of environment variables that have no effect although they were probably
// meant for the program of s. It ignores other variables with the prefix of the program: for a
// service named hub, Kubernetes sets variables such as HUB_SERVICE_HOST in each container.
func checkEnv(s *Settings) {
	for _, st := range s.list {
		checkEnvVar(s, st, os.Getenv(s.EnvVar(st.Name)))
	}
	for _, variable := range os.Environ() {
		key, value, _ := strings.Cut(variable, "=")
		suffix, hasPrefix := strings.CutPrefix(key, s.prefix+"_")
		if !hasPrefix || value == "" { // an empty variable counts as not set
			continue
		}
		name := strings.ToLower(strings.ReplaceAll(suffix, "_", "-"))
		// On Windows the names of variables ignore case.
		if s.Lookup(name) != nil && os.Getenv(s.EnvVar(name)) == value {
			continue
		}
		if candidate := similar(s.list, name, CommandLineOnly); candidate != nil {
			s.Warnings.Add("%s is not a setting and has no effect, did you mean %s?", key, s.EnvVar(candidate.Name))
		}
	}
}

// checkEnvVar warns if value, the environment variable of st, is not used.
func checkEnvVar(s *Settings, st *Setting, value string) {
	switch {
	case value == "" || st.Name == "version": // HUB_VERSION can belong to another program
	case st.Is(CommandLineOnly):
		s.Warnings.Add("%s has no effect: use the flag -%s", s.EnvVar(st.Name), st.Name)
	case st.Origin == originFlag && st.check(value) != nil:
		text := Quote(value)
		if st.Is(Secret) {
			text = "(hidden)"
		}
		s.Warnings.Add("%s=%s is invalid, but overridden by -%s: allowed are %s", s.EnvVar(st.Name), text, st.Name, st.Allowed)
	}
}
