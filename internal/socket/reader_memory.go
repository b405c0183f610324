package socket

import (
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
)

// The memory of a Reader: its read buffers, and the parts of an unfinished frame.

// HeldSince returns since when the Reader has held memory of a budget, for an unfinished frame
// or for data kept by Compact. holds is false if it holds none.
func (r *Reader) HeldSince() (since time.Time, holds bool) {
	ns := r.heldSince.Load()
	return time.Unix(0, ns), ns != 0
}

// Compact prepares the Reader for a wait of its owner before all frames of the current read
// are handled. It releases the frame that Next returned last, whose memory must not be used
// afterwards, and moves the rest of the read to a buffer of its own size. A connection that
// waits must not hold memory of Config.ReadAccount: other connections cannot wait for room
// there, and would have to make small reads. Like Fill, Compact can wait for memory of
// Handler.Account: its caller must hold none that others wait for.
func (r *Reader) Compact() error {
	r.releaseLent()
	account := r.base.Account()
	if r.buf == nil || account != nil && r.buf.Account() == account { // already compact
		return nil
	}
	unread := r.buf.Bytes()[r.pos:r.end]
	if len(unread) <= unchargedSize {
		account = nil
	}
	// Overhead, because only the owner of the Reader frees it.
	buf, err := r.acquireBuffer(account, len(unread), (*body.Account).AcquireOverhead)
	if err != nil {
		return err
	}
	copy(buf.Bytes(), unread)
	r.buf.Release()
	r.buf, r.pos, r.end = buf, 0, int32(len(unread))
	if account != nil {
		r.heldSince.Store(time.Now().UnixNano())
	}
	return nil
}

// ReleaseFrame releases the memory of the frame that Next returned last, if that frame owns
// its buffer. Its Payload must not be used afterwards.
func (r *Reader) ReleaseFrame() { r.releaseLent() }

// ReleaseAll releases all memory. The Reader must not be used afterwards.
func (r *Reader) ReleaseAll() {
	r.releaseLent()
	r.releaseKernelBudget()
	for _, b := range []**body.Buffer{&r.buf, &r.start, &r.large} {
		if *b != nil {
			(*b).Release()
			*b = nil
		}
	}
	r.heldSince.Store(0)
}

func (r *Reader) releaseLent() {
	if r.lent != nil {
		r.lent.Release()
		r.lent = nil
	}
}

// acquireKernelBudget acquires n bytes of kernel budget for the unfinished frame and reports
// whether there was room.
func (r *Reader) acquireKernelBudget(n int) bool {
	b := r.base.config.KernelBudget
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

// waitsForWhole reports whether the unfinished frame stays in the kernel until all of it has
// arrived.
func (r *Reader) waitsForWhole() bool {
	largest := r.base.config.MinWhole // size of the largest frame that is read as it arrives
	return largest > 0 && r.size > largest && r.leavesLarge && !r.streamed
}

// announceSize is the number of bytes that are read after the receive buffer has grown,
// because the kernel announces the larger window to the peer only after a read. Otherwise the
// peer learns of it when it probes the closed window, 200 ms later.
const announceSize = 512

// keepStart moves the start of an unfinished frame from buf to a buffer of its own size. If no
// memory is available, buf itself stays, unless a frame of it can have been retained.
func (r *Reader) keepStart(start []byte, lent bool) {
	r.startLen = len(start)
	size, limit := len(start), readSize
	if r.waitsForWhole() {
		size, limit = size+announceSize, limit+1
	}
	switch {
	case len(start) <= unchargedSize:
		r.start = body.Get(size)
	case len(start) < limit:
		r.start = r.base.config.ReadAccount.TryAcquire(size)
		if r.start == nil && lent && r.base.config.RetainsFrames {
			r.start = body.Get(len(start))
		}
	}
	if r.start == nil {
		copy(r.buf.Bytes(), start)
		r.start, r.buf = r.buf, nil
	} else {
		copy(r.start.Bytes(), start)
		r.buf.Release()
		r.buf = nil
	}
	r.updateHeldSince(r.start)
}

// acquireLarge waits for the final memory of the unfinished frame and moves its start there.
// The time of this wait does not count against the peer.
func (r *Reader) acquireLarge() error {
	r.heldSince.Store(0)
	large, err := r.acquireBuffer(r.base.Account(), r.size, (*body.Account).Acquire)
	if err != nil {
		return err
	}
	r.releaseKernelBudget()
	copy(large.Bytes(), r.start.Bytes()[:r.startLen])
	r.start.Release()
	r.large, r.largeLen = large, r.startLen
	r.start, r.startLen = nil, 0
	r.startPartial(r.largeLen)
	r.updateHeldSince(large)
	return nil
}

// updateHeldSince notes that an unfinished frame keeps b. Memory of Config.ReadAccount does
// not count, because no connection waits for it.
func (r *Reader) updateHeldSince(b *body.Buffer) {
	if a := b.Account(); a == nil || a == r.base.config.ReadAccount {
		r.heldSince.Store(0)
	} else if r.heldSince.Load() == 0 {
		r.heldSince.Store(time.Now().Add(r.partialSince.until()).UnixNano())
	}
}

// capSize returns size, or less if SetReadLimit requires it.
func (r *Reader) capSize(size int) int {
	if r.readLimit == 0 {
		return size
	}
	limit := r.startLen + int(r.readLimit)
	if r.startLen > 0 {
		limit = max(limit, r.size)
	}
	return min(size, limit)
}

// nextBuffer returns the memory to read into: the rest of a large frame, or a read buffer that
// has space for the start of an unfinished frame before the new data. It returns nil if no
// memory is available.
func (r *Reader) nextBuffer(size int) []byte {
	if r.large != nil {
		return r.large.Bytes()[r.largeLen:r.size]
	}
	if r.startLen >= readSize {
		return nil
	}
	small := r.startLen <= unchargedSize/2
	if size > unchargedSize || !small {
		r.buf = r.base.config.ReadAccount.TryAcquire(size)
	}
	switch {
	case r.buf != nil:
	case small:
		r.buf = body.Get(min(size, unchargedSize))
	default:
		return nil
	}
	return r.buf.Bytes()[r.startLen:min(size, len(r.buf.Bytes()))]
}

// newBytes returns the last n bytes that the transport has read into the memory of nextBuffer, for
// a transport that changes them before onRead accounts for them.
func (r *Reader) newBytes(n int) []byte {
	if r.large != nil {
		return r.large.Bytes()[r.largeLen:][:n]
	}
	return r.buf.Bytes()[r.startLen:][:n]
}

// returnBuffer releases the read buffer that nextBuffer returned.
func (r *Reader) returnBuffer() {
	if r.buf != nil {
		r.buf.Release()
		r.buf = nil
	}
}

// acquireBuffer acquires memory and waits for it if necessary, until Handler.Done is closed or
// Interrupt is called.
func (r *Reader) acquireBuffer(account *body.Account, n int, acquire func(*body.Account, int, <-chan struct{}) (*body.Buffer, error)) (*body.Buffer, error) {
	if account == nil {
		return body.Get(n), nil
	}
	b, err := acquire(account, n, r.base.Done())
	if err != nil && r.stopMode.Load() != 0 {
		err = ErrInterrupted
	}
	return b, err
}
