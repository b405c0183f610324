package socket

import (
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/sechlol/go-message-hub/internal/body"
)

// The attempts of a Reader: how it waits until there is something to read, and reads it.

// read waits for bytes and reads once.
func (r *Reader) read() error {
	r.waits.Add(1)
	err := r.await()
	r.waits.Add(1)
	return err
}

// await is read without the account of it.
func (r *Reader) await() error {
	for {
		r.n, r.err, r.starved = 0, nil, false
		err := r.readOnce()
		switch {
		case r.starved:
			return nil
		case r.n > 0:
			r.took()
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err = r.deadline(); err != nil {
				return err
			}
		case errors.Is(err, io.EOF):
			return r.eof()
		case err != nil:
			return err
		} // else nothing happened, as a net.Conn may say
	}
}

// readOnce waits and reads. It leaves the outcome in r.n and r.starved.
func (r *Reader) readOnce() error {
	raw := r.base.below()
	if raw == nil {
		return r.readPlain()
	}
	err := raw.Read(r.attempt)
	if errors.Is(err, os.ErrDeadlineExceeded) && r.stopping.Load() == stopWhenEmpty {
		some := false
		if err = raw.Control(func(fd uintptr) { some = r.tryRead(fd) }); err == nil && !some {
			return ErrInterrupted
		}
	}
	if err != nil {
		return err
	}
	return r.err
}

// tryRead is called by the runtime when there may be something to read. It
// borrows memory only now, and gives it back when there is nothing after all.
func (r *Reader) tryRead(fd uintptr) bool {
	if r.rest != nil && r.leaves() {
		if done, reads := r.tryWhole(fd); !reads {
			return done
		}
	}
	p := r.target(r.limited(readSize))
	if p == nil {
		return r.tryStarve(fd)
	}
	if r.patient {
		r.patient = false
		_ = demandRaw(fd, 1) // fails only on a closed connection, as the read then will
	}
	n, again, err := r.base.read(fd, p)
	if again {
		r.untarget()
		r.arm()
		return false
	}
	r.n, r.err, r.full = int32(n), err, n == len(p)
	if n == 0 {
		r.untarget()
		if err == nil {
			r.err = io.EOF
		}
	}
	return true
}

// tryStarve is tryRead without memory to read into. The reader is starved only if
// the rest of the frame has come, or a read buffer full of it if that will do.
// Until then what has come stays in the kernel: whoever announces much, sends a
// little of it and is silent must not be given memory that others wait for.
func (r *Reader) tryStarve(fd uintptr) bool {
	if r.base.line != nil { // one cannot see what there is in what has come
		r.starved = true
		return true
	}
	r.patient = true
	enough, err := enoughRaw(fd, max(1, min(r.size, readSize)-r.restLen))
	switch {
	case err != nil:
		r.err = err
	case enough:
		r.starved = true
	default:
		r.arm()
		return false
	}
	return true
}

// readPlain reads through the net package, which wants the memory before it
// waits. It asks for much only when the last read filled its buffer, or brought as much
// as a record of TLS may.
func (r *Reader) readPlain() error {
	size := idleSize + r.restLen
	if r.full {
		size = r.limited(readSize)
	}
	p := r.target(size)
	if p == nil {
		r.starved = true
		return nil
	}
	r.arm()
	n, err := r.base.nc.Read(p)
	r.n, r.full = int32(n), n == len(p) || n >= recordSize/2
	if n == 0 {
		r.untarget()
		r.full = false
	}
	return err
}

// unread returns how many bytes wait in the kernel, where it can be asked.
func (b *base) unread() int {
	raw := b.below()
	if raw == nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) { n = unreadRaw(fd) }) // fails only on a closed connection
	return n
}

// below returns where to wait until something has come; nil: nowhere.
func (b *base) below() syscall.RawConn {
	if b.line != nil {
		return b.line.raw
	}
	return b.raw
}

// took accounts for r.n bytes that were read into the target.
func (r *Reader) took() {
	r.brought.Add(int64(r.n))
	if r.big != nil {
		r.have += int(r.n)
		r.progress(r.have)
		return
	}
	r.pos, r.end = 0, int32(r.restLen)+r.n
	if r.rest != nil {
		copy(r.buf.Bytes(), r.rest.Bytes()[:r.restLen])
		r.rest.Release()
		r.rest, r.restLen = nil, 0
		r.held.Store(0) // until settle finds that the frame still has no end
	}
	if r.base.config.Keep && int(r.end) < len(r.buf.Bytes())/2 {
		small := body.Get(int(r.end))
		copy(small.Bytes(), r.buf.Bytes()[:r.end])
		r.buf.Release()
		r.buf = small
	}
}

// read reads what has come without waiting.
func (b *base) read(fd uintptr, p []byte) (n int, again bool, err error) {
	if b.line != nil {
		return b.line.readOver(b.nc, fd, p)
	}
	return readRaw(fd, p)
}
