package socket

import (
	"io"
	"sync/atomic"
	"time"
)

// A large frame is left in the kernel until all of it is there (Config.MinWhole), and its final
// memory is drawn only then: a peer that stops in the middle of one holds no memory for which
// others wait.
//
// What was read before the size was known stays where settle has put it. SO_RCVLOWAT has the kernel
// grow its receive buffer to what is missing, and wake the Reader when that has come. Whether it
// has is what SIOCINQ says: the socket is readable sooner when the kernel takes no more. If that
// lasts, or the kernel already holds as much as it is to hold for all connections (KernelBudget), the
// frame overflows, and is read as it comes, like a small one.

// KernelBudget bounds how many bytes of large frames the kernel is asked to hold for many connections
// together. What they take without being asked, until the Reader knows that a frame is large, is
// not counted. Its methods may be called concurrently.
type KernelBudget struct {
	max  int64 // static after construction
	used atomic.Int64
}

// NewKernelBudget returns room for so many bytes.
func NewKernelBudget(bytes int64) *KernelBudget { return &KernelBudget{max: bytes} }

// DefaultKernelBudget returns room for three quarters of what the kernel holds for all connections of
// the machine before it begins to save memory (the first number of tcp_mem), or for 64 MiB where it
// does not say that, and for at most a quarter of what the control group of the process may have.
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
	// announceSize is how many bytes are read after the receive buffer was made to grow: the kernel
	// tells the peer of the larger window only when something is read. Otherwise the peer hears of
	// it when it probes a window that was closed, 200 ms later.
	announceSize = 512

	// stuckTimeout is how long the kernel may take no more of a frame until it is read as it comes:
	// longer than a peer takes to probe a closed window for the first time.
	stuckTimeout = 300 * time.Millisecond
)

// waitsForWhole reports whether the unfinished frame is left in the kernel until all of it has come.
func (r *Reader) waitsForWhole() bool {
	largest := r.base.config.MinWhole // of those that are read as they come
	return largest > 0 && r.size > largest && r.base.raw != nil && !r.streamed
}

// tryReadWhole is tryRead for a frame that is left in the kernel. done ends the wait: the Reader is
// starved, which has Fill draw the final memory of the frame, because the kernel holds all of it,
// or r.err says why nothing more comes. reads says that the frame is to be read as it comes, from
// now on.
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
		r.bytesRead.Add(int64(n)) // it is not read any more, and has come
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

// rcvLowatFor is for how many bytes the kernel is asked to have room so that it holds n: it counts what
// its own structures take, and is to have room for a packet more.
func rcvLowatFor(n int) int { return n + n/4 + 2*readSize }

// acquireKernelBudget takes room in the kernel for what is missing of the frame, and reports whether there is
// any.
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

// releaseKernelBudget gives that back.
func (r *Reader) releaseKernelBudget() {
	if r.kernelBytes > 0 {
		r.base.config.KernelBudget.release(r.kernelBytes)
		r.kernelBytes = 0
	}
}

// raiseRcvLowat has the kernel hold all that is missing of the frame.
func (r *Reader) raiseRcvLowat(fd uintptr) error {
	missing := r.size - r.startLen
	if err := setRcvLowatRaw(fd, rcvLowatFor(missing)); err != nil {
		return err
	}
	space := r.start.Bytes()[r.startLen:]
	// The last byte stays in the kernel, even if all have come meanwhile: the frame ends in its
	// final memory.
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

// isStuck reports whether the kernel has taken nothing more for stuckTimeout. It holds n bytes.
func (r *Reader) isStuck(n int) bool {
	if r.stuckSince == 0 || n > r.stuckLen {
		r.stuckSince, r.stuckLen = now(), n
	}
	return r.stuckSince.add(stuckTimeout).until() <= 0
}

// What the kernel does with a frame of which it does not hold everything yet.
const (
	kernelAccepting  = iota // it takes more
	kernelProgressed        // it has taken more meanwhile
	kernelStuck             // it takes no more in this moment
	kernelFull              // it holds as much as it ever will
)
