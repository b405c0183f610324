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

// TestPromisesHaveTheirTests looks for every test that the specification names as
// the proof of a promise.
func TestPromisesHaveTheirTests(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "PROTOCOL.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := testsBelow(t, root)
	promised := testName.FindAllSubmatch(page, -1)
	if len(promised) == 0 {
		t.Fatal("docs/PROTOCOL.md names no tests")
	}
	for _, match := range promised {
		if name := string(match[1]); !tests[name] {
			t.Errorf("docs/PROTOCOL.md relies on %s, which does not exist", name)
		}
	}
}

// testsBelow returns the names of all tests and fuzz targets in the tree.
func testsBelow(t *testing.T, root string) map[string]bool {
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
