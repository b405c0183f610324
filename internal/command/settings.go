package command

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"

	"github.com/peterbourgon/ff/v3"
)

// settings are all settings of one program. Flags override environment variables, environment
// variables override the config file, and the config file overrides the defaults. The error of
// an invalid value names the source, the key, the value and the allowed values.
type settings struct {
	program string
	about   string // description of the program, for the usage
	prefix  string // of the environment variables, without the underscore
	flags   *flag.FlagSet
	list    []*setting // in the order of the usage

	// The operand after the flags. Most programs have none.
	operandUsage   string   // for the usage, such as "[text]"; empty: no operand
	operandChoices []string // allowed values; nil: any text
	operands       []string // set by parse; at most one
	notes          string   // printed at the end of the usage

	// Common to all programs, see addCommonFlags.
	logFormat   string
	logLevel    string // a key of logLevels
	configPath  string
	showVersion bool

	// Of some programs, see addShowFlags.
	checkOnly   bool
	printConfig bool

	// Used while read runs.
	source   source
	line     int   // of the config file
	valueErr error // error of the last invalid value

	// Set by read: problems that are not errors.
	warnings []string
}

// source is the source of a value.
type source int

const (
	fromFlag source = iota
	fromEnvironment
	fromFile
)

// setting is one setting: a flag with its environment variable and its line in the config
// file. It implements flag.Value.
type setting struct {
	owner        *settings
	name         string
	usage        string
	limits       string
	allowed      string
	choices      []string
	isPath       bool
	defaultValue string // formatted
	check        func(text string) error
	set          func(text string) error
	get          func() string
	isBool       bool
	attrs        flagAttr
	origin       string // source of the value, for users
}

// flagAttr is a set of attributes of a setting.
type flagAttr int

const (
	// secret marks a setting whose value is never shown. Only whether the setting has a value is
	// shown.
	secret flagAttr = 1 << iota

	// reloadable marks a setting that can change while the program runs.
	reloadable

	// commandLineOnly marks a setting that makes the program print something and exit. Only a
	// flag can set it: a permanent environment variable or line would prevent the program from
	// working.
	commandLineOnly

	// notInFile marks a setting that is not allowed in the config file.
	notInFile
)

func (st *setting) is(attr flagAttr) bool { return st.attrs&attr != 0 }

// newSettings returns the settings of a program, still without any setting.
func newSettings(program, prefix, about string) *settings {
	s := &settings{
		program: program,
		about:   about,
		prefix:  prefix,
		flags:   flag.NewFlagSet(program, flag.ContinueOnError),
	}
	s.flags.SetOutput(io.Discard) // parse prints a better message
	return s
}

// addCommonFlags adds the settings that all programs have, at the end of the usage. levelAttrs
// are the attributes of -log-level.
func (s *settings) addCommonFlags(levelAttrs ...flagAttr) {
	addSetting(s, &s.logFormat, "log", logText, oneOf(logText, logJSON), "format of the log lines on standard error")
	addSetting(s, &s.logLevel, "log-level", "info", oneOf("debug", "info", "warn", "error"),
		"minimum level of log lines", levelAttrs...)
	addSetting(s, &s.configPath, "config", "", filePath(), "config file, with one setting per line", notInFile)
	addSetting(s, &s.showVersion, "version", false, boolean(), "print the version and exit", commandLineOnly|notInFile)
}

// addSetting adds a setting whose value is stored in dst.
func addSetting[T any](s *settings, dst *T, name string, defaultValue T, typ valueType[T], usage string, attrs ...flagAttr) {
	*dst = defaultValue
	_, isBool := any(defaultValue).(bool)
	st := &setting{
		owner: s, name: name, usage: usage, limits: typ.limits, allowed: typ.allowed, isBool: isBool,
		choices: typ.choices, isPath: typ.isPath,
		defaultValue: typ.format(defaultValue),
		origin:       "default",
		get:          func() string { return typ.format(*dst) },
		check: func(text string) error {
			_, err := typ.parse(text)
			return err
		},
		set: func(text string) error {
			value, err := typ.parse(text)
			if err == nil {
				*dst = value
			}
			return err
		},
	}
	for _, attr := range attrs {
		st.attrs |= attr
	}
	s.list = append(s.list, st)
	s.flags.Var(st, name, usage)
}

// String implements flag.Value.
func (st *setting) String() string {
	if st.get == nil { // package flag also calls String on a zero value
		return ""
	}
	return st.get()
}

// IsBoolFlag makes package flag accept a boolean flag without a value: -stat means -stat=true.
func (st *setting) IsBoolFlag() bool { return st.isBool }

// Set implements flag.Value.
func (st *setting) Set(text string) error {
	if st.is(commandLineOnly) && st.owner.source == fromEnvironment {
		return nil // a variable such as HUB_VERSION can belong to another program
	}
	if err := st.set(text); err != nil {
		return st.valueError(text, err)
	}
	st.origin = st.owner.origin(st)
	return nil
}

// valueError returns and stores the error of an invalid value: where the value is set, the
// value itself, and the allowed values.
func (st *setting) valueError(text string, err error) error {
	key := st.asWritten(text)
	var invalid invalidPartError
	if errors.As(err, &invalid) && !st.is(secret) {
		key += ": " + invalid.Error()
	}
	st.owner.valueErr = fmt.Errorf("%s: allowed are %s", key, st.allowed)
	return st.owner.valueErr
}

// asWritten returns the setting and the value as they are written in the source.
func (st *setting) asWritten(text string) string {
	text = quoted(text)
	if st.is(secret) {
		text = "(hidden)"
	}
	switch st.owner.source {
	case fromEnvironment:
		return fmt.Sprintf("%s=%s", st.owner.envVar(st.name), text)
	case fromFile:
		return fmt.Sprintf("%s: %s %s", st.owner.position(), st.name, text)
	default:
		return fmt.Sprintf("-%s=%s", st.name, text)
	}
}

// origin returns the source of the value that is being set, for users.
func (s *settings) origin(st *setting) string {
	switch s.source {
	case fromEnvironment:
		return "environment variable " + s.envVar(st.name)
	case fromFile:
		return s.position()
	default:
		return "flag"
	}
}

// lookup returns the setting with the given name, or nil.
func (s *settings) lookup(name string) *setting {
	for _, st := range s.list {
		if st.name == name {
			return st
		}
	}
	return nil
}

// envVar returns the name of the environment variable of a setting.
func (s *settings) envVar(name string) string {
	return s.prefix + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// isSet reports whether a flag, an environment variable or the config file has set a setting.
func (s *settings) isSet(name string) (yes bool) {
	s.flags.Visit(func(f *flag.Flag) { yes = yes || f.Name == name })
	return yes
}

// parse reads the settings from all sources. If done is true, parse has printed the requested
// output or an error, and the program must exit with code.
func (s *settings) parse(p Process) (code int, done bool) {
	err := s.read(p.Args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		s.printUsage(p.Stdout)
		return ExitOK, true
	case err != nil:
		return s.printUsageError(p, err), true
	case s.showVersion:
		fmt.Fprintln(p.Stdout, version(s.program))
		return ExitOK, true
	case s.printConfig:
		return s.printOutput(p, s.configTemplate()), true
	}
	return ExitOK, false
}

// read reads the settings from all sources. If the command line requests the version or the
// default configuration, it reads only the command line.
func (s *settings) read(args []string) error {
	err := s.parseFlags(args)
	if err != nil || s.showVersion || s.printConfig {
		return err
	}
	s.checkEnv()
	return s.parseEnvAndFile()
}

// printUsageError prints err and a hint how to get the usage. It does not print the usage,
// which is so long that err would scroll out of sight.
func (s *settings) printUsageError(p Process, err error) int {
	fmt.Fprintf(p.Stderr, "%[1]s: %[2]v\n\"%[1]s -h\" lists all settings\n", s.program, err)
	return ExitUsage
}

// parseFlags reads the command line. It runs before ff reads the other sources, because the
// error of an invalid value must name the right source.
func (s *settings) parseFlags(args []string) error {
	s.source = fromFlag
	if err := s.flags.Parse(args); err != nil {
		return s.explain(s.valueErrOr(err))
	}
	if s.flags.NArg() == 0 {
		return nil
	}
	if s.operandUsage != "" {
		return s.parseOperands(s.flags.Args())
	}
	extra := s.flags.Arg(0)
	if len(args) > s.flags.NArg() {
		previous := args[len(args)-s.flags.NArg()-1]
		if f := s.flags.Lookup(strings.TrimLeft(previous, "-")); f != nil && strings.HasPrefix(previous, "-") {
			return fmt.Errorf("%q after %s: boolean values need an equals sign, %s=%s", extra, previous, previous, extra)
		}
	}
	return fmt.Errorf("%q is not a flag: write flags as -name=value", extra)
}

// parseOperands stores the operand after the flags. It returns an error if there are several.
func (s *settings) parseOperands(args []string) error {
	s.operands = args
	if len(args) == 1 {
		return nil
	}
	if extra := args[1]; strings.HasPrefix(extra, "-") {
		return fmt.Errorf("%q follows %q: flags come first", extra, args[0])
	}
	return fmt.Errorf("%q is an extra argument: put a text with spaces in quotes", args[1])
}

// parseEnvAndFile reads the settings that the command line has not set from environment
// variables and the config file.
func (s *settings) parseEnvAndFile() error {
	s.source = fromEnvironment
	err := ff.Parse(s.flags, nil,
		ff.WithEnvVarPrefix(s.prefix),
		ff.WithConfigFileFlag("config"),
		ff.WithConfigFileParser(s.readConfigFile),
	)
	var file *os.PathError
	if errors.As(err, &file) {
		return fmt.Errorf("config file: %w", file)
	}
	return s.valueErrOr(err)
}

// valueErrOr returns the stored error of an invalid value, which is better for users than err,
// the error of the parser. If there is no stored error, or err is nil, it returns err.
func (s *settings) valueErrOr(err error) error {
	if err != nil && s.valueErr != nil {
		return s.valueErr
	}
	return err
}

// explain adds a hint to an error of package flag.
func (s *settings) explain(err error) error {
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		return fmt.Errorf("%w%s", err, didYouMean("-", s.similar(name, 0)))
	}
	if name, ok := strings.CutPrefix(err.Error(), "flag needs an argument: -"); ok {
		if st := s.lookup(name); st != nil && st.allowed != "" {
			return fmt.Errorf("%w: allowed are %s", err, st.allowed)
		}
	}
	return err
}

// quoted returns text as it is, or in quotes if text is empty or has unprintable characters.
func quoted(text string) string {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
