package command

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pages returns the text of all manual pages by their files.
func pages() map[string]string {
	all := make(map[string]string)
	for _, d := range Documents("1.2.3") {
		if strings.HasSuffix(d.Name, ".1") || strings.HasSuffix(d.Name, ".8") {
			all[d.Name] = d.Text
		}
	}
	return all
}

// manual returns the settings that each page must know.
func manual() map[string][]*settings {
	all := map[string][]*settings{
		"start_server.8":     {newServer().settings},
		"start_simulation.1": {newSimulated().settings},
	}
	for _, v := range verbs() {
		s, _ := v.prepare()
		all["hubctl.1"] = append(all["hubctl.1"], s)
	}
	return all
}

// TestManualKnowsEverything looks for each setting in its page, with its default and its
// variable.
func TestManualKnowsEverything(t *testing.T) {
	got := pages()
	for file, list := range manual() {
		for _, s := range list {
			for _, one := range s.list {
				option := `\fB\-` + escapeRoff(one.name) + `\fR=\fI` + escapeRoff(one.shownDefault()) + `\fR`
				if !strings.Contains(got[file], option) {
					t.Errorf("%s does not say %s", file, option)
				}
				if variable := s.variable(one.name); one.is(question) == strings.Contains(got[file], "Environment: "+variable+".") {
					t.Errorf("%s says that %s counts: %t", file, variable, one.is(question))
				}
				if bounds := one.bounds(); bounds != "" && !strings.Contains(got[file], escapeRoff(bounds)) {
					t.Errorf("%s does not say what -%s can be: %s", file, one.name, one.bounds())
				}
			}
		}
		delete(got, file)
	}
	if len(got) > 0 {
		t.Errorf("pages of which nobody knows what is in them: %d", len(got))
	}
}

func TestManualHasItsSections(t *testing.T) {
	for file, text := range pages() {
		for _, section := range []string{"NAME", "SYNOPSIS", "CONFIGURATION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"} {
			if !strings.Contains(text, `.SH "`+section+`"`) {
				t.Errorf("%s has no %s", file, section)
			}
		}
	}
}

// TestManualIsSound has man and groff read the pages, which warn of what they do not
// understand.
func TestManualIsSound(t *testing.T) {
	for _, command := range [][]string{
		{"groff", "-man", "-Tutf8", "-ww", "-z", "-Kutf8"},
		{"man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"},
	} {
		program, err := exec.LookPath(command[0])
		if err != nil {
			t.Logf("there is no %s here", command[0])
			continue
		}
		for name, text := range pages() {
			file := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var complaints bytes.Buffer
			cmd := exec.CommandContext(t.Context(), program, append(command[1:], file)...)
			cmd.Env = append(os.Environ(), "MANROFFSEQ=", "LC_ALL=C.UTF-8")
			cmd.Stderr = &complaints
			if err := cmd.Run(); err != nil || complaints.Len() > 0 {
				t.Errorf("%s, %s: %v\n%s", command[0], name, err, &complaints)
			}
		}
	}
}
