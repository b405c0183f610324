package server

import (
	"testing"
)

func TestHostName_Parse(t *testing.T) {
	for text, want := range map[string]string{"": "", "hub.example": "hub.example", "::1": "::1", "[::1]": "::1", "10.0.0.1": "10.0.0.1"} {
		if got := parseServerFlags(t, "-addr="+text).addr; got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
