package architecture

import (
	"bytes"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module       = "github.com/sechlol/go-message-hub"
	root         = "../.."
	maxMainLines = 20 // in a main.go: tests do not reach the logic there
)

// goFile is a source file of this module and what it imports.
type goFile struct {
	dir     string // the package, as in importRules
	name    string
	imports []string
}

func TestImports_Allowed(t *testing.T) {
	files := goFiles(t)
	if len(files) < 2 {
		t.Fatalf("found %d source files; is %q the root of the project?", len(files), root)
	}
	for _, file := range files {
		for _, imported := range file.imports {
			if problem := checkImport(file.dir, file.name, imported); problem != "" {
				t.Error(problem)
			}
		}
	}
}

func TestPackages_HaveRule(t *testing.T) {
	found := make(map[string]bool)
	for _, file := range goFiles(t) {
		found[file.dir] = true
	}
	for _, dir := range slices.Sorted(maps.Keys(found)) {
		if _, ok := importRules[dir]; !ok {
			t.Errorf("package %s has no import rule: add one to importrules_test.go, with the allowed imports and the reason", dir)
		}
	}
}

func TestMains_AreShort(t *testing.T) {
	mains, err := filepath.Glob(filepath.Join(root, "cmd", "*", "*.go"))
	if err != nil || len(mains) == 0 {
		t.Fatalf("no executables in cmd/: %v", err)
	}
	for _, name := range mains {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(text, []byte("\n")); lines > maxMainLines {
			t.Errorf("%s has %d lines, maximum is %d: %s", name, lines, maxMainLines, mainReason)
		}
	}
}

// TestDeps_NotForbidden checks all packages that an executable links, also those of other modules.
func TestDeps_NotForbidden(t *testing.T) {
	for program, forbidden := range forbiddenDeps {
		list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+program)
		list.Dir = root
		output, err := list.Output()
		if err != nil {
			t.Fatalf("%v: %v", list, err)
		}
		deps := strings.Fields(string(output))
		if !slices.Contains(deps, module+"/wire") {
			t.Fatalf("%s does not link wire, but %q", program, deps)
		}
		for _, f := range forbidden {
			for _, dep := range deps {
				if inModules([]string{f.path}, dep) {
					t.Errorf("%s links %s: %s", program, dep, f.reason)
				}
			}
		}
	}
}

// checkImport returns the reason why a file of the package dir must not import a path, or ""
// if it may.
func checkImport(dir, file, imported string) string {
	r, known := importRules[dir]
	if !known || isStdlib(imported) {
		return "" // TestPackages_HaveRule reports packages without a rule
	}
	inTest := strings.HasSuffix(file, "_test.go")
	if own, ok := strings.CutPrefix(imported, module+"/"); ok {
		switch {
		case slices.Contains(r.internal, own):
		case inTest && (own == dir || !r.strict):
		default:
			return violation(dir, file, own, r)
		}
		return ""
	}
	if inModules(r.external, imported) || inTest && inModules(testLibraries, imported) {
		return ""
	}
	return violation(dir, file, imported, r)
}

func violation(dir, file, imported string, r importRule) string {
	allowed := "the standard library"
	if list := slices.Concat(r.internal, r.external); len(list) > 0 {
		allowed += ", " + strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s must not import %s: %s. Allowed are %s.",
		path.Join(dir, file), imported, r.reason, allowed)
}

// inModules reports whether an imported package belongs to one of the modules.
func inModules(modules []string, imported string) bool {
	return slices.ContainsFunc(modules, func(m string) bool {
		return imported == m || strings.HasPrefix(imported, m+"/")
	})
}

// isStdlib reports whether a path is in the standard library: the first element of all other
// paths has a dot.
func isStdlib(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// goFiles returns all Go files of this module. It does not use the go command, which omits
// files for other operating systems.
func goFiles(t *testing.T) (files []goFile) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skipDir(name, entry)
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		file, err := parseImports(name)
		files = append(files, file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// skipDir returns fs.SkipDir for folders that the go command ignores and for the roots of other
// modules.
func skipDir(name string, entry fs.DirEntry) error {
	if name == root {
		return nil
	}
	if entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".") || strings.HasPrefix(entry.Name(), "_") {
		return fs.SkipDir
	}
	if _, err := os.Stat(filepath.Join(name, "go.mod")); !errors.Is(err, fs.ErrNotExist) {
		return fs.SkipDir
	}
	return nil
}

func parseImports(name string) (goFile, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
	if err != nil {
		return goFile{}, err
	}
	dir, err := filepath.Rel(root, filepath.Dir(name))
	if err != nil {
		return goFile{}, err
	}
	file := goFile{dir: filepath.ToSlash(dir), name: filepath.Base(name)}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return goFile{}, err
		}
		file.imports = append(file.imports, imported)
	}
	return file, nil
}

// TestCheckImport checks a few imports against the table. It fails if the table allows all
// imports.
func TestCheckImport(t *testing.T) {
	tests := []struct {
		folder, file, imported string
		refused                bool
	}{
		{"wire", "wire.go", "encoding/binary", false},
		{"wire", "wire.go", "golang.org/x/sys/unix", true},
		{"wire", "wire.go", module + "/internal/body", true},
		{"wire", "wire_test.go", module + "/wire", false},
		{"wire", "wire_test.go", module + "/hub", true},
		{"internal/socket", "conn.go", module + "/wire", false},
		{"internal/socket", "sys_linux.go", "golang.org/x/sys/unix", false},
		{"internal/socket", "conn.go", module + "/hub", true},
		{"internal/socket", "conn.go", "go.uber.org/goleak", true},
		{"internal/socket", "conn_test.go", "go.uber.org/goleak", false},
		{"hub", "hub.go", module + "/client", true},
		{"hub", "hub_test.go", module + "/client", false},
		{"client", "client.go", module + "/hub", true},
		{"internal/simulation", "run.go", module + "/hub", true},
		{"internal/simulation", "run_test.go", module + "/hub", false},
		{"cmd/start_server", "main.go", module + "/hub", true},
		{"cmd/start_server", "main.go", module + "/internal/command", false},
		{"cmd/start_server", "main.go", module + "/internal/command/server", false},
		{"cmd/hubctl", "main.go", module + "/internal/command/server", true},
		{"internal/command/hubctl", "send.go", module + "/hub", true},
		{"internal/command/hubctl", "send_test.go", module + "/internal/command/server", false},
		{"internal/command", "command.go", module + "/client", true},
	}
	for _, tt := range tests {
		got := checkImport(tt.folder, tt.file, tt.imported)
		if (got != "") != tt.refused {
			t.Errorf("%s/%s imports %s: got %q, want a violation: %t", tt.folder, tt.file, tt.imported, got, tt.refused)
		}
		if tt.refused && !strings.Contains(got, importRules[tt.folder].reason) {
			t.Errorf("%q does not contain the reason", got)
		}
	}
}
