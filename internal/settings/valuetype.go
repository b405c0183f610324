package settings

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Type is the type of a value: how to parse and format the value, and which values are allowed.
type Type[T any] struct {
	Parse   func(text string) (T, error) // the error is shown only if it names the invalid part
	Format  func(T) string
	Limits  string   // for the usage; can be empty
	Allowed string   // allowed values, as the end of the sentence "allowed are …"
	Choices []string // all allowed values, if they are a few words
	IsPath  bool     // the value is a file name
	Bare    bool     // the setting alone, without a value, means true
}

// ErrNotAllowed is the error of Type.Parse for a value that is not allowed.
var ErrNotAllowed = errors.New("value not allowed")

// InvalidPartError is an error that names the invalid part of a value. It is not shown if the
// value is Secret.
type InvalidPartError string

// Error implements error.
func (e InvalidPartError) Error() string { return string(e) }

// InvalidEntryError is the place of the invalid entry of a list, from 1 on. It is shown also if the
// value is Secret.
type InvalidEntryError int

// Error implements error.
func (e InvalidEntryError) Error() string { return fmt.Sprintf("entry %d is invalid", int(e)) }

// IntRange is an integer from minValue to maxValue.
func IntRange(minValue, maxValue int) Type[int] {
	limits := fmt.Sprintf("%d to %d", minValue, maxValue)
	return Type[int]{
		Parse:   within(strconv.Atoi, minValue, maxValue),
		Format:  strconv.Itoa,
		Limits:  limits,
		Allowed: "whole numbers from " + limits,
	}
}

// Size is a number of bytes from minValue to maxValue, plain or with a unit.
func Size(minValue, maxValue int64) Type[int64] {
	limits := fmt.Sprintf("%s to %s", FormatSize(minValue), FormatSize(maxValue))
	return Type[int64]{
		Parse:   within(parseSize, minValue, maxValue),
		Format:  FormatSize,
		Limits:  limits,
		Allowed: fmt.Sprintf("sizes from %s, in bytes or with a unit (65536, 64KiB, 256MiB, 1GiB)", limits),
	}
}

// SizeOrZero is a size in bytes from minValue to maxValue, or 0.
func SizeOrZero(minValue, maxValue int64) Type[int64] {
	t := Size(minValue, maxValue)
	parse := t.Parse
	t.Parse = func(text string) (int64, error) {
		if n, err := parseSize(text); err == nil && n == 0 {
			return 0, nil
		}
		return parse(text)
	}
	t.Limits = "0, or " + t.Limits
	t.Allowed = "0, and " + t.Allowed
	return t
}

// Duration is a duration from minValue to maxValue.
func Duration(minValue, maxValue time.Duration) Type[time.Duration] {
	limits := fmt.Sprintf("%s to %s", FormatDuration(minValue), FormatDuration(maxValue))
	return Type[time.Duration]{
		Parse:   within(time.ParseDuration, minValue, maxValue),
		Format:  FormatDuration,
		Limits:  limits,
		Allowed: fmt.Sprintf("times from %s, with a unit (500ms, 10s, 1m30s)", limits),
	}
}

// Boolean is true or false.
func Boolean() Type[bool] {
	return Type[bool]{Parse: strconv.ParseBool, Format: strconv.FormatBool, Allowed: "true and false", Choices: []string{"true", "false"}, Bare: true}
}

// BooleanOrCount is a number from 0 to maxCount, where false is 0 and true is 1.
func BooleanOrCount(maxCount int) Type[int] {
	return Type[int]{
		Parse: func(text string) (int, error) {
			if n, err := within(strconv.Atoi, 0, maxCount)(text); err == nil {
				return n, nil
			}
			on, err := strconv.ParseBool(text)
			switch {
			case err != nil:
				return 0, ErrNotAllowed
			case on:
				return 1, nil
			}
			return 0, nil
		},
		Format: func(n int) string {
			if n < 2 {
				return strconv.FormatBool(n == 1)
			}
			return strconv.Itoa(n)
		},
		Limits:  fmt.Sprintf("true, false, or 2 to %d", maxCount),
		Allowed: fmt.Sprintf("true, false, and whole numbers from 0 to %d", maxCount),
		Bare:    true,
	}
}

// OneOf is one of the words in choices.
func OneOf(choices ...string) Type[string] {
	limits := strings.Join(choices[:len(choices)-1], ", ")
	last := choices[len(choices)-1]
	return Type[string]{
		Parse: func(text string) (string, error) {
			if !slices.Contains(choices, text) {
				return "", ErrNotAllowed
			}
			return text, nil
		},
		Format:  AsIs,
		Limits:  limits + " or " + last,
		Allowed: limits + " and " + last,
		Choices: choices,
	}
}

// AnyText is any text.
func AnyText() Type[string] {
	return Type[string]{Parse: func(t string) (string, error) { return t, nil }, Format: AsIs, Allowed: "any text"}
}

// FilePath is a file name.
func FilePath() Type[string] {
	typ := AnyText()
	typ.IsPath = true
	typ.Allowed = "file names"
	return typ
}

// Unlimited is the count that is never reached.
const Unlimited = math.MaxInt

// Count is a number of events after which a program exits, or "all" for no limit.
func Count() Type[int] {
	return Type[int]{
		Parse: func(text string) (int, error) {
			if text == "all" {
				return Unlimited, nil
			}
			return within(strconv.Atoi, 1, Unlimited-1)(text)
		},
		Format: func(n int) string {
			if n == Unlimited {
				return "all"
			}
			return strconv.Itoa(n)
		},
		Limits:  "from 1, or all",
		Allowed: "whole numbers from 1, and all",
	}
}

// PerSecond is a rate per second.
func PerSecond() Type[float64] {
	return Type[float64]{
		Parse: func(text string) (float64, error) {
			n, err := strconv.ParseFloat(text, 64)
			if err != nil || !(n >= 0 && n <= 1e12) {
				return 0, ErrNotAllowed
			}
			return n, nil
		},
		Format:  func(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) },
		Limits:  "0 to 1000000000000",
		Allowed: "0 to 1000000000000",
	}
}

// within returns parse with limits for the value.
func within[T int | int64 | time.Duration](parse func(string) (T, error), minValue, maxValue T) func(string) (T, error) {
	return func(text string) (T, error) {
		value, err := parse(text)
		if err != nil {
			return 0, err
		}
		if value < minValue || value > maxValue {
			return 0, ErrNotAllowed
		}
		return value, nil
	}
}

// parseSize returns the number of bytes in text, which is plain or has a unit.
func parseSize(text string) (int64, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil || n > 1<<62 {
		return 0, ErrNotAllowed
	}
	return int64(n), nil
}
