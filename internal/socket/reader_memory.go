package socket

import (
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
)

// The memory of a Reader: what it borrows to read into, and what it keeps of an unfinished frame.

// HeldSince returns since when the Reader holds budget for a frame whose rest the
// peer has yet to send, or for what was stowed, and false when it holds none.
func (r *Reader) HeldSince() (since time.Time, holds bool) {
	ns := r.heldSince.Load()
	return time.Unix(0, ns), ns != 0
}

// Compact is for an owner that is about to wait in the middle of a turn. It gives back the memory of
// the frame that Next returned last, which must not be touched any more, and moves what is still to
// be handed out to memory of its own size: Config.ReadAccount is not for those who wait, for nobody can
// wait for it. Like Fill, it may wait for memory, and must be called with none of Bodies in hand.
func (r *Reader) Compact() error {
	r.releaseLent()
	account := r.base.handler.Account()
	if r.buf == nil || account != nil && r.buf.Account() == account { // it was done before
		return nil
	}
	unread := r.buf.Bytes()[r.pos:r.end]
	if len(unread) <= unchargedSize {
		account = nil
	}
	buf, err := r.acquireBuffer(account, len(unread), (*body.Account).AcquireOverhead) // for only its owner gives that back
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

// ReleaseFrame gives back the memory of the frame that Next returned last, if that frame
// is Alone. Its Payload must not be touched any more.
func (r *Reader) ReleaseFrame() { r.releaseLent() }

// ReleaseAll gives back all memory. The Reader must not be used afterwards.
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

// keepStart moves the start of an unfinished frame from buf to memory of its own
// size. When there is none to be had, buf itself stays, unless somebody may have
// kept what was handed out of it.
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
		r.start = tryAcquire(r.base.config.ReadAccount, size)
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

// acquireLarge waits for the final memory of the unfinished frame and moves its start
// there. The time that passes meanwhile is not the peer's.
func (r *Reader) acquireLarge() error {
	r.heldSince.Store(0)
	large, err := r.acquireBuffer(r.base.handler.Account(), r.size, (*body.Account).Acquire)
	if err != nil {
		return err
	}
	r.releaseKernelBudget()
	copy(large.Bytes(), r.start.Bytes()[:r.startLen])
	r.start.Release()
	r.large, r.largeLen = large, r.startLen
	r.start, r.startLen = nil, 0
	r.startPartial(r.largeLen)
	r.noMemory = false
	r.updateHeldSince(large)
	return nil
}

// updateHeldSince notes that an unfinished frame keeps b. Nobody waits for memory of Config.ReadAccount.
func (r *Reader) updateHeldSince(b *body.Buffer) {
	if a := b.Account(); a == nil || a == r.base.config.ReadAccount {
		r.heldSince.Store(0)
	} else if r.heldSince.Load() == 0 {
		r.heldSince.Store(time.Now().Add(r.partialSince.until()).UnixNano())
	}
}

// capSize returns size, or less if no more is to be read at once.
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

// nextBuffer returns the memory to read into: the rest of a big frame, or a read
// buffer with space for the start of an unfinished one before it. It returns nil
// when there is none for that.
func (r *Reader) nextBuffer(size int) []byte {
	if r.large != nil {
		return r.large.Bytes()[r.largeLen:r.size]
	}
	if r.startLen >= readSize {
		return nil
	}
	small := r.startLen <= unchargedSize/2
	if size > unchargedSize || !small {
		r.buf = tryAcquire(r.base.config.ReadAccount, size)
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

// returnBuffer gives back what target borrowed.
func (r *Reader) returnBuffer() {
	if r.buf != nil {
		r.buf.Release()
		r.buf = nil
	}
}

// tryAcquire takes memory that nobody has to wait for, charged to account if there is
// one.
func tryAcquire(account *body.Account, n int) *body.Buffer {
	if account == nil {
		return body.Get(n)
	}
	return account.TryAcquire(n)
}

// acquireBuffer takes memory and waits for it if it must, until the owner ends or Interrupt is called.
func (r *Reader) acquireBuffer(account *body.Account, n int, acquire func(*body.Account, int, <-chan struct{}) (*body.Buffer, error)) (*body.Buffer, error) {
	if account == nil {
		return body.Get(n), nil
	}
	b, err := acquire(account, n, r.base.handler.Done())
	if err != nil && r.stopMode.Load() != 0 {
		err = ErrInterrupted
	}
	return b, err
}
