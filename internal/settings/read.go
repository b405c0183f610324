package settings

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/peterbourgon/ff/v3"
)

// Read reads the settings from all sources. If the command line requests the version or the
// default configuration, it reads only the command line. The error is flag.ErrHelp if the command
// line requests the usage.
func (s *Settings) Read(args []string) error {
	r := newReader(s)
	err := r.parseFlags(args)
	if err != nil || s.ShowVersion || s.PrintConfig {
		return err
	}
	checkEnv(s)
	return r.parseEnvAndFile()
}

// source is the source of a value.
type source int

const (
	fromFlag source = iota
	fromEnvironment
	fromFile
)

// reader reads settings from one source after another.
type reader struct {
	settings *Settings
	flags    *flag.FlagSet
	source   source     // that is being read
	file     configFile // valid while source is fromFile
	valueErr error      // error of the last invalid value
}

// newReader returns a reader that stores the values in s.
func newReader(s *Settings) *reader {
	r := &reader{settings: s, flags: flag.NewFlagSet(s.Program, flag.ContinueOnError)}
	r.flags.SetOutput(io.Discard) // the programs print a better message
	for _, st := range s.list {
		r.flags.Var(flagValue{st, r}, st.Name, st.Usage)
	}
	return r
}

// flagValue is a setting that reader reads. It implements flag.Value.
type flagValue struct {
	*Setting
	reader *reader
}

// String implements flag.Value.
func (v flagValue) String() string {
	if v.Setting == nil { // package flag also calls String on a zero value
		return ""
	}
	return v.get()
}

// IsBoolFlag makes package flag accept a bare flag: -stat means -stat=true.
func (v flagValue) IsBoolFlag() bool { return v.Bare }

// Set implements flag.Value.
func (v flagValue) Set(text string) error {
	if v.Is(CommandLineOnly) && v.reader.source == fromEnvironment {
		return nil // a variable such as HUB_VERSION can belong to another program
	}
	if err := v.set(text); err != nil {
		return v.reader.valueError(v.Setting, text, err)
	}
	v.Origin = v.reader.origin(v.Setting)
	return nil
}

// valueError returns and stores the error of an invalid value: where the value is set, the
// value itself, and the allowed values.
func (r *reader) valueError(st *Setting, text string, err error) error {
	key := r.asWritten(st, text)
	var part InvalidPartError
	var entry InvalidEntryError
	switch {
	case errors.As(err, &entry):
		key += ": " + entry.Error()
	case errors.As(err, &part) && !st.Is(Secret):
		key += ": " + part.Error()
	}
	r.valueErr = fmt.Errorf("%s: allowed are %s", key, st.Allowed)
	return r.valueErr
}

// asWritten returns the setting and the value as they are written in the source.
func (r *reader) asWritten(st *Setting, text string) string {
	text = Quote(text)
	if st.Is(Secret) {
		text = "(hidden)"
	}
	switch r.source {
	case fromEnvironment:
		return fmt.Sprintf("%s=%s", r.settings.EnvVar(st.Name), text)
	case fromFile:
		return fmt.Sprintf("%s: %s %s", r.file.position(), st.Name, text)
	default:
		return fmt.Sprintf("-%s=%s", st.Name, text)
	}
}

// origin returns the source of the value that is being set, for users.
func (r *reader) origin(st *Setting) string {
	switch r.source {
	case fromEnvironment:
		return "environment variable " + r.settings.EnvVar(st.Name)
	case fromFile:
		return r.file.position()
	default:
		return originFlag
	}
}

// parseFlags reads the command line. It runs before ff reads the other sources, because the
// error of an invalid value must name the right source.
func (r *reader) parseFlags(args []string) error {
	r.source = fromFlag
	if err := r.flags.Parse(args); err != nil {
		return r.explain(r.valueErrOr(err))
	}
	if r.flags.NArg() == 0 {
		return nil
	}
	if r.settings.OperandUsage != "" {
		return r.parseOperands(r.flags.Args())
	}
	extra := r.flags.Arg(0)
	if len(args) > r.flags.NArg() {
		previous := args[len(args)-r.flags.NArg()-1]
		if f := r.flags.Lookup(strings.TrimLeft(previous, "-")); f != nil && strings.HasPrefix(previous, "-") {
			return fmt.Errorf("%q after %s: boolean values need an equals sign, %s=%s", extra, previous, previous, extra)
		}
	}
	return fmt.Errorf("%q is not a flag: write flags as -name=value", extra)
}

// parseOperands stores the operand after the flags. It returns an error if there are several.
func (r *reader) parseOperands(args []string) error {
	r.settings.Operands = args
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
func (r *reader) parseEnvAndFile() error {
	r.source = fromEnvironment
	err := ff.Parse(r.flags, nil,
		ff.WithEnvVarPrefix(r.settings.prefix),
		ff.WithConfigFileFlag("config"),
		ff.WithConfigFileParser(r.parseFile),
	)
	var file *os.PathError
	if errors.As(err, &file) {
		return fmt.Errorf("config file: %w", file)
	}
	return r.valueErrOr(err)
}

// parseFile reads the config file for package ff, and passes each setting to set.
func (r *reader) parseFile(text io.Reader, set func(name, value string) error) error {
	r.source = fromFile
	r.file = configFile{settings: r.settings}
	return r.file.parse(text, func(st *Setting, value string) error {
		// Check the value even if a flag or a variable overrides it.
		if err := st.check(value); err != nil {
			return r.valueError(st, value, err)
		}
		return set(st.Name, value)
	})
}

// valueErrOr returns the stored error of an invalid value, which is better for users than err,
// the error of the parser. If there is no stored error, or err is nil, it returns err.
func (r *reader) valueErrOr(err error) error {
	if err != nil && r.valueErr != nil {
		return r.valueErr
	}
	return err
}

// explain adds a hint to an error of package flag.
func (r *reader) explain(err error) error {
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		return fmt.Errorf("%w%s", err, didYouMean("-", similar(r.settings.list, name, 0)))
	}
	if name, ok := strings.CutPrefix(err.Error(), "flag needs an argument: -"); ok {
		if st := r.settings.Lookup(name); st != nil && st.Allowed != "" {
			return fmt.Errorf("%w: allowed are %s", err, st.Allowed)
		}
	}
	return err
}
