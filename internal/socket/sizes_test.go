package socket

import (
	"testing"
	"unsafe"
)

// TestRetransmitQueue_Size holds what an idle connection whose frames are numbered has besides a Conn to a size
// class of Go's allocator.
func TestRetransmitQueue_Size(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("pointers have another size here")
	}
	const maxLedger = 112
	if size := unsafe.Sizeof(retransmitQueue{}); size > maxLedger {
		t.Errorf("a ledger has %d bytes, at most %d expected", size, maxLedger)
	}
}
