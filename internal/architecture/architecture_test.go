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
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module   = "github.com/sechlol/go-message-hub"
	root     = "../.."
	maxLines = 20 // of a main.go: more is logic that no test reaches
)

// goFile is a source file of this module and what it imports.
type goFile struct {
	folder  string // the package, as rooms names it
	name    string
	imports []string
}

func TestEveryImportIsInTheTable(t *testing.T) {
	files := sources(t)
	if len(files) < 2 {
		t.Fatalf("found %d source files, is %q the root of the project?", len(files), root)
	}
	for _, file := range files {
		for _, imported := range file.imports {
			if problem := judge(file.folder, file.name, imported); problem != "" {
				t.Error(problem)
			}
		}
	}
}

func TestEveryPackageIsInTheTable(t *testing.T) {
	found := make(map[string]bool)
	for _, file := range sources(t) {
		found[file.folder] = true
	}
	for _, folder := range slices.Sorted(maps.Keys(found)) {
		if _, ok := rooms[folder]; !ok {
			t.Errorf("package %s is not in the table of rooms: add it to rooms_test.go, with what it may import and why", folder)
		}
	}
}

func TestEveryMainIsShort(t *testing.T) {
	mains, err := filepath.Glob(filepath.Join(root, "cmd", "*", "*.go"))
	if err != nil || len(mains) == 0 {
		t.Fatalf("no executables in cmd/: %v", err)
	}
	for _, name := range mains {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(text, []byte("\n")); lines > maxLines {
			t.Errorf("%s has %d lines, at most %d are allowed: %s", name, lines, maxLines, program.why)
		}
	}
}

// judge returns why file of a package must not import a path, or "" when it may.
func judge(folder, file, imported string) string {
	r, known := rooms[folder]
	if !known || isStandard(imported) {
		return "" // an unknown room has a test of its own
	}
	inTest := strings.HasSuffix(file, "_test.go")
	if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
		switch {
		case slices.Contains(r.ours, ours):
		case inTest && (ours == folder || !r.narrow):
		default:
			return refusal(folder, file, ours, r)
		}
		return ""
	}
	if within(r.others, imported) || inTest && within(testLibraries, imported) {
		return ""
	}
	return refusal(folder, file, imported, r)
}

func refusal(folder, file, imported string, r room) string {
	allowed := "the standard library"
	if list := slices.Concat(r.ours, r.others); len(list) > 0 {
		allowed += ", " + strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s imports %s, which it must not: %s. It may import %s.",
		path.Join(folder, file), imported, r.why, allowed)
}

// within reports whether a package belongs to one of the modules.
func within(modules []string, imported string) bool {
	return slices.ContainsFunc(modules, func(m string) bool {
		return imported == m || strings.HasPrefix(imported, m+"/")
	})
}

// isStandard goes by the dot that the first part of every other path has.
func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// sources returns all Go files of this module. It reads them rather than ask
// the go command, so that it sees the files of every operating system.
func sources(t *testing.T) (files []goFile) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skipForeign(name, entry)
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		file, err := read(name)
		files = append(files, file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// skipForeign keeps the walk out of folders that the go command ignores and of
// modules of their own.
func skipForeign(name string, entry fs.DirEntry) error {
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

func read(name string) (goFile, error) {
	parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
	if err != nil {
		return goFile{}, err
	}
	folder, err := filepath.Rel(root, filepath.Dir(name))
	if err != nil {
		return goFile{}, err
	}
	file := goFile{folder: filepath.ToSlash(folder), name: filepath.Base(name)}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return goFile{}, err
		}
		file.imports = append(file.imports, imported)
	}
	return file, nil
}

// TestJudge holds the judge itself to a few cases, so that a table which allows
// everything would be noticed.
func TestJudge(t *testing.T) {
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
	}
	for _, tt := range tests {
		got := judge(tt.folder, tt.file, tt.imported)
		if (got != "") != tt.refused {
			t.Errorf("%s/%s imports %s: %q, refused should be %t", tt.folder, tt.file, tt.imported, got, tt.refused)
		}
		if tt.refused && !strings.Contains(got, rooms[tt.folder].why) {
			t.Errorf("%q does not say why", got)
		}
	}
}
