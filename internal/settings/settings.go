// Package settings reads the settings of a program from flags, environment variables and a config
// file, and describes them: in the usage, in manual pages, in a Markdown reference, in a config
// file with all defaults, and in completion scripts for shells.
//
// A program declares each setting once, with Add. The package does not know programs, exit codes
// or signals: it returns errors and texts, and internal/command prints them.
package settings

import (
	"io"
	"log/slog"
	"strings"
)

// Settings are all settings of one program. Flags override environment variables, environment
// variables override the config file, and the config file overrides the defaults. The error of
// an invalid value names the source, the key, the value and the allowed values.
type Settings struct {
	Program string
	About   string // description of the program, for the usage
	Notes   string // printed at the end of the usage

	// The operand after the flags. Most programs have none.
	OperandUsage   string   // for the usage, such as "[text]"; empty: no operand
	OperandChoices []string // allowed values; nil: any text
	Operands       []string // set by Read; at most one

	// Common to all programs, see AddCommonFlags.
	LogFormat   string // LogText or LogJSON
	ShowVersion bool
	logLevel    string // a key of logLevels
	configPath  string

	// Of some programs, see AddShowFlags.
	CheckOnly   bool
	PrintConfig bool

	// Set by Read, and by others that read files which settings name.
	Warnings Warnings

	prefix string // of the environment variables, without the underscore
	list   []*Setting
}

// New returns the settings of a program, still without any setting. The names of its environment
// variables begin with prefix and an underscore.
func New(program, prefix, about string) *Settings {
	return &Settings{Program: program, About: about, prefix: prefix}
}

// Add adds a setting whose value is stored in dst.
func Add[T any](s *Settings, dst *T, name string, defaultValue T, typ Type[T], usage string, attrs ...Attr) {
	s.list = append(s.list, newSetting(dst, name, defaultValue, typ, usage, attrs))
}

// AddCommonFlags adds the settings that all programs have, at the end of the usage. levelAttrs
// are the attributes of -log-level.
func (s *Settings) AddCommonFlags(levelAttrs ...Attr) {
	Add(s, &s.LogFormat, "log", LogText, OneOf(LogText, LogJSON), "format of the log lines on standard error")
	Add(s, &s.logLevel, "log-level", "info", OneOf("debug", "info", "warn", "error"),
		"minimum level of log lines", levelAttrs...)
	Add(s, &s.configPath, "config", "", FilePath(), "config file, with one setting per line", NotInFile)
	Add(s, &s.ShowVersion, "version", false, Boolean(), "print the version and exit", CommandLineOnly|NotInFile)
}

// AddShowFlags adds the settings of programs that can print their configuration.
func (s *Settings) AddShowFlags() {
	Add(s, &s.CheckOnly, "check", false, Boolean(),
		"validate all settings, print them with their sources, and\nexit", CommandLineOnly|NotInFile)
	Add(s, &s.PrintConfig, "print-config", false, Boolean(), "print a config file with all defaults, and exit", CommandLineOnly|NotInFile)
}

// List returns all settings, in the order of the usage.
func (s *Settings) List() []*Setting { return s.list }

// Lookup returns the setting with the given name, or nil.
func (s *Settings) Lookup(name string) *Setting {
	for _, st := range s.list {
		if st.Name == name {
			return st
		}
	}
	return nil
}

// EnvVar returns the name of the environment variable of a setting.
func (s *Settings) EnvVar(name string) string {
	return s.prefix + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// IsSet reports whether a flag, an environment variable or the config file has set a setting.
func (s *Settings) IsSet(name string) bool {
	st := s.Lookup(name)
	return st != nil && st.Origin != originDefault
}

// LogLevel returns the level of -log-level.
func (s *Settings) LogLevel() slog.Level { return logLevels[s.logLevel] }

// Logger returns a logger that writes to w from the level of -log-level on, but not below
// minLevel.
func (s *Settings) Logger(w io.Writer, minLevel slog.Level) *slog.Logger {
	return NewLogger(w, s.LogFormat, max(minLevel, s.LogLevel()))
}
