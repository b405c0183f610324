package hub

import (
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// TestDropReasonOf_Fates checks the reason of every fate. Fates without a reason of their own are
// those of a receiver that was there.
func TestDropReasonOf_Fates(t *testing.T) {
	for _, fate := range wire.Fates() {
		want, ok := map[wire.Fate]DropReason{
			wire.FateUnknown: DropUnknown, wire.FateRefused: DropForbidden, wire.FateTooLarge: DropTooLarge, wire.FateUnreachable: DropUnreachable,
		}[fate]
		if !ok {
			want = DropGone
		}
		if got := dropReasonOf(fate); got != want {
			t.Errorf("a message with the fate %v is dropped as %v, want %v", fate, got, want)
		}
	}
}
