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
	operand  string   // for the usage, such as "[text]"
	words    []string // that it can be; nil: anything
	operands []string // at most one, after parse
	notes    string   // for the end of the usage

	// What every program has.
	log     string
	level   string // a key of logLevels
	config  string
	version bool

	// What some have, see addShow.
	check bool
	print bool

	// While read runs.
	source  source
	line    int   // of the config file
	refused error // why the last wrong value was refused

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
	owner    *settings
	name     string
	usage    string
	limits   string
	want     string
	words    []string
	path     bool
	fallback string // the default
	check    func(text string) error
	set      func(text string) error
	get      func() string
	isBool   bool
	traits   trait
	origin   string // where its value comes from, in words
}

// trait is what is special about a setting; several are added up with |.
type trait int

const (
	// secret settings are never shown, only whether they are set.
	secret trait = 1 << iota

	// reloadable settings can change while the program runs.
	reloadable

	// question settings ask for something to be printed instead of the program's work. Only the
	// command line can ask: a variable or a line that is always there would keep the
	// program from ever working.
	question

	// notInFile settings can come from anywhere but the config file.
	notInFile
)

func (one *setting) is(t trait) bool { return one.traits&t != 0 }

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

// addCommon adds the settings that every program has, at the end of the usage. level is what is
// special about -log-level.
func (s *settings) addCommon(level ...trait) {
	add(s, &s.log, "log", logText, oneOf(logText, logJSON), "form of the log lines on standard error")
	add(s, &s.level, "log-level", "info", oneOf("debug", "info", "warn", "error"),
		"least level of log lines that are written", level...)
	add(s, &s.config, "config", "", path(), "file with a setting per line", notInFile)
	add(s, &s.version, "version", false, yesNo(), "print the version and end", question|notInFile)
}

// add adds a setting that is kept in dst. Usually nothing is special about it.
func add[T any](s *settings, dst *T, name string, fallback T, k kind[T], usage string, special ...trait) {
	*dst = fallback
	_, isBool := any(fallback).(bool)
	one := &setting{
		owner: s, name: name, usage: usage, limits: k.limits, want: k.want, isBool: isBool,
		words: k.words, path: k.path,
		fallback: k.format(fallback),
		origin:   "default",
		get:      func() string { return k.format(*dst) },
		check: func(text string) error {
			_, err := k.parse(text)
			return err
		},
		set: func(text string) error {
			value, err := k.parse(text)
			if err == nil {
				*dst = value
			}
			return err
		},
	}
	for _, t := range special {
		one.traits |= t
	}
	s.list = append(s.list, one)
	s.flags.Var(one, name, usage)
}

// String implements flag.Value.
func (one *setting) String() string {
	if one.get == nil { // the flag package asks a zero value too
		return ""
	}
	return one.get()
}

// IsBoolFlag makes -stat mean -stat=true.
func (one *setting) IsBoolFlag() bool { return one.isBool }

// Set implements flag.Value.
func (one *setting) Set(text string) error {
	if one.is(question) && one.owner.source == fromEnvironment {
		return nil // HUB_VERSION is common where many things are configured, and not meant for us
	}
	if err := one.set(text); err != nil {
		return one.refuse(text, err)
	}
	one.origin = one.owner.origin(one)
	return nil
}

// refuse says what is wrong with a value: where it stands, what it is, and what
// is allowed.
func (one *setting) refuse(text string, err error) error {
	key := one.key(text)
	var part wrongPart
	if errors.As(err, &part) && !one.is(secret) {
		key += ": " + part.Error()
	}
	one.owner.refused = fmt.Errorf("%s: allowed are %s", key, one.want)
	return one.owner.refused
}

// key names the setting and the value as they stand in the source.
func (one *setting) key(text string) string {
	text = shown(text)
	if one.is(secret) {
		text = "(hidden)"
	}
	switch one.owner.source {
	case fromEnvironment:
		return fmt.Sprintf("%s=%s", one.owner.variable(one.name), text)
	case fromFile:
		return fmt.Sprintf("%s: %s %s", one.owner.place(), one.name, text)
	default:
		return fmt.Sprintf("-%s=%s", one.name, text)
	}
}

// origin says where the value comes from that is being set.
func (s *settings) origin(one *setting) string {
	switch s.source {
	case fromEnvironment:
		return "environment variable " + s.variable(one.name)
	case fromFile:
		return s.place()
	default:
		return "flag"
	}
}

// lookup returns the setting of a name, or nil.
func (s *settings) lookup(name string) *setting {
	for _, one := range s.list {
		if one.name == name {
			return one
		}
	}
	return nil
}

// variable returns the name of a setting in the environment.
func (s *settings) variable(name string) string {
	return s.prefix + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// given reports whether a setting was set by anything but its default.
func (s *settings) given(name string) (yes bool) {
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
		return s.complain(p, err), true
	case s.version:
		fmt.Fprintln(p.Stdout, version(s.program))
		return ExitOK, true
	case s.print:
		return s.show(p, s.template()), true
	}
	return ExitOK, false
}

// read reads the settings from all sources, unless the command line asks for what does not
// depend on the others.
func (s *settings) read(args []string) error {
	err := s.parseArguments(args)
	if err != nil || s.version || s.print {
		return err
	}
	s.reviewVariables()
	return s.parseElsewhere()
}

// complain prints what is wrong with the settings. How they are used would be so many lines
// that it would be out of sight.
func (s *settings) complain(p Process, err error) int {
	fmt.Fprintf(p.Stderr, "%[1]s: %[2]v\n\"%[1]s -h\" tells what can be set, and how\n", s.program, err)
	return ExitUsage
}

// parseArguments reads the command line. That is done before ff looks at the
// rest, so that a refused value is known to come from here.
func (s *settings) parseArguments(args []string) error {
	s.source = fromFlag
	if err := s.flags.Parse(args); err != nil {
		return s.explain(s.reason(err))
	}
	if s.flags.NArg() == 0 {
		return nil
	}
	if s.operand != "" {
		return s.takeOperand(s.flags.Args())
	}
	extra := s.flags.Arg(0)
	if len(args) > s.flags.NArg() {
		before := args[len(args)-s.flags.NArg()-1]
		if f := s.flags.Lookup(strings.TrimLeft(before, "-")); f != nil && strings.HasPrefix(before, "-") {
			return fmt.Errorf("%q after %s: true and false are written with a sign, %s=%s", extra, before, before, extra)
		}
	}
	return fmt.Errorf("%q is not a flag: they are written -name=value", extra)
}

// takeOperand takes what stands behind the flags.
func (s *settings) takeOperand(args []string) error {
	s.operands = args
	if len(args) == 1 {
		return nil
	}
	if extra := args[1]; strings.HasPrefix(extra, "-") {
		return fmt.Errorf("%q stands behind %q: flags come first", extra, args[0])
	}
	return fmt.Errorf("%q is one too many: what belongs together is put in quotes", args[1])
}

// parseElsewhere reads what the command line left open from the environment and
// then the config file.
func (s *settings) parseElsewhere() error {
	s.source = fromEnvironment
	err := ff.Parse(s.flags, nil,
		ff.WithEnvVarPrefix(s.prefix),
		ff.WithConfigFileFlag("config"),
		ff.WithConfigFileParser(s.readFile),
	)
	var file *os.PathError
	if errors.As(err, &file) {
		return fmt.Errorf("config file: %w", file)
	}
	return s.reason(err)
}

// reason returns why a value was refused in our words when it was ours that
// refused it, and otherwise what the parser says.
func (s *settings) reason(err error) error {
	if err != nil && s.refused != nil {
		return s.refused
	}
	return err
}

// explain adds to what the parser of flags says what would be right.
func (s *settings) explain(err error) error {
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		return fmt.Errorf("%w%s", err, meant("-", s.similar(name, 0)))
	}
	if name, ok := strings.CutPrefix(err.Error(), "flag needs an argument: -"); ok {
		if one := s.lookup(name); one != nil && one.want != "" {
			return fmt.Errorf("%w: allowed are %s", err, one.want)
		}
	}
	return err
}

// shown returns a value as it is, unless that would spoil the line.
func shown(text string) string {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
