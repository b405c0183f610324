package natsconn

import (
	"fmt"
	"io"
)

// inputSize is the size of the buffer of an input beyond the largest frame, in bytes. It holds all
// that has arrived while a frame was handled, and a frame is moved within it seldom.
const inputSize = 128 << 10

// input reads operations. A frame is contiguous in its buffer and is handled there, not copied.
type input struct {
	r          io.Reader
	maxPayload int
	buf        []byte
	start, end int // buf[start:end] has been read from r and not been returned
}

func (in *input) init(r io.Reader, maxPayload int) {
	in.r, in.maxPayload = r, maxPayload
	in.buf = make([]byte, inputSize+maxPayload)
}

// next returns the next operation, which is valid until the next call. It skips those of
// kindSkipped.
func (in *input) next() (operation, error) {
	for {
		op, size, err := parse(in.buf[in.start:in.end], in.maxPayload)
		switch {
		case err != nil:
			return operation{}, err
		case op.kind == kindSkipped:
			err = in.skip(size)
		case size > 0 && size <= in.end-in.start:
			in.start += size
			return op, nil
		default:
			err = in.fill(size)
		}
		if err != nil {
			return operation{}, err
		}
	}
}

// fill reads more of an operation of size bytes, of which not all have arrived. 0: its line is not
// complete.
func (in *input) fill(size int) error {
	if size == 0 {
		size = maxInfo
	}
	switch {
	case in.start == in.end:
		in.start, in.end = 0, 0
	case in.start+size > len(in.buf):
		in.end = copy(in.buf, in.buf[in.start:in.end])
		in.start = 0
	}
	n, err := in.r.Read(in.buf[in.end:])
	in.end += n
	if n > 0 {
		return nil // an error comes again
	}
	return noProgress(err)
}

// skip drops size bytes, of which not all may have arrived.
func (in *input) skip(size int) error {
	for arrived := in.end - in.start; size > arrived; arrived = in.end {
		size -= arrived
		in.start, in.end = 0, 0
		n, err := in.r.Read(in.buf)
		if n == 0 {
			return noProgress(err)
		}
		in.end = n
	}
	in.start += size
	return nil
}

func noProgress(err error) error {
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// countedReader reads from a connection and counts in reads.
type countedReader struct{ c *Conn }

func (r countedReader) Read(b []byte) (int, error) {
	r.c.reads.Add(1)
	n, err := r.c.nc.Read(b)
	r.c.reads.Add(1)
	if err == io.EOF {
		err = errServerClosed
	}
	return n, err
}

var errServerClosed = fmt.Errorf("the NATS server has closed the connection: %w", io.EOF)

// read handles what the server sends, until the connection ends. It never writes: a server that
// reads nothing while it writes would wait for the hub, and the hub for it.
func (c *Conn) read() {
	for {
		op, err := c.in.next()
		if err != nil {
			c.fail(err)
			return
		}
		switch op.kind {
		case kindFrame:
			c.config.Handle(op.payload)
		case kindPing:
			select {
			case c.pongsOwed <- struct{}{}:
			default:
			}
		case kindError:
			told := &ServerError{Text: string(op.text)}
			if !told.isPublishPermission() {
				c.fail(told)
				return
			}
			c.config.OnError(told)
		}
		// INFO: nats.go gets it on its connection. PONG: that something has come is enough.
	}
}
