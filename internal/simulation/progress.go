package simulation

import (
	"time"
)

// progress is a sample of the progress of a run.
type progress struct {
	at       time.Time
	sent     uint64 // messages that the clients accepted
	received uint64 // messages that have arrived
	reported uint64 // messages whose report the senders received
}
