package settings

import (
	"strconv"
	"strings"
	"time"
	"unicode"
)

// FormatSize formats n as a value of Size, with the largest unit that gives an integer.
func FormatSize(n int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 50, "PiB"}, {1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n > 0 && n%unit.bytes == 0 {
			return strconv.FormatInt(n/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// FormatDuration formats d without the trailing zeros of Duration.String: 24h, not 24h0m0s.
func FormatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// AsIs returns s. It is Type.Format of texts.
func AsIs(s string) string { return s }

// Quote returns text as it is, or in quotes if text is empty or has unprintable characters.
func Quote(text string) string {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return text
}
