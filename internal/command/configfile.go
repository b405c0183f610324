package command

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// readConfigFile passes the lines of the config file to ff. A line is a flag as on the command
// line, with or without its dash: name=value or name value. "#" begins a comment at the start
// of a line or after a space. Values are not quoted. A setting can occur only once.
//
// The parser of package ff is not used because it treats a read error or an overlong line as
// the end of the file and does not know the line number.
func (s *settings) readConfigFile(r io.Reader, set func(name, value string) error) error {
	s.source, s.line = fromFile, 0
	seen := make(map[string]int) // name of a setting → number of its line
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
			return fmt.Errorf("%s: %s is already set in line %d", s.position(), name, previous)
		}
		seen[name] = s.line
		// Check the value even if a flag or a variable overrides it.
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

// parseLine returns the name and the value that a line sets. The name is empty if the line
// sets nothing.
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
		return "", "", fmt.Errorf("%q is not a valid setting of a config file%s", name, didYouMean("", s.similar(name, notInFile)))
	}
	if end < len(line) {
		value = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line[end:]), "="))
		if isQuoted(value) {
			return "", "", fmt.Errorf("%s %s: remove the quotes around the value", name, st.formatValue(value))
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

// isQuoted reports whether value is in quotes. The quotes would become part of the value, and
// most likely they were meant for a shell.
func isQuoted(value string) bool {
	return len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0]
}

// position returns the name of the config file and the number of the current line.
func (s *settings) position() string { return fmt.Sprintf("%s:%d", quoted(s.configPath), s.line) }
