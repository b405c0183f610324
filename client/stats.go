package client

import (
	"sync/atomic"

	"github.com/sechlol/go-message-hub/internal/outbox"
)

// Stats are the counters of a client over all its connections. Messages are frames of any type:
// messages, requests and replies. Bytes are those of frames, without the overhead of TLS.
type Stats struct {
	MessagesIn, MessagesOut uint64
	BytesIn, BytesOut       uint64

	// Deliveries is the number of received messages, without duplicates, that were handed to the
	// application or wait in the inbox. It includes messages of the client to itself. It is
	// updated after each read from the connection.
	Deliveries uint64
}

// counts are the counters of a client. Any goroutine can change them.
type counts struct {
	messagesIn, messagesOut, bytesIn, bytesOut, deliveries atomic.Uint64

	dropped atomic.Uint64 // messages that Send queued and that were not sent
}

func (c *counts) onWritten(n outbox.Counts) {
	c.messagesOut.Add(uint64(n.Frames))
	c.bytesOut.Add(uint64(n.Bytes))
}

func (c *counts) onDropped(n outbox.Counts) { c.dropped.Add(uint64(n.Deliveries)) }

// stats returns the counters that the application sees.
func (c *counts) stats() Stats {
	return Stats{
		MessagesIn:  c.messagesIn.Load(),
		MessagesOut: c.messagesOut.Load(),
		BytesIn:     c.bytesIn.Load(),
		BytesOut:    c.bytesOut.Load(),
		Deliveries:  c.deliveries.Load(),
	}
}
