package socket

import (
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
)

// The memory of a Reader: what it borrows to read into, and what it keeps of an unfinished frame.

// Holding returns since when the Reader holds budget for a frame whose rest the
// peer has yet to send, or for what was stowed, and false when it holds none.
func (r *Reader) Holding() (since time.Time, holds bool) {
	ns := r.held.Load()
	return time.Unix(0, ns), ns != 0
}

// Stow is for an owner that is about to wait in the middle of a turn. It gives back the memory of
// the frame that Next returned last, which must not be touched any more, and moves what is still to
// be handed out to memory of its own size: Config.Reads is not for those who wait, for nobody can
// wait for it. Like Fill, it may wait for memory, and must be called with none of Bodies in hand.
func (r *Reader) Stow() error {
	r.dropHanded()
	account := r.base.owner.Account()
	if r.buf == nil || account != nil && r.buf.Account() == account { // it was done before
		return nil
	}
	rest := r.buf.Bytes()[r.pos:r.end]
	if len(rest) <= smallSize {
		account = nil
	}
	own, err := r.drawWait(account, len(rest), (*body.Account).DrawOverhead) // for only its owner gives that back
	if err != nil {
		return err
	}
	copy(own.Bytes(), rest)
	r.buf.Release()
	r.buf, r.pos, r.end = own, 0, int32(len(rest))
	if account != nil {
		r.held.Store(time.Now().UnixNano())
	}
	return nil
}

// Forget gives back the memory of the frame that Next returned last, if that frame
// is Alone. Its Payload must not be touched any more.
func (r *Reader) Forget() { r.dropHanded() }

// Drop gives back all memory. The Reader must not be used afterwards.
func (r *Reader) Drop() {
	r.dropHanded()
	r.leaveRoom()
	for _, b := range []**body.Buffer{&r.buf, &r.rest, &r.big} {
		if *b != nil {
			(*b).Release()
			*b = nil
		}
	}
	r.held.Store(0)
}

func (r *Reader) dropHanded() {
	if r.handed != nil {
		r.handed.Release()
		r.handed = nil
	}
}

// keep moves the start of an unfinished frame from buf to memory of its own
// size. When there is none to be had, buf itself stays, unless somebody may have
// kept what was handed out of it.
func (r *Reader) keep(partial []byte, handed bool) {
	r.restLen = len(partial)
	size, most := len(partial), readSize
	if r.leaves() {
		size, most = size+announceSize, most+1
	}
	switch {
	case len(partial) <= smallSize:
		r.rest = body.Get(size)
	case len(partial) < most:
		r.rest = draw(r.base.config.Reads, size)
		if r.rest == nil && handed && r.base.config.Keep {
			r.rest = body.Get(len(partial))
		}
	}
	if r.rest == nil {
		copy(r.buf.Bytes(), partial)
		r.rest, r.buf = r.buf, nil
	} else {
		copy(r.rest.Bytes(), partial)
		r.buf.Release()
		r.buf = nil
	}
	r.hold(r.rest)
}

// grow waits for the final memory of the unfinished frame and moves its start
// there. The time that passes meanwhile is not the peer's.
func (r *Reader) grow() error {
	r.held.Store(0)
	big, err := r.drawWait(r.base.owner.Account(), r.size, (*body.Account).Draw)
	if err != nil {
		return err
	}
	r.leaveRoom()
	copy(big.Bytes(), r.rest.Bytes()[:r.restLen])
	r.rest.Release()
	r.big, r.have = big, r.restLen
	r.rest, r.restLen = nil, 0
	r.begin(r.have)
	r.starved = false
	r.hold(big)
	return nil
}

// hold notes that an unfinished frame keeps b. Nobody waits for memory of Config.Reads.
func (r *Reader) hold(b *body.Buffer) {
	if a := b.Account(); a == nil || a == r.base.config.Reads {
		r.held.Store(0)
	} else if r.held.Load() == 0 {
		r.held.Store(time.Now().Add(r.since.until()).UnixNano())
	}
}

// limited returns size, or less if no more is to be read at once.
func (r *Reader) limited(size int) int {
	if r.atOnce == 0 {
		return size
	}
	most := r.restLen + int(r.atOnce)
	if r.restLen > 0 {
		most = max(most, r.size)
	}
	return min(size, most)
}

// target returns the memory to read into: the rest of a big frame, or a read
// buffer with space for the start of an unfinished one before it. It returns nil
// when there is none for that.
func (r *Reader) target(size int) []byte {
	if r.big != nil {
		return r.big.Bytes()[r.have:r.size]
	}
	if r.restLen >= readSize {
		return nil
	}
	little := r.restLen <= smallSize/2
	if size > smallSize || !little {
		r.buf = draw(r.base.config.Reads, size)
	}
	switch {
	case r.buf != nil:
	case little:
		r.buf = body.Get(min(size, smallSize))
	default:
		return nil
	}
	return r.buf.Bytes()[r.restLen:min(size, len(r.buf.Bytes()))]
}

// untarget gives back what target borrowed.
func (r *Reader) untarget() {
	if r.buf != nil {
		r.buf.Release()
		r.buf = nil
	}
}

// draw takes memory that nobody has to wait for, charged to account if there is
// one.
func draw(account *body.Account, n int) *body.Buffer {
	if account == nil {
		return body.Get(n)
	}
	return account.TryDraw(n)
}

// drawWait takes memory and waits for it if it must, until the owner ends or Interrupt is called.
func (r *Reader) drawWait(account *body.Account, n int, draw func(*body.Account, int, <-chan struct{}) (*body.Buffer, error)) (*body.Buffer, error) {
	if account == nil {
		return body.Get(n), nil
	}
	b, err := draw(account, n, r.base.owner.Done())
	if err != nil && r.stopping.Load() != 0 {
		err = ErrInterrupted
	}
	return b, err
}
