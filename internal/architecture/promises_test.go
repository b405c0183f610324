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

// ownHub is the cell of the column "in a cluster" for a promise of which no other hub takes part.
const ownHub = "own hub"

// TestPromises_HoldInCluster checks the column "in a cluster" of the tables in docs/PROTOCOL.md:
// each cell is ownHub, or names a test that runs in a cluster.
func TestPromises_HoldInCluster(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "PROTOCOL.md"))
	if err != nil {
		t.Fatal(err)
	}
	uses := parseUses(t, filepath.Join(root, "hub"))
	shown, inTable := 0, false
	for line := range strings.Lines(string(page)) {
		line, isRow := strings.CutSuffix(strings.TrimSpace(line), " |")
		if strings.HasSuffix(line, "| in a cluster") {
			inTable = true
			continue
		}
		if inTable = inTable && strings.HasPrefix(line, "|"); !inTable || !isRow {
			continue
		}
		cell := line[strings.LastIndex(line, " | ")+3:]
		tests := testName.FindAllStringSubmatch(cell, -1)
		if len(tests) == 0 && cell != ownHub {
			t.Errorf("%q is neither a test nor %q: %s", cell, ownHub, line)
		}
		for _, match := range tests {
			if uses[match[1]] != nil && !uses.inCluster(match[1]) {
				t.Errorf("%s does not run in a cluster", match[1])
			}
			shown++
		}
	}
	if shown < 30 {
		t.Errorf("found %d tests in a cluster", shown)
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
