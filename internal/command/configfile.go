package command

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// readConfigFile hands the lines of the config file to ff. A line is a flag as it
// stands on the command line, with or without its dash: name=value or name value. "#" begins
// a comment, at the start of a line or behind a space. Values stand without quotes. A setting stands in it once.
//
// The parser that comes with ff takes a file that breaks off, or a line that is
// too long, for the end, and does not know which line it reads.
func (s *settings) readConfigFile(r io.Reader, set func(name, value string) error) error {
	s.source, s.line = fromFile, 0
	seen := make(map[string]int) // settings, and the lines that they stand in
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		s.line++
		name, value, err := s.parseLine(lines.Text())
		if err != nil {
			return fmt.Errorf("%s: %w", s.position(), err)
		}
		if name == "" {
			continue
		}
		if previous := seen[name]; previous > 0 {
			return fmt.Errorf("%s: %s is set in line %d already", s.position(), name, previous)
		}
		seen[name] = s.line
		// A flag or a variable may beat this line; a mistake in it must not pass unseen.
		st := s.lookup(name)
		if err := st.check(value); err != nil {
			return st.valueError(value, err)
		}
		if err := set(name, value); err != nil {
			return err
		}
	}
	err := lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		s.line++
		return fmt.Errorf("%s: longer than %d bytes, is this a config file?", s.position(), bufio.MaxScanTokenSize)
	case err != nil:
		return fmt.Errorf("%s: %w", s.configPath, err)
	}
	return nil
}

// parseLine returns what a line sets, and no name if it sets nothing.
func (s *settings) parseLine(line string) (name, value string, err error) {
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
	st := s.lookup(name)
	if st == nil || st.is(notInFile) {
		return "", "", fmt.Errorf("%q is not a setting that a file can have%s", name, didYouMean("", s.similar(name, notInFile)))
	}
	if end < len(line) {
		value = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line[end:]), "="))
		if isQuoted(value) {
			return "", "", fmt.Errorf("%s %s: values stand without quotes", name, st.formatValue(value))
		}
		return name, value, nil
	}
	if st.isBool {
		return name, "true", nil
	}
	problem := name + " has no value"
	if st.allowed != "" {
		problem += ": allowed are " + st.allowed
	}
	return "", "", errors.New(problem)
}

// isQuoted reports whether a value stands in quotes. They would be part of it, and are meant for a shell most likely.
func isQuoted(value string) bool {
	return len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0]
}

// position names the line that is being read.
func (s *settings) position() string { return fmt.Sprintf("%s:%d", quoted(s.configPath), s.line) }
