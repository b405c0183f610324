package relay

import (
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// outcomeFates holds the fate of frames after Outbox.Offer.
var outcomeFates = [...]wire.Fate{
	outbox.Queued:         wire.FateQueued,
	outbox.Blocked:        wire.FatePending, // an event follows
	outbox.Closed:         wire.FateGone,
	outbox.Full:           wire.FateFull,
	outbox.TooLarge:       wire.FatePending, // Sender offers its parts
	outbox.AlreadyExpired: wire.FateExpired,
}

// eventFates holds the fate of frames after an event.
var eventFates = [...]wire.Fate{
	outbox.EventQueued:      wire.FateQueued,
	outbox.EventWritten:     wire.FateWritten,
	outbox.EventAcked:       wire.FateReceived,
	outbox.EventExpired:     wire.FateExpired,
	outbox.EventDropped:     wire.FateFull,
	outbox.EventLost:        wire.FateGone,
	outbox.EventUnacked:     wire.FateUncertain,
	outbox.EventUnreachable: wire.FateUnreachable,
	outbox.EventTooLarge:    wire.FateTooLarge,
}
