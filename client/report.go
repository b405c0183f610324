package client

import "github.com/sechlol/go-message-hub/wire"

// Report is the delivery report of one message.
type Report struct {
	Seq   uint64      // number of the message: Message.Seq at the receivers
	Fates []wire.Fate // one per receiver, in the order of to
}

// Reached returns the number of receivers for which the message has reached level.
func (r *Report) Reached(level wire.Level) (n int) {
	for _, fate := range r.Fates {
		if fate.Reaches(level) {
			n++
		}
	}
	return n
}
