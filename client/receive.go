package client

import (
	"context"
	"iter"
)

// Receive returns the next message. It waits until ctx ends or the client has ended. Messages
// that have arrived are returned even then. The caller owns Message.Body: see Message. Receive
// can be called concurrently; each message goes to one caller. A call of Receive acknowledges
// the messages of earlier calls as received.
//
// The errors are the error of ctx, and the reason why the client has ended: see Err.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	return c.inbox.receive(ctx)
}

// Messages returns an iterator over the messages as they arrive. The last pair has an error:
// that of ctx, or the reason why the client has ended. Messages receives like Receive. Breaking
// out of the loop loses no message.
func (c *Client) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			var m Message
			err := ctx.Err()
			if err == nil {
				m, err = c.inbox.receive(ctx)
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}
