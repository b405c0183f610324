package settings

import "strings"

// Setting is one setting: a flag with its environment variable and its line in the config file.
type Setting struct {
	Name    string
	Usage   string // help text, of one or more lines
	Allowed string // see Type
	Default string // formatted
	Origin  string // source of the value, for users
	Choices []string
	IsPath  bool
	Bare    bool

	limits string
	attrs  Attr
	check  func(text string) error
	set    func(text string) error
	get    func() string
}

// Attr is a set of attributes of a setting.
type Attr int

const (
	// Secret marks a setting whose value is never shown. Only whether the setting has a value is
	// shown.
	Secret Attr = 1 << iota

	// Reloadable marks a setting that can change while the program runs.
	Reloadable

	// CommandLineOnly marks a setting that makes the program print something and exit. Only a
	// flag can set it: a permanent environment variable or line would prevent the program from
	// working.
	CommandLineOnly

	// NotInFile marks a setting that is not allowed in the config file.
	NotInFile
)

// The origins of values that have not been read from a source with a name.
const (
	originDefault = "default"
	originFlag    = "flag"
)

// newSetting returns a setting whose value is stored in dst.
func newSetting[T any](dst *T, name string, defaultValue T, typ Type[T], usage string, attrs []Attr) *Setting {
	*dst = defaultValue
	st := &Setting{
		Name: name, Usage: usage, limits: typ.Limits, Allowed: typ.Allowed, Bare: typ.Bare,
		Choices: typ.Choices, IsPath: typ.IsPath,
		Default: typ.Format(defaultValue),
		Origin:  originDefault,
		get:     func() string { return typ.Format(*dst) },
		check: func(text string) error {
			_, err := typ.Parse(text)
			return err
		},
		set: func(text string) error {
			value, err := typ.Parse(text)
			if err == nil {
				*dst = value
			}
			return err
		},
	}
	for _, attr := range attrs {
		st.attrs |= attr
	}
	return st
}

// Is reports whether the setting has an attribute of attr.
func (st *Setting) Is(attr Attr) bool { return st.attrs&attr != 0 }

// Value returns the current value, formatted.
func (st *Setting) Value() string { return st.get() }

// Check returns an error if text is not an allowed value.
func (st *Setting) Check(text string) error { return st.check(text) }

// DisplayValue returns the value for users.
func (st *Setting) DisplayValue() string { return st.formatValue(st.get()) }

// formatValue returns value, which need not be valid, for users. It hides a secret.
func (st *Setting) formatValue(value string) string {
	switch {
	case !st.Is(Secret):
		return Quote(value)
	case value == "":
		return "(not set)"
	default:
		return "(set)"
	}
}

// UsageSuffix returns the limits and attributes of a setting, to append to the help text.
func (st *Setting) UsageSuffix() string {
	var parts []string
	if st.limits != "" {
		parts = append(parts, st.limits)
	}
	if st.Is(Reloadable) {
		parts = append(parts, "reloadable")
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, "; ") + ")"
}

// copyFrom copies the value and the origin of other, the same setting of other settings.
func (st *Setting) copyFrom(other *Setting) {
	if err := st.set(other.get()); err == nil { // cannot fail: other has been checked
		st.Origin = other.Origin
	}
}

// logChange logs the current value of the setting, and the value and source of next.
func (st *Setting) logChange(log func(string, ...any), message string, next *Setting) {
	log(message, "setting", st.Name, "old", st.DisplayValue(), "new", next.DisplayValue(), "source", next.Origin)
}
