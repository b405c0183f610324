package command

import (
	"os"
	"testing"
)

// TestReference_IsUpToDate fails when a setting changes and docs/REFERENCE.md does not.
func TestReference_IsUpToDate(t *testing.T) {
	page, err := os.ReadFile("../../docs/REFERENCE.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != Reference() {
		t.Error("docs/REFERENCE.md is out of date: run 'go run ./internal/documents docs/REFERENCE.md'")
	}
}
