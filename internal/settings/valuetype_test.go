package settings

import (
	"testing"
	"time"
)

func TestSize_Units(t *testing.T) {
	for text, want := range map[string]int64{
		"1048576": 1 << 20, "64MiB": 64 << 20, "64 MiB": 64 << 20, "64mib": 64 << 20, "1GiB": 1 << 30, "1.5GiB": 3 << 29, "10MB": 10_000_000,
	} {
		if got := parseSample(t, "-max-memory="+text).maxMemory; got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
}

// TestTypes parses values and formats them again.
func TestTypes(t *testing.T) {
	checkType(t, "IntRange", IntRange(1, 10), []string{"1", "10"}, []string{"0", "11", "x", ""})
	checkType(t, "Size", Size(1, 1<<30), []string{"1", "1KiB", "1GiB"}, []string{"0", "2GiB", "9EiB", "big"})
	checkType(t, "SizeOrZero", SizeOrZero(4<<10, 1<<30), []string{"0", "4KiB", "1GiB"}, []string{"1", "2GiB", "-1", "big"})
	checkType(t, "Duration", Duration(time.Millisecond, 24*time.Hour), []string{"1ms", "1m30s", "24h"}, []string{"0s", "25h", "10"})
	checkType(t, "Boolean", Boolean(), []string{"true", "false"}, []string{"maybe", ""})
	checkType(t, "BooleanOrCount", BooleanOrCount(9), []string{"true", "false", "2", "9"}, []string{"10", "-1", "some", "", "2.0"})
	for text, want := range map[string]string{"0": "false", "1": "true", "T": "true", "FALSE": "false"} {
		typ := BooleanOrCount(9)
		if n, err := typ.Parse(text); err != nil || typ.Format(n) != want {
			t.Errorf("BooleanOrCount %q: %d, %v, want %s", text, n, err, want)
		}
	}
	checkType(t, "OneOf", OneOf("a", "b", "c"), []string{"a", "c"}, []string{"d", ""})
	checkType(t, "AnyText", AnyText(), []string{"", "a b"}, nil)
	checkType(t, "FilePath", FilePath(), []string{"", "/a"}, nil)
	checkType(t, "Count", Count(), []string{"1", "all"}, []string{"0", "-1", "9223372036854775807", "many"})
	checkType(t, "PerSecond", PerSecond(), []string{"0", "0.5", "1000000000000"}, []string{"-1", "NaN", "1e13", "x"})
	if got := OneOf("a", "b", "c"); got.Limits != "a, b or c" || got.Allowed != "a, b and c" {
		t.Errorf("OneOf: %+v", got)
	}
}

// checkType checks which values a type allows, and that it formats them as they are written.
func checkType[T any](t *testing.T, name string, typ Type[T], right, wrong []string) {
	t.Helper()
	for _, text := range right {
		if value, err := typ.Parse(text); err != nil || typ.Format(value) != text {
			t.Errorf("%s %q: %v, %v", name, text, typ.Format(value), err)
		}
	}
	for _, text := range wrong {
		if value, err := typ.Parse(text); err == nil {
			t.Errorf("%s allows %q as %v", name, text, value)
		}
	}
}
