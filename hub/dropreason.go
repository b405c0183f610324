package hub

import (
	"fmt"

	"github.com/sechlol/go-message-hub/wire"
)

// DropReason is the reason why a body was not delivered to one of its receivers. Its text is a
// label value of metrics.
type DropReason uint8

// The reasons for which the hub drops a body.
const (
	// DropUnknown: no client with the id is connected.
	DropUnknown DropReason = iota

	// DropForbidden: the sender is not permitted to send to the client.
	DropForbidden

	// DropGone: the receiver disconnected before the body was written, or no connection of the
	// receiver could carry it.
	DropGone

	// DropTooLarge: the body exceeds the maximum size that the receiver named in its HELLO,
	// possibly when it resumed its session.
	DropTooLarge

	// DropUnreachable: the client was last seen at another hub of the cluster, which cannot be
	// reached.
	DropUnreachable

	numDropReasons
)

// dropReasons holds what depends on the reason alone.
var dropReasons = [numDropReasons]struct {
	text      string    // for metrics
	row       string    // in the text of Stats
	alwaysRow bool      // the row is printed even if nothing was dropped
	fate      wire.Fate // of a message that is dropped for the reason
}{
	DropUnknown:   {text: "unknown", row: "unknown receiver", alwaysRow: true, fate: wire.FateUnknown},
	DropForbidden: {text: "forbidden", row: "forbidden", fate: wire.FateRefused},
	DropGone:      {text: "gone", row: "receiver disconnected", alwaysRow: true, fate: wire.FateGone},
	DropTooLarge:  {text: "too large", row: "too large for the receiver", fate: wire.FateTooLarge},

	DropUnreachable: {text: "unreachable", row: "hub unreachable", fate: wire.FateUnreachable},
}

// String returns the text of the reason for metrics.
func (r DropReason) String() string {
	if r < numDropReasons {
		return dropReasons[r].text
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// dropReasonOf returns the reason for which a message with that fate was dropped.
func dropReasonOf(fate wire.Fate) DropReason {
	for reason := range numDropReasons {
		if dropReasons[reason].fate == fate {
			return reason
		}
	}
	return DropGone
}

// DropReasons returns all drop reasons.
func DropReasons() []DropReason { return valuesBelow(numDropReasons) }
