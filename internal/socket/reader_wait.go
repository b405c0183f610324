package socket

import (
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/sechlol/go-message-hub/internal/body"
)

// The reads of a Reader: waiting for data, and reading it.

// waitAndRead waits for data, reads once, and updates waitSeq.
func (r *Reader) waitAndRead() error {
	r.waitSeq.Add(1)
	err := r.readLoop()
	r.waitSeq.Add(1)
	return err
}

// readLoop is waitAndRead without waitSeq.
func (r *Reader) readLoop() error {
	for {
		r.n, r.err, r.noMemory = 0, nil, false
		err := r.readOnce()
		switch {
		case r.noMemory:
			return nil
		case r.n > 0:
			r.onRead()
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err = r.onDeadline(); err != nil {
				return err
			}
		case errors.Is(err, io.EOF):
			return r.eofError()
		case err != nil:
			return err
		} // otherwise no data was read, which a net.Conn is allowed to report
	}
}

// readOnce waits and reads. The results are in r.n and r.noMemory.
func (r *Reader) readOnce() error {
	raw := r.base.pollConn()
	if raw == nil {
		return r.readPlain()
	}
	err := raw.Read(r.tryReadFn)
	if errors.Is(err, os.ErrDeadlineExceeded) && r.stopMode.Load() == stopWhenEmpty {
		done := false
		if err = raw.Control(func(fd uintptr) { done = r.tryRead(fd) }); err == nil && !done {
			return ErrInterrupted
		}
	}
	if err != nil {
		return err
	}
	return r.err
}

// tryRead reads without waiting. The runtime calls it when the socket can be readable; false
// makes the runtime wait. tryRead borrows memory only now, and returns it if no data has
// arrived.
func (r *Reader) tryRead(fd uintptr) bool {
	if r.start != nil && r.waitsForWhole() {
		if done, streamed := r.tryReadWhole(fd); !streamed {
			return done
		}
	}
	p := r.nextBuffer(r.capSize(readSize))
	if p == nil {
		return r.tryWithoutMemory(fd)
	}
	if r.lowatRaised {
		r.lowatRaised = false
		_ = setRcvLowatRaw(fd, 1) // fails only on a closed connection, where the read fails as well
	}
	n, again, err := r.base.read(fd, p)
	if again {
		r.returnBuffer()
		r.armDeadline()
		return false
	}
	r.n, r.err, r.lastReadFull = int32(n), err, n == len(p)
	if n == 0 {
		r.returnBuffer()
		if err == nil {
			r.err = io.EOF
		}
	}
	return true
}

// tryWithoutMemory is tryRead without memory to read into. It sets noMemory only if the rest
// of the frame has arrived, or a full read buffer of it. Until then the data stays in the
// kernel: a peer that announces a large frame, sends a small part of it and is then silent
// must not get memory that others wait for.
func (r *Reader) tryWithoutMemory(fd uintptr) bool {
	if r.base.nonblock != nil { // TLS: the size of the decrypted data is not known
		r.noMemory = true
		return true
	}
	r.lowatRaised = true
	ready, err := pollRcvLowatRaw(fd, max(1, min(r.size, readSize)-r.startLen))
	switch {
	case err != nil:
		r.err = err
	case ready:
		r.noMemory = true
	default:
		r.armDeadline()
		return false
	}
	return true
}

// readPlain reads through the net package, which needs the memory before it waits. It asks for
// readSize only if the last read filled its buffer, or returned at least half of a full TLS
// record.
func (r *Reader) readPlain() error {
	size := idleBufSize + r.startLen
	if r.lastReadFull {
		size = r.capSize(readSize)
	}
	p := r.nextBuffer(size)
	if p == nil {
		r.noMemory = true
		return nil
	}
	r.armDeadline()
	n, err := r.base.nc.Read(p)
	r.n, r.lastReadFull = int32(n), n == len(p) || n >= maxRecordSize/2
	if n == 0 {
		r.returnBuffer()
		r.lastReadFull = false
	}
	return err
}

// unread returns the number of bytes that wait in the kernel, or 0 where the kernel does not
// report it.
func (b *base) unread() int {
	raw := b.pollConn()
	if raw == nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { n = unreadRaw(fd) }) // fails only on a closed connection
	return n
}

// pollConn returns the raw connection on which the Reader waits for data, or nil if there is
// none.
func (b *base) pollConn() syscall.RawConn {
	if b.nonblock != nil {
		return b.nonblock.raw
	}
	return b.raw
}

// onRead accounts for r.n bytes that were read into the buffer of nextBuffer.
func (r *Reader) onRead() {
	r.bytesRead.Add(int64(r.n))
	if r.large != nil {
		r.largeLen += int(r.n)
		r.recordProgress(r.largeLen)
		return
	}
	r.pos, r.end = 0, int32(r.startLen)+r.n
	if r.start != nil {
		copy(r.buf.Bytes(), r.start.Bytes()[:r.startLen])
		r.start.Release()
		r.start, r.startLen = nil, 0
		r.heldSince.Store(0) // finishRead sets it again if the frame is still unfinished
	}
	if r.base.config.RetainsFrames && int(r.end) < len(r.buf.Bytes())/2 {
		small := body.Get(int(r.end))
		copy(small.Bytes(), r.buf.Bytes()[:r.end])
		r.buf.Release()
		r.buf = small
	}
}

// read reads without waiting.
func (b *base) read(fd uintptr, p []byte) (n int, again bool, err error) {
	if b.nonblock != nil {
		return b.nonblock.readTLS(b.nc, fd, p)
	}
	return readRaw(fd, p)
}
