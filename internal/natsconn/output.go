package natsconn

import (
	"net"
	"time"
)

// maxCopy is the size of frames up to which a copy costs less than a second slice to write.
const maxCopy = 4 << 10

// output is the memory of writes, kept so that they allocate nothing.
type output struct {
	buf    []byte
	slices [3][]byte
	vector net.Buffers // what of slices is not written yet
}

// Publish writes a frame to the connection. It keeps neither subject nor payload. It blocks while
// the server does not read. Each write that takes Config.WriteTimeout ends the connection, with an
// error for all who wait. A frame that was written can still be lost.
func (c *Conn) Publish(subject, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := &c.out
	o.buf = appendPub(o.buf[:0], subject, len(payload))
	if c.tcp == nil || len(payload) <= maxCopy {
		o.buf = append(append(o.buf, payload...), crlf...)
		return c.write(o.buf)
	}
	o.slices = [3][]byte{o.buf, payload, crlfBytes}
	o.vector = o.slices[:]
	c.tcp.SetWriteDeadline(time.Now().Add(c.config.WriteTimeout)) // if it fails, so does the write
	_, err := o.vector.WriteTo(c.tcp)
	o.slices[1] = nil
	return c.written(err)
}

var crlfBytes = []byte(crlf)

// writeControl writes an operation without a payload.
func (c *Conn) writeControl(operation []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.write(operation)
}

// write writes to the connection, with mu held.
func (c *Conn) write(b []byte) error {
	c.nc.SetWriteDeadline(time.Now().Add(c.config.WriteTimeout)) // if it fails, so does the write
	_, err := c.nc.Write(b)
	return c.written(err)
}

// written ends the connection after a write that has failed, and returns why it has ended.
func (c *Conn) written(err error) error {
	if err == nil {
		return nil
	}
	c.fail(err)
	return c.Err()
}
