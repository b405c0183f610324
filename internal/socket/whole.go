package socket

import (
	"io"
	"sync/atomic"
	"time"
)

// A frame above Config.MinWhole stays in the kernel until all of it has arrived, and only then is
// its final memory acquired: a peer that stops in the middle of such a frame holds no memory that
// others wait for.
//
// The bytes that were read before the size was known stay where finishRead has put them.
// SO_RCVLOWAT makes the kernel grow its receive buffer to the missing bytes, and wake the Reader
// when they have arrived. The Reader checks by SIOCINQ whether they have, because the socket also
// becomes readable when the kernel accepts no more. If the kernel accepts no more for
// stuckTimeout, or the KernelBudget of all connections is used up, the frame is streamed: read as
// it arrives, like a small frame.

// KernelBudget limits the bytes of large frames that the kernel is asked to hold, for all
// connections that share the budget. Bytes that arrive before the Reader knows that a frame is
// large do not count. Its methods can be called concurrently.
type KernelBudget struct {
	max  int64 // static after construction
	used atomic.Int64
}

// NewKernelBudget returns a budget of the given number of bytes.
func NewKernelBudget(bytes int64) *KernelBudget { return &KernelBudget{max: bytes} }

// DefaultKernelBudget returns a budget of three quarters of the memory that the kernel holds
// for all TCP connections of the machine before it begins to save memory (the first number of
// tcp_mem), or of 64 MiB where the kernel does not publish this number. The budget is at most
// a quarter of the memory limit of the control group of the process.
func DefaultKernelBudget() *KernelBudget { return NewKernelBudget(kernelMemory()) }

func (b *KernelBudget) tryAcquire(n int) bool {
	if b.used.Add(int64(n)) <= b.max {
		return true
	}
	b.used.Add(-int64(n))
	return false
}

func (b *KernelBudget) release(n int) { b.used.Add(-int64(n)) }

const (
	// announceSize is the number of bytes that are read after the receive buffer has grown,
	// because the kernel announces the larger window to the peer only after a read. Otherwise the
	// peer learns of it when it probes the closed window, 200 ms later.
	announceSize = 512

	// stuckTimeout is how long the kernel can accept no more of a frame before the frame is read
	// as it arrives. It is longer than the time after which a peer first probes a closed window.
	stuckTimeout = 300 * time.Millisecond
)

// waitsForWhole reports whether the unfinished frame stays in the kernel until all of it has
// arrived.
func (r *Reader) waitsForWhole() bool {
	largest := r.base.config.MinWhole // size of the largest frame that is read as it arrives
	return largest > 0 && r.size > largest && r.base.raw != nil && !r.streamed
}

// tryReadWhole is tryRead for a frame that is left in the kernel. done ends the wait: either
// noMemory is set, which makes Fill acquire the final memory of the frame because the kernel
// holds all of it, or r.err says why no more data arrives. streamed says that the frame is
// read as it arrives, from now on.
func (r *Reader) tryReadWhole(fd uintptr) (done, streamed bool) {
	if unreadRaw(fd) < r.size-r.startLen && !r.lowatRaised {
		if !r.acquireKernelBudget() {
			r.streamed = true
			return false, true
		}
		if r.err = r.raiseRcvLowat(fd); r.err != nil {
			return true, false
		}
	}
	n, state, err := 0, kernelProgressed, error(nil)
	for state == kernelProgressed {
		if n = unreadRaw(fd); n >= r.size-r.startLen {
			r.noMemory = true
			return true, false
		}
		state, err = kernelStateRaw(fd, n)
	}
	switch {
	case err != nil:
		r.bytesRead.Add(int64(n)) // these bytes have arrived and will not be read
		r.err = err
		return true, false
	case state == kernelFull || state == kernelStuck && r.isStuck(n):
		r.streamed = true
		r.releaseKernelBudget()
		return false, true
	case state == kernelStuck:
		r.armDeadlineAt(r.stuckSince.add(stuckTimeout))
	default:
		r.stuckSince = 0
	}
	r.armDeadline()
	return false, false
}

// rcvLowatFor returns the value of SO_RCVLOWAT that makes the kernel hold n bytes. It leaves
// room for the kernel's own structures and for another packet.
func rcvLowatFor(n int) int { return n + n/4 + 2*readSize }

// acquireKernelBudget acquires kernel budget for the missing bytes of the frame and reports
// whether there was room.
func (r *Reader) acquireKernelBudget() bool {
	b, n := r.base.config.KernelBudget, rcvLowatFor(r.size-r.startLen)
	if b == nil {
		return true
	}
	if !b.tryAcquire(n) {
		return false
	}
	r.kernelBytes = n
	return true
}

// releaseKernelBudget releases the kernel budget of the frame.
func (r *Reader) releaseKernelBudget() {
	if r.kernelBytes > 0 {
		r.base.config.KernelBudget.release(r.kernelBytes)
		r.kernelBytes = 0
	}
}

// raiseRcvLowat makes the kernel hold all missing bytes of the frame.
func (r *Reader) raiseRcvLowat(fd uintptr) error {
	missing := r.size - r.startLen
	if err := setRcvLowatRaw(fd, rcvLowatFor(missing)); err != nil {
		return err
	}
	space := r.start.Bytes()[r.startLen:]
	// The last byte stays in the kernel, even if all bytes have arrived meanwhile: the end of the
	// frame must be read into its final memory.
	if space = space[:min(len(space), missing-1, announceSize)]; len(space) > 0 {
		n, again, err := readRaw(fd, space)
		switch {
		case err != nil:
			return err
		case n == 0 && !again:
			return io.EOF
		}
		r.bytesRead.Add(int64(n))
		r.startLen += n
	}
	r.lowatRaised, r.stuckSince = true, 0
	return setRcvLowatCappedRaw(fd, r.size-r.startLen)
}

// isStuck reports whether the kernel, which holds n bytes, has accepted no more for
// stuckTimeout.
func (r *Reader) isStuck(n int) bool {
	if r.stuckSince == 0 || n > r.stuckLen {
		r.stuckSince, r.stuckLen = now(), n
	}
	return r.stuckSince.add(stuckTimeout).until() <= 0
}

// States of a frame of which the kernel does not hold all bytes yet: see kernelStateRaw.
const (
	kernelAccepting  = iota // the kernel accepts more
	kernelProgressed        // the kernel has accepted more meanwhile
	kernelStuck             // the kernel accepts no more at the moment
	kernelFull              // the kernel holds as much as it ever will
)
