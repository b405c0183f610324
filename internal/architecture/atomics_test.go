package architecture

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// unalignedAtomic matches calls of the functions of sync/atomic for 64-bit integers. On 32-bit
// processors these functions panic unless the integer is aligned. The types of sync/atomic are
// always aligned.
var unalignedAtomic = regexp.MustCompile(`\batomic\.(Add|And|Or|CompareAndSwap|Load|Store|Swap)(Int|Uint)64\(`)

// TestAtomics_64BitUseTypes checks that no source uses such a function.
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
		t.Fatalf("scanned %d sources: %v", scanned, err)
	}
	if !unalignedAtomic.MatchString("atomic.AddInt64" + "(&n, 1)") {
		t.Error("unalignedAtomic does not match a call")
	}
}
