package architecture

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// looseAtomic is a function that works on 64 bits wherever they lie. On processors of 32 bits it ends the program unless
// they are aligned, which the types of sync/atomic are by themselves.
var looseAtomic = regexp.MustCompile(`\batomic\.(Add|And|Or|CompareAndSwap|Load|Store|Swap)(Int|Uint)64\(`)

// TestAtomics_Of64BitsAreTypes looks for such functions in all sources.
func TestAtomics_Of64BitsAreTypes(t *testing.T) {
	sources := 0
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		sources++
		source, err := os.ReadFile(path)
		for _, found := range looseAtomic.FindAll(source, -1) {
			t.Errorf("%s: %s…): use atomic.Int64 or atomic.Uint64", path, found)
		}
		return err
	})
	if err != nil || sources < 100 {
		t.Fatalf("%d sources: %v", sources, err)
	}
	if !looseAtomic.MatchString("atomic.AddInt64" + "(&n, 1)") {
		t.Error("the test finds nothing")
	}
}
