package socket

import (
	"testing"
	"unsafe"
)

// TestRetransmitQueue_Size checks that a retransmitQueue, which an idle connection with
// EnableAcks has besides a Conn, fits into a size class of Go's allocator.
func TestRetransmitQueue_Size(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("pointers have a different size here")
	}
	const maxLedger = 112
	if size := unsafe.Sizeof(retransmitQueue{}); size > maxLedger {
		t.Errorf("a retransmitQueue has %d bytes, want at most %d", size, maxLedger)
	}
}
