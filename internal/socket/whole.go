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
// lasts, or the kernel already holds as much as it is to hold for all connections (KernelRoom), the
// frame overflows, and is read as it comes, like a small one.

// KernelRoom bounds how many bytes of large frames the kernel is asked to hold for many connections
// together. What they take without being asked, until the Reader knows that a frame is large, is
// not counted. Its methods may be called concurrently.
type KernelRoom struct {
	max  int64 // static after construction
	used atomic.Int64
}

// NewKernelRoom returns room for so many bytes.
func NewKernelRoom(bytes int64) *KernelRoom { return &KernelRoom{max: bytes} }

// DefaultKernelRoom returns room for three quarters of what the kernel holds for all connections of
// the machine before it begins to save memory (the first number of tcp_mem), or for 64 MiB where it
// does not say that, and for at most a quarter of what the control group of the process may have.
func DefaultKernelRoom() *KernelRoom { return NewKernelRoom(kernelMemory()) }

func (k *KernelRoom) take(n int) bool {
	if k.used.Add(int64(n)) <= k.max {
		return true
	}
	k.used.Add(-int64(n))
	return false
}

func (k *KernelRoom) giveBack(n int) { k.used.Add(-int64(n)) }

const (
	// announceSize is how many bytes are read after the receive buffer was made to grow: the kernel
	// tells the peer of the larger window only when something is read. Otherwise the peer hears of
	// it when it probes a window that was closed, 200 ms later.
	announceSize = 512

	// maxStuck is how long the kernel may take no more of a frame until it is read as it comes:
	// longer than a peer takes to probe a closed window for the first time.
	maxStuck = 300 * time.Millisecond
)

// leaves reports whether the unfinished frame is left in the kernel until all of it has come.
func (r *Reader) leaves() bool {
	largest := r.base.config.MinWhole // of those that are read as they come
	return largest > 0 && r.size > largest && r.base.raw != nil && !r.overflow
}

// tryWhole is tryRead for a frame that is left in the kernel. done ends the wait: the Reader is
// starved, which has Fill draw the final memory of the frame, because the kernel holds all of it,
// or r.err says why nothing more comes. reads says that the frame is to be read as it comes, from
// now on.
func (r *Reader) tryWhole(fd uintptr) (done, reads bool) {
	if unreadRaw(fd) < r.size-r.restLen && !r.patient {
		if !r.takeRoom() {
			r.overflow = true
			return false, true
		}
		if r.err = r.demandWhole(fd); r.err != nil {
			return true, false
		}
	}
	n, state, err := 0, kernelMoved, error(nil)
	for state == kernelMoved {
		if n = unreadRaw(fd); n >= r.size-r.restLen {
			r.starved = true
			return true, false
		}
		state, err = wholeRaw(fd, n)
	}
	switch {
	case err != nil:
		r.brought.Add(int64(n)) // it is not read any more, and has come
		r.err = err
		return true, false
	case state == kernelFull || state == kernelStuck && r.staysStuck(n):
		r.overflow = true
		r.leaveRoom()
		return false, true
	case state == kernelStuck:
		r.armAt(r.stuck.after(maxStuck))
	default:
		r.stuck = 0
	}
	r.arm()
	return false, false
}

// demand is for how many bytes the kernel is asked to have room so that it holds n: it counts what
// its own structures take, and is to have room for a packet more.
func demand(n int) int { return n + n/4 + 2*readSize }

// takeRoom takes room in the kernel for what is missing of the frame, and reports whether there is
// any.
func (r *Reader) takeRoom() bool {
	k, n := r.base.config.Kernel, demand(r.size-r.restLen)
	if k == nil {
		return true
	}
	if !k.take(n) {
		return false
	}
	r.room = n
	return true
}

// leaveRoom gives that back.
func (r *Reader) leaveRoom() {
	if r.room > 0 {
		r.base.config.Kernel.giveBack(r.room)
		r.room = 0
	}
}

// demandWhole has the kernel hold all that is missing of the frame.
func (r *Reader) demandWhole(fd uintptr) error {
	missing := r.size - r.restLen
	if err := demandRaw(fd, demand(missing)); err != nil {
		return err
	}
	room := r.rest.Bytes()[r.restLen:]
	// The last byte stays in the kernel, even if all have come meanwhile: the frame ends in its
	// final memory.
	if room = room[:min(len(room), missing-1, announceSize)]; len(room) > 0 {
		n, again, err := readRaw(fd, room)
		switch {
		case err != nil:
			return err
		case n == 0 && !again:
			return io.EOF
		}
		r.brought.Add(int64(n))
		r.restLen += n
	}
	r.patient, r.stuck = true, 0
	return demandMostRaw(fd, r.size-r.restLen)
}

// staysStuck reports whether the kernel has taken nothing more for maxStuck. It holds n bytes.
func (r *Reader) staysStuck(n int) bool {
	if r.stuck == 0 || n > r.stuckAt {
		r.stuck, r.stuckAt = now(), n
	}
	return r.stuck.after(maxStuck).until() <= 0
}

// What the kernel does with a frame of which it does not hold everything yet.
const (
	kernelTakes = iota // it takes more
	kernelMoved        // it has taken more meanwhile
	kernelStuck        // it takes no more in this moment
	kernelFull         // it holds as much as it ever will
)
