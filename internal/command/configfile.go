package command

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// readFile hands the lines of the config file to ff. A line is a flag as it
// stands on the command line, with or without its dash: name=value or name value. "#" begins a comment, at the start of a line or
// behind a space.
//
// The parser that comes with ff takes a file that breaks off, or a line that is
// too long, for the end, and does not know which line it reads.
func (s *settings) readFile(r io.Reader, set func(name, value string) error) error {
	s.source, s.line = fromFile, 0
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		s.line++
		name, value, err := s.splitLine(lines.Text())
		if err != nil {
			return fmt.Errorf("%s: %w", s.place(), err)
		}
		if name == "" {
			continue
		}
		if err := set(name, value); err != nil {
			return err
		}
	}
	err := lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		s.line++
		return fmt.Errorf("%s: longer than %d bytes, is this a config file?", s.place(), bufio.MaxScanTokenSize)
	case err != nil:
		return fmt.Errorf("%s: %w", s.config, err)
	}
	return nil
}

// splitLine returns what a line sets, and no name if it sets nothing.
func (s *settings) splitLine(line string) (name, value string, err error) {
	line, _, _ = strings.Cut(" "+line, " #")
	line = strings.TrimLeft(strings.TrimSpace(line), "-")
	if line == "" {
		return "", "", nil
	}
	end := strings.IndexAny(line, "= \t")
	if end < 0 {
		end = len(line)
	}
	name = line[:end]
	known := s.flags.Lookup(name)
	if known == nil || name == "config" || name == "version" {
		return "", "", fmt.Errorf("%q is not a setting that a file can have", name)
	}
	if end < len(line) {
		value = strings.TrimPrefix(strings.TrimSpace(line[end:]), "=")
		return name, strings.TrimSpace(value), nil
	}
	if one, ok := known.Value.(*setting); ok && one.isBool {
		return name, "true", nil
	}
	return "", "", errors.New(name + " has no value")
}

// place names the line that is being read.
func (s *settings) place() string { return fmt.Sprintf("%s:%d", s.config, s.line) }
