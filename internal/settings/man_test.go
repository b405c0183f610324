package settings_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command/hubctl"
	"github.com/sechlol/go-message-hub/internal/command/server"
	"github.com/sechlol/go-message-hub/internal/command/simulation"
	"github.com/sechlol/go-message-hub/internal/settings"
)

// manualPages returns the text of all manual pages, by file name.
func manualPages() map[string]string {
	pages := make(map[string]string)
	for _, page := range []settings.ManPage{server.ManPage(), simulation.ManPage(), hubctl.ManPage()} {
		var text strings.Builder
		page.Write(&text, "1.2.3")
		pages[page.FileName()] = text.String()
	}
	return pages
}

// manualSettings returns the settings that each page must contain.
func manualSettings() map[string][]settings.ManProgram {
	return map[string][]settings.ManProgram{
		"start_server.8":     server.ManPage().Programs,
		"start_simulation.1": simulation.ManPage().Programs,
		"hubctl.1":           hubctl.ManPage().Programs,
	}
}

// TestManual_ListsEverySetting checks that each page contains each setting with its default
// and its environment variable.
func TestManual_ListsEverySetting(t *testing.T) {
	got := manualPages()
	for file, list := range manualSettings() {
		for _, program := range list {
			s := program.Settings
			for _, st := range s.List() {
				option := `\fB\-` + settings.EscapeRoff(st.Name) + `\fR=\fI` + settings.EscapeRoff(settings.DisplayDefault(st)) + `\fR`
				if !strings.Contains(got[file], option) {
					t.Errorf("%s does not contain %s", file, option)
				}
				if variable := s.EnvVar(st.Name); st.Is(settings.CommandLineOnly) == strings.Contains(got[file], "Environment: "+variable+".") {
					t.Errorf("%s lists %s, which is command-line only: %t", file, variable, st.Is(settings.CommandLineOnly))
				}
				if bounds := st.UsageSuffix(); bounds != "" && !strings.Contains(got[file], settings.EscapeRoff(bounds)) {
					t.Errorf("%s does not contain the limits of -%s: %s", file, st.Name, st.UsageSuffix())
				}
			}
		}
		delete(got, file)
	}
	if len(got) > 0 {
		t.Errorf("unexpected pages: %d", len(got))
	}
}

func TestManual_Sections(t *testing.T) {
	for file, text := range manualPages() {
		for _, section := range []string{"NAME", "SYNOPSIS", "CONFIGURATION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} {
			if !strings.Contains(text, `.SH "`+section+`"`) {
				t.Errorf("%s has no %s", file, section)
			}
		}
	}
}

// TestManual_Parses runs man and groff on the pages, which warn of invalid markup.
func TestManual_Parses(t *testing.T) {
	for _, linter := range [][]string{
		{"groff", "-man", "-Tutf8", "-ww", "-z", "-Kutf8"},
		{"man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"},
	} {
		program, err := exec.LookPath(linter[0])
		if err != nil {
			t.Logf("%s is not installed", linter[0])
			continue
		}
		for name, text := range manualPages() {
			file := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var warnings bytes.Buffer
			cmd := exec.CommandContext(t.Context(), program, append(linter[1:], file)...)
			cmd.Env = append(os.Environ(), "MANROFFSEQ=", "LC_ALL=C.UTF-8")
			cmd.Stderr = &warnings
			if err := cmd.Run(); err != nil || warnings.Len() > 0 {
				t.Errorf("%s, %s: %v\n%s", linter[0], name, err, &warnings)
			}
		}
	}
}
