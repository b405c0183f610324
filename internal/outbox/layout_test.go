package outbox

import (
	"testing"
	"unsafe"
)

// TestOutbox_OfferFields_FitCacheLine checks that what each Offer changes in an Outbox is in its
// first 32 bytes. An Outbox that starts at a multiple of 32 bytes then has them in one cache line of
// 64 bytes (docs/decisions/0019).
func TestOutbox_OfferFields_FitCacheLine(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("pointers have a different size here")
	}
	if offset := unsafe.Offsetof(Outbox{}.conn); offset != 32 {
		t.Errorf("the fields of Offer take %d bytes, want 32", offset)
	}
}
