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

// settings is everything that can be set of one program. A flag beats the
// environment, the environment beats the config file, and that beats the
// default. A wrong value is refused with the name of its source, its key, itself
// and what is allowed.
type settings struct {
	program string
	about   string // what the program does, for the usage
	prefix  string // of its environment variables, without the underscore
	flags   *flag.FlagSet
	list    []*setting // in the order of the usage

	// What may stand behind the flags. Most programs take nothing there.
	operandUsage   string   // for the usage, such as "[text]"
	operandChoices []string // that it can be; nil: anything
	operands       []string // at most one, after parse
	notes          string   // for the end of the usage

	// What every program has.
	logFormat   string
	logLevel    string // a key of logLevels
	configPath  string
	showVersion bool

	// What some have, see addShowFlags.
	checkOnly   bool
	printConfig bool

	// While read runs.
	source   source
	line     int   // of the config file
	valueErr error // why the last wrong value was refused

	// After read: what was not wrong, and is worth a line all the same.
	warnings []string
}

// source is where a value comes from.
type source int

const (
	fromFlag source = iota
	fromEnvironment
	fromFile
)

// setting is one flag, with its variable and its line in the config file. It
// implements flag.Value for the standard library's parser.
type setting struct {
	owner        *settings
	name         string
	usage        string
	limits       string
	allowed      string
	choices      []string
	isPath       bool
	defaultValue string // the default
	check        func(text string) error
	set          func(text string) error
	get          func() string
	isBool       bool
	attrs        flagAttr
	origin       string // where its value comes from, in words
}

// flagAttr is what is special about a setting; several are added up with |.
type flagAttr int

const (
	// secret settings are never shown, only whether they are set.
	secret flagAttr = 1 << iota

	// reloadable settings can change while the program runs.
	reloadable

	// commandLineOnly settings ask for something to be printed instead of the program's work. Only the
	// command line can ask: a variable or a line that is always there would keep the
	// program from ever working.
	commandLineOnly

	// notInFile settings can come from anywhere but the config file.
	notInFile
)

func (st *setting) is(attr flagAttr) bool { return st.attrs&attr != 0 }

// newSettings returns the settings that every program has.
func newSettings(program, prefix, about string) *settings {
	s := &settings{
		program: program,
		about:   about,
		prefix:  prefix,
		flags:   flag.NewFlagSet(program, flag.ContinueOnError),
	}
	s.flags.SetOutput(io.Discard) // parse says it better
	return s
}

// addCommonFlags adds the settings that every program has, at the end of the usage. level is what is
// special about -log-level.
func (s *settings) addCommonFlags(levelAttrs ...flagAttr) {
	addSetting(s, &s.logFormat, "log", logText, oneOf(logText, logJSON), "form of the log lines on standard error")
	addSetting(s, &s.logLevel, "log-level", "info", oneOf("debug", "info", "warn", "error"),
		"least level of log lines that are written", levelAttrs...)
	addSetting(s, &s.configPath, "config", "", filePath(), "file with a setting per line", notInFile)
	addSetting(s, &s.showVersion, "version", false, boolean(), "print the version and end", commandLineOnly|notInFile)
}

// addSetting adds a setting that is kept in dst. Usually nothing is special about it.
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
	if st.get == nil { // the flag package asks a zero value too
		return ""
	}
	return st.get()
}

// IsBoolFlag makes -stat mean -stat=true.
func (st *setting) IsBoolFlag() bool { return st.isBool }

// Set implements flag.Value.
func (st *setting) Set(text string) error {
	if st.is(commandLineOnly) && st.owner.source == fromEnvironment {
		return nil // HUB_VERSION is common where many things are configured, and not meant for us
	}
	if err := st.set(text); err != nil {
		return st.valueError(text, err)
	}
	st.origin = st.owner.origin(st)
	return nil
}

// valueError says what is wrong with a value: where it stands, what it is, and what
// is allowed.
func (st *setting) valueError(text string, err error) error {
	key := st.asWritten(text)
	var invalid invalidPartError
	if errors.As(err, &invalid) && !st.is(secret) {
		key += ": " + invalid.Error()
	}
	st.owner.valueErr = fmt.Errorf("%s: allowed are %s", key, st.allowed)
	return st.owner.valueErr
}

// asWritten names the setting and the value as they stand in the source.
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

// origin says where the value comes from that is being set.
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

// lookup returns the setting of a name, or nil.
func (s *settings) lookup(name string) *setting {
	for _, st := range s.list {
		if st.name == name {
			return st
		}
	}
	return nil
}

// envVar returns the name of a setting in the environment.
func (s *settings) envVar(name string) string {
	return s.prefix + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// isSet reports whether a setting was set by anything but its default.
func (s *settings) isSet(name string) (yes bool) {
	s.flags.Visit(func(f *flag.Flag) { yes = yes || f.Name == name })
	return yes
}

// parse reads the settings from all sources. When it returns done there is
// nothing left to do but to exit with the code: it has printed what was asked
// for, or what is wrong.
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

// read reads the settings from all sources, unless the command line asks for what does not
// depend on the others.
func (s *settings) read(args []string) error {
	err := s.parseFlags(args)
	if err != nil || s.showVersion || s.printConfig {
		return err
	}
	s.checkEnv()
	return s.parseEnvAndFile()
}

// printUsageError prints what is wrong with the settings. How they are used would be so many lines
// that it would be out of sight.
func (s *settings) printUsageError(p Process, err error) int {
	fmt.Fprintf(p.Stderr, "%[1]s: %[2]v\n\"%[1]s -h\" tells what can be set, and how\n", s.program, err)
	return ExitUsage
}

// parseFlags reads the command line. That is done before ff looks at the
// rest, so that a refused value is known to come from here.
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
			return fmt.Errorf("%q after %s: true and false are written with a sign, %s=%s", extra, previous, previous, extra)
		}
	}
	return fmt.Errorf("%q is not a flag: they are written -name=value", extra)
}

// parseOperands takes what stands behind the flags.
func (s *settings) parseOperands(args []string) error {
	s.operands = args
	if len(args) == 1 {
		return nil
	}
	if extra := args[1]; strings.HasPrefix(extra, "-") {
		return fmt.Errorf("%q stands behind %q: flags come first", extra, args[0])
	}
	return fmt.Errorf("%q is one too many: what belongs together is put in quotes", args[1])
}

// parseEnvAndFile reads what the command line left open from the environment and
// then the config file.
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

// valueErrOr returns why a value was refused in our words when it was ours that
// refused it, and otherwise what the parser says.
func (s *settings) valueErrOr(err error) error {
	if err != nil && s.valueErr != nil {
		return s.valueErr
	}
	return err
}

// explain adds to what the parser of flags says what would be right.
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

// quoted returns a value as it is, unless that would spoil the line.
func quoted(text string) string {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
