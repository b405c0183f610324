package command

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// manualPages returns the text of all manual pages, by file name.
func manualPages() map[string]string {
	pages := make(map[string]string)
	for _, d := range Documents("1.2.3") {
		if strings.HasSuffix(d.Name, ".1") || strings.HasSuffix(d.Name, ".8") {
			pages[d.Name] = d.Text
		}
	}
	return pages
}

// manualSettings returns the settings that each page must contain.
func manualSettings() map[string][]*settings {
	byPage := map[string][]*settings{
		"start_server.8":     {newServer().settings},
		"start_simulation.1": {newSimulator().settings},
	}
	for _, cmd := range subcommands() {
		s, _ := cmd.setup()
		byPage["hubctl.1"] = append(byPage["hubctl.1"], s)
	}
	return byPage
}

// TestManual_ListsEverySetting checks that each page contains each setting with its default
// and its environment variable.
func TestManual_ListsEverySetting(t *testing.T) {
	got := manualPages()
	for file, list := range manualSettings() {
		for _, s := range list {
			for _, st := range s.list {
				option := `\fB\-` + escapeRoff(st.name) + `\fR=\fI` + escapeRoff(st.displayDefault()) + `\fR`
				if !strings.Contains(got[file], option) {
					t.Errorf("%s does not contain %s", file, option)
				}
				if variable := s.envVar(st.name); st.is(commandLineOnly) == strings.Contains(got[file], "Environment: "+variable+".") {
					t.Errorf("%s lists %s, which is command-line only: %t", file, variable, st.is(commandLineOnly))
				}
				if bounds := st.usageSuffix(); bounds != "" && !strings.Contains(got[file], escapeRoff(bounds)) {
					t.Errorf("%s does not contain the limits of -%s: %s", file, st.name, st.usageSuffix())
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
