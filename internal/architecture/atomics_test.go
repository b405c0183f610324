package architecture

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// unalignedAtomic is a function that works on 64 bits wherever they lie. On processors of 32 bits it ends the program unless
// they are aligned, which the types of sync/atomic are by themselves.
var unalignedAtomic = regexp.MustCompile(`\batomic\.(Add|And|Or|CompareAndSwap|Load|Store|Swap)(Int|Uint)64\(`)

// TestAtomics_64BitUseTypes looks for such functions in all sources.
func TestAtomics_64BitUseTypes(t *testing.T) {
	scanned := 0
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		scanned++
		source, err := os.ReadFile(path)
		for _, match := range unalignedAtomic.FindAll(source, -1) {
			t.Errorf("%s: %s…): use atomic.Int64 or atomic.Uint64", path, match)
		}
		return err
	})
	if err != nil || scanned < 100 {
		t.Fatalf("%d sources: %v", scanned, err)
	}
	if !unalignedAtomic.MatchString("atomic.AddInt64" + "(&n, 1)") {
		t.Error("the test finds nothing")
	}
}
