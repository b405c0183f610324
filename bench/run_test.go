package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestRun_RejectsArguments runs invalid command lines. None of them builds a program.
func TestRun_RejectsArguments(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("no markers\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-nonsense"},
		{"-scenario=nonsense"},
		{"-scenario=heavy", "-systems=nonsense"},
		{"-scenario=growth", "-systems=limit"}, // measures nothing
		{"-scenario=heavy", "-systems=hub", "-docs=" + page},
		{"-scenario=heavy", "-systems=hub", "-docs=" + page + ".missing"},
	} {
		if err := run(t.Context(), args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
