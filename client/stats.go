package client

import (
	"sync/atomic"

	"github.com/sechlol/go-message-hub/internal/socket"
)

// Stats is what a client has moved, on all its connections. Messages are frames of any
// kind: messages, requests and answers. Bytes are those on the wire.
type Stats struct {
	MessagesIn, MessagesOut uint64
	BytesIn, BytesOut       uint64

	// Deliveries are the messages among MessagesIn that were handed to the application, or wait for
	// it, each once; those of the client to itself included. They are counted after each read from
	// the connection.
	Deliveries uint64
}

// Stats returns the numbers of this moment. They remain after the end.
func (c *Client) Stats() Stats {
	return Stats{
		MessagesIn:  c.counts.messagesIn.Load(),
		MessagesOut: c.counts.messagesOut.Load(),
		BytesIn:     c.counts.bytesIn.Load(),
		BytesOut:    c.counts.bytesOut.Load(),
		Deliveries:  c.counts.deliveries.Load(),
	}
}

type counts struct {
	messagesIn, messagesOut, bytesIn, bytesOut, deliveries atomic.Uint64

	dropped atomic.Uint64 // messages that Send took and that did not leave
}

func (c *counts) onWritten(n socket.Counts) {
	c.messagesOut.Add(uint64(n.Frames))
	c.bytesOut.Add(uint64(n.Bytes))
}

func (c *counts) onDropped(n socket.Counts) { c.dropped.Add(uint64(n.Deliveries)) }
