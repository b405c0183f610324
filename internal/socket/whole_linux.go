package socket

import "io"

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

// tryReadWhole is tryRead for a frame that is left in the kernel. done ends the Read: either
// with noMemory, which makes Fill acquire the final memory of the frame because the kernel
// holds all of it, or with the reason why no more data arrives. streamed says that the frame
// is read as it arrives, from now on.
func (t *tcpTransport) tryReadWhole(fd uintptr) (done, streamed bool) {
	r := t.reader
	if unreadRaw(fd) < r.size-r.startLen && !r.lowatRaised {
		if !r.acquireKernelBudget(rcvLowatFor(r.size - r.startLen)) {
			r.streamed = true
			return false, true
		}
		if err := t.raiseRcvLowat(fd); err != nil {
			r.n = failed(err)
			return true, false
		}
	}
	n, state, err := 0, kernelProgressed, error(nil)
	for state == kernelProgressed {
		if n = unreadRaw(fd); n >= r.size-r.startLen {
			r.n = noMemory
			return true, false
		}
		state, err = kernelStateRaw(fd, n)
	}
	switch {
	case err != nil:
		r.bytesRead.Add(int64(n)) // these bytes have arrived and will not be read
		r.n = failed(err)
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

// raiseRcvLowat makes the kernel hold all missing bytes of the frame.
func (t *tcpTransport) raiseRcvLowat(fd uintptr) error {
	r := t.reader
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
