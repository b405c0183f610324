package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// Receive returns the next message. It waits for one until ctx ends or the
// connection is over; what has come is still returned then.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	var one [1]Message
	_, err := c.inbox.take(ctx, one[:])
	return one[0], err
}

// Messages yields the messages as they come, and at the end one error: that of
// ctx, which it looks at now and then where messages never cease, or why the
// connection is over. It takes some messages from the inbox at
// once, so where several goroutines receive, one may wait while another has
// messages that it has not yielded yet.
func (c *Client) Messages(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		batch := make([]Message, batchMost)
		for {
			n, err := 0, ctx.Err()
			if err == nil {
				n, err = c.inbox.take(ctx, batch)
			}
			if err != nil {
				yield(Message{}, err)
				return
			}
			for i := range n {
				m := batch[i]
				batch[i] = Message{} // or it would keep the body alive
				if !yield(m, nil) {
					c.inbox.putBack(batch[i+1 : n])
					return
				}
			}
		}
	}
}

// read reads until the connection is over.
func (c *Client) read() {
	defer close(c.stopped)
	err := c.readAll()
	select {
	case <-c.closing:
		err = ErrClosed
	default:
	}
	c.fail(err)
	c.conn.Drop()
}

func (c *Client) readAll() error {
	var batch []Message
	for {
		if err := c.conn.Fill(); err != nil {
			return readError(err)
		}
		var err error
		batch, err = c.readTurn(batch[:0])
		open := c.inbox.push(batch)
		clear(batch)
		if err != nil {
			return err
		}
		if !open {
			c.inbox.await(c.done, c.closing)
		}
	}
}

// readTurn handles all whole frames of one read, and appends the messages among
// them to batch. Those before an answer go to the inbox before the answer goes to
// who asked: what is true on the wire is true in the program.
func (c *Client) readTurn(batch []Message) ([]Message, error) {
	frames := uint64(0)
	defer func() { c.counts.read(frames, uint64(c.conn.Brought())) }()
	for {
		f, ok, err := c.conn.Next()
		if err != nil {
			return batch, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if !ok {
			return batch, nil
		}
		frames++
		switch f.Type {
		case wire.TypeRelay:
			if len(f.Payload) > c.options.MaxBody {
				return batch, fmt.Errorf("%w: body of %d bytes, at most %d are allowed", ErrProtocol, len(f.Payload), c.options.MaxBody)
			}
			if c.options.OnMessage != nil {
				c.options.OnMessage(Message{Body: f.Payload[:len(f.Payload):len(f.Payload)]})
				continue
			}
			f.Buffer.Retain()
			batch = append(batch, Message{Body: f.Payload[:len(f.Payload):len(f.Payload)], buffer: f.Buffer})
		default:
			c.inbox.push(batch)
			clear(batch)
			batch = batch[:0]
			if err := c.pending.settle(f); err != nil {
				return batch, err
			}
		}
	}
}

// readError says in the client's words why the reading ended.
func readError(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return ErrHubClosed
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w in the middle of a frame", ErrHubClosed)
	default:
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
}

// pending are the requests that the hub has yet to answer. It answers in order,
// and two answers of one kind are as good as each other, so the oldest request
// of a kind gets the first.
type pending struct {
	mu       sync.Mutex
	identity []chan uint64
	list     []chan []uint64
	err      error
}

// settle hands an answer to the one who waits for it.
func (p *pending) settle(f socket.Frame) error {
	switch f.Type {
	case 0: // the empty frame means nothing
		return nil
	case wire.TypeIdentity:
		id, err := wire.ParseIdentity(f.Payload)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		return answer(p, &p.identity, id)
	case wire.TypeList:
		ids, err := wire.ParseList(f.Payload)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		return answer(p, &p.list, ids.AppendTo(make([]uint64, 0, ids.Len())))
	default:
		return fmt.Errorf("%w: frame of unknown type %d", ErrProtocol, f.Type)
	}
}

// answer gives value to the first in line.
func answer[T any](p *pending, line *[]chan T, value T) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil // the one who asked has been told that there will be none
	}
	if len(*line) == 0 {
		return fmt.Errorf("%w: an answer that nobody asked for", ErrProtocol)
	}
	serve(line, value)
	return nil
}

// serve gives value to the first in line. Called with mu held.
func serve[T any](line *[]chan T, value T) {
	(*line)[0] <- value // capacity 1, and nobody else sends
	*line = (*line)[1:]
}

// ask puts a request in line. The channel is closed when there will be no answer.
func ask[T any](p *pending, line *[]chan T) (chan T, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil, p.err
	}
	c := make(chan T, 1)
	*line = append(*line, c)
	return c, nil
}

// withdraw takes a request out of line that was not sent. If it already has an
// answer, that was meant for one behind it, whose request was sent first.
func withdraw[T any](p *pending, line *[]chan T, c chan T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range *line {
		if (*line)[i] == c {
			*line = append((*line)[:i], (*line)[i+1:]...)
			return
		}
	}
	if value, ok := <-c; ok && len(*line) > 0 { // answered or closed: nothing else takes it out of line
		serve(line, value)
	}
}

// close fails all requests.
func (p *pending) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	for _, c := range p.identity {
		close(c)
	}
	for _, c := range p.list {
		close(c)
	}
	p.identity, p.list = nil, nil
}
