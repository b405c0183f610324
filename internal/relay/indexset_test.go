package relay

import (
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// TestIndexSet_AllIndexes adds every third index, up to the maximum.
func TestIndexSet_AllIndexes(t *testing.T) {
	var s indexSet
	for i := 0; i < wire.MaxReceivers; i += 3 {
		s.set(i)
	}
	for i := range wire.MaxReceivers {
		if s.has(i) != (i%3 == 0) {
			t.Errorf("index %d is in the set: %t", i, s.has(i))
		}
	}
}
