package client

import (
	"context"
	"iter"
)

// Receive returns the next message. It waits for one until ctx ends or the
// client is over; what has come is still returned then.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	return c.inbox.receive(ctx)
}

// Messages yields the messages as they come, and at the end one error: that of
// ctx, or why the client is over.
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
