package command

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/sechlol/go-message-hub/internal/settings"
)

// Parse reads s from all sources. If done is true, Parse has printed the requested output or an
// error, and the program must exit with code.
func (p Process) Parse(s *settings.Settings) (code int, done bool) {
	err := s.Read(p.Args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		settings.WriteUsage(p.Stdout, s)
		return ExitOK, true
	case err != nil:
		return p.UsageError(s, err), true
	case s.ShowVersion:
		fmt.Fprintln(p.Stdout, Version(s.Program))
		return ExitOK, true
	case s.PrintConfig:
		return p.Print(s, settings.ConfigTemplate(s)), true
	}
	return ExitOK, false
}

// UsageError prints err and a hint how to get the usage. It does not print the usage, which is so
// long that err would scroll out of sight. It returns the exit code.
func (p Process) UsageError(s *settings.Settings, err error) int {
	fmt.Fprintf(p.Stderr, "%[1]s: %[2]v\n\"%[1]s -h\" lists all settings\n", s.Program, err)
	return ExitUsage
}

// Print prints text to standard output and returns the exit code.
func (p Process) Print(s *settings.Settings, text string) int {
	_, err := io.WriteString(p.Stdout, text)
	switch {
	case errors.Is(err, ErrOutputClosed):
		return ExitPipe
	case err != nil:
		fmt.Fprintf(p.Stderr, "%s: cannot print: %v\n", s.Program, err)
		return ExitFailure
	}
	return ExitOK
}
