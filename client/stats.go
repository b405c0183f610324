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

	lost atomic.Uint64 // messages that Send took and that did not leave
}

func (c *counts) wrote(t socket.Tally) {
	c.messagesOut.Add(uint64(t.Frames))
	c.bytesOut.Add(uint64(t.Bytes))
}

func (c *counts) lose(t socket.Tally) { c.lost.Add(uint64(t.Deliveries)) }
