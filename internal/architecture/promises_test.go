package architecture

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName   = regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)`")
	testHeader = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)
)

// TestPromises_HaveTests checks that every test exists that docs/PROTOCOL.md or SECURITY.md
// names as the proof of a promise.
func TestPromises_HaveTests(t *testing.T) {
	root := filepath.Join("..", "..")
	tests := findTests(t, root)
	for _, name := range []string{"docs/PROTOCOL.md", "SECURITY.md"} {
		page, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		promised := testName.FindAllSubmatch(page, -1)
		if len(promised) == 0 {
			t.Fatalf("%s names no tests", name)
		}
		for _, match := range promised {
			if test := string(match[1]); !tests[test] {
				t.Errorf("%s names %s, which does not exist", name, test)
			}
		}
	}
}

// findTests returns the names of all tests and fuzz targets below root.
func findTests(t *testing.T, root string) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, match := range testHeader.FindAllSubmatch(source, -1) {
			names[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
