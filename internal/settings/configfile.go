package settings

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// configFile is the config file while it is read. A line is a flag as on the command line, with
// or without its dash: name=value or name value. "#" begins a comment at the start of a line or
// after a space. Values are not quoted. A setting can occur only once.
//
// The parser of package ff is not used because it treats a read error or an overlong line as
// the end of the file and does not know the line number.
type configFile struct {
	settings *Settings
	line     int // number of the current line
}

// parse passes each setting in text to set.
func (f *configFile) parse(text io.Reader, set func(st *Setting, value string) error) error {
	seen := make(map[string]int) // name of a setting → number of its line
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		f.line++
		st, value, err := parseLine(f.settings, lines.Text())
		if err != nil {
			return fmt.Errorf("%s: %w", f.position(), err)
		}
		if st == nil {
			continue
		}
		if previous := seen[st.Name]; previous > 0 {
			return fmt.Errorf("%s: %s is already set in line %d", f.position(), st.Name, previous)
		}
		seen[st.Name] = f.line
		if err := set(st, value); err != nil {
			return err
		}
	}
	err := lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		f.line++
		return fmt.Errorf("%s: longer than %d bytes, is this a config file?", f.position(), bufio.MaxScanTokenSize)
	case err != nil:
		return fmt.Errorf("%s: %w", f.settings.configPath, err)
	}
	return nil
}

// position returns the name of the config file and the number of the current line.
func (f *configFile) position() string {
	return fmt.Sprintf("%s:%d", Quote(f.settings.configPath), f.line)
}

// parseLine returns the setting of s that a line sets, and its value. The setting is nil if the
// line sets nothing.
func parseLine(s *Settings, line string) (st *Setting, value string, err error) {
	line, _, _ = strings.Cut(" "+line, " #")
	line = strings.TrimLeft(strings.TrimSpace(line), "-")
	if line == "" {
		return nil, "", nil
	}
	end := strings.IndexAny(line, "= \t")
	if end < 0 {
		end = len(line)
	}
	name := line[:end]
	st = s.Lookup(name)
	if st == nil || st.Is(NotInFile) {
		return nil, "", fmt.Errorf("%q is not a valid setting of a config file%s", name, didYouMean("", similar(s.list, name, NotInFile)))
	}
	if end < len(line) {
		value = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line[end:]), "="))
		if isQuoted(value) {
			return nil, "", fmt.Errorf("%s %s: remove the quotes around the value", name, st.formatValue(value))
		}
		return st, value, nil
	}
	if st.Bare {
		return st, "true", nil
	}
	problem := name + " has no value"
	if st.Allowed != "" {
		problem += ": allowed are " + st.Allowed
	}
	return nil, "", errors.New(problem)
}

// isQuoted reports whether value is in quotes. The quotes would become part of the value, and
// most likely they were meant for a shell.
func isQuoted(value string) bool {
	return len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0]
}
