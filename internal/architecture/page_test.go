package architecture

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// packageRow is a row of the table of packages in docs/ARCHITECTURE.md.
var packageRow = regexp.MustCompile("(?m)^\\| `([a-z0-9_/]+)` \\|")

// TestArchitecturePage_ListsPackages fails when docs/ARCHITECTURE.md lacks a package, or lists one
// that does not exist.
func TestArchitecturePage_ListsPackages(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n## Packages\n")
	table, _, _ := strings.Cut(rest, "\n## ")
	var listed []string
	for _, row := range packageRow.FindAllStringSubmatch(table, -1) {
		listed = append(listed, row[1])
	}
	slices.Sort(listed)
	found := make(map[string]bool)
	for _, file := range goFiles(t) {
		found[file.dir] = true
	}
	for _, dir := range slices.Sorted(maps.Keys(found)) {
		if !slices.Contains(listed, dir) {
			t.Errorf("docs/ARCHITECTURE.md does not list package %s", dir)
		}
	}
	for i, dir := range listed {
		if !found[dir] {
			t.Errorf("docs/ARCHITECTURE.md lists package %s, which does not exist", dir)
		}
		if i > 0 && listed[i-1] == dir {
			t.Errorf("docs/ARCHITECTURE.md lists package %s twice", dir)
		}
	}
}
