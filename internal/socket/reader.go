package socket

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// readSize is how many bytes one read asks for: the smallest at which the
	// system call no longer shows beside the copying (docs/decisions/0004).
	readSize = 64 << 10

	// smallSize is the memory that a connection may take without being charged:
	// the read buffer when the budget for large ones is used up, and the start of
	// an unfinished frame between two reads.
	smallSize = 4 << 10

	// recordSize is the most that TLS carries in one piece (RFC 8446, section 5.1): a read
	// returns no more.
	recordSize = 16 << 10

	// minFrameRate is how many bytes a second an unfinished frame must bring, measured over
	// Config.FrameTimeout: what a link of 8 kbit/s carries, half of the slowest to which mobile
	// operators throttle (16 kbit/s). Apache asks for 500 by default, Kestrel for 240. A body that is
	// dripped is cut, and one of 1 MiB takes 17 minutes at most.
	minFrameRate = 1 << 10

	// idleSize is what a connection holds while it waits where it cannot wait
	// without a buffer. It takes some hundred small frames.
	idleSize = 512
)

// Frame is a whole frame as it was read.
type Frame struct {
	Type    wire.Type // 0 for the empty frame
	Payload []byte    // lies in Buffer; valid until the next call of Next or Fill
	Buffer  *body.Buffer

	// Alone says that Buffer holds this frame and nothing else, from its start.
	Alone bool

	// Began is when its start was read, in ns since 1970; 0: in this turn.
	Began int64
}

// Reader is the reading side of a connection. It works in turns: Fill waits for
// bytes and reads what is there, then Next returns the whole frames in it, one by
// one, until there are no more.
//
//	for conn.Fill() == nil {
//		for frame, ok, err := conn.Next(); ok; … {
//			handle(frame)
//		}
//	}
//
// While Fill waits between frames, the Reader holds no memory. In the middle of
// one it holds the bytes that have come; a frame larger than a read buffer gets
// its final memory once a read buffer full of it is here, never before, or all of it
// (Config.MinWhole).
//
// One goroutine owns it. Interrupt, Finish, Brought, Arrived, Waits, Acknowledged,
// PeerEnded and Holding may be called by others.
type Reader struct {
	// Static after init.
	base    *base
	attempt func(fd uintptr) bool // tryRead, bound once so that a read allocates nothing

	// Owned by the reading goroutine.
	most     int          // see SetMaxLength
	atOnce   int          // see ReadAtOnce
	buf      *body.Buffer // what was read: between Fill and the Fill after it
	pos, end int          // what of buf is still to be handed out
	rest     *body.Buffer // start of an unfinished frame, between turns
	restLen  int
	big      *body.Buffer  // a frame that is read straight into its own memory
	have     int           // how much of it is here
	size     int           // of the unfinished frame on the wire; 0: not yet known
	handed   *body.Buffer  // the big frame that Next returned last
	since    moment        // when the unfinished frame began to wait for its rest; 0: there is none
	moved    moment        // when it last progressed: see minFrameRate
	mark     int           // bytes of it that had come then
	began    int64         // when its start was read, in ns since 1970; 0: it was not
	armed    moment        // the read deadline that is set; 0: none
	idle     time.Duration // see NotifyIdle; 0: the owner does not ask
	idleAt   moment        // the read deadline that was set last for that
	seen     int64         // value of brought when it was set
	full     bool          // the last read filled its buffer
	starved  bool          // the last attempt had no memory to read into
	patient  bool          // the socket is readable only when much has come
	overflow bool          // the unfinished frame is not left in the kernel: see whole.go
	room     int           // bytes of Config.Kernel that it takes
	stuck    moment        // since when the kernel takes no more of it; 0: it does
	stuckAt  int           // how many bytes the kernel held then
	n        int           // outcome of the last attempt
	err      error

	// Shared.
	stopping atomic.Int32  // why Fill shall not wait for the peer any more
	waits    atomic.Uint32 // how often a wait for the peer has begun or ended; odd: it waits
	brought  atomic.Int64  // bytes read
	held     atomic.Int64  // since when budget is held for an unfinished frame or what was stowed, in ns since 1970; 0: not
}

func (r *Reader) init(b *base) {
	r.base, r.most = b, b.config.MaxLength
	r.attempt = r.tryRead
}

// SetMaxLength changes the largest length field that is taken from now on, in bytes: at first
// it is Config.MaxLength. It must be called by the one who reads, or before.
func (r *Reader) SetMaxLength(most int) { r.most = most }

// ReadAtOnce bounds how many bytes a read brings from now on, unless they are of an unfinished frame that is larger: of what it has brought, little
// is then left if not all of it can be handled. 0 leaves it to the Reader.
func (r *Reader) ReadAtOnce(most int) { r.atOnce = most }

// NotifyIdle makes Fill return ErrIdle once, when nothing has come for between after and twice
// as long, and no frame is unfinished. It does so only where the Reader waits without a buffer.
func (r *Reader) NotifyIdle(after time.Duration) { r.idle = after }

// Brought returns how many bytes were read so far.
func (r *Reader) Brought() int64 { return r.brought.Load() }

// Arrived returns how many bytes have come so far: those that were read, and those that wait in the
// kernel, where it can be asked.
func (r *Reader) Arrived() int64 { return r.brought.Load() + int64(r.base.unread()) }

// Holding returns since when the Reader holds budget for a frame whose rest the
// peer has yet to send, or for what was stowed, and false when it holds none.
func (r *Reader) Holding() (since time.Time, holds bool) {
	ns := r.held.Load()
	return time.Unix(0, ns), ns != 0
}

// What a Reader is told to do instead of waiting for the peer.
const (
	stopAtOnce    = 1 + iota // return ErrInterrupted
	stopWhenEmpty            // do so when what has come is read
)

// Interrupt makes the current or next Fill return ErrInterrupted, also one that waits for memory, and
// ends each wait of the owner's Account.
func (r *Reader) Interrupt() {
	r.halt(stopAtOnce)
	if a := r.base.owner.Account(); a != nil {
		a.Interrupt()
	}
}

// Finish makes Fill return ErrInterrupted when it would have to wait for the
// peer. Where it cannot be told what has come, that is at once.
func (r *Reader) Finish() { r.halt(stopWhenEmpty) }

func (r *Reader) halt(how int32) {
	r.stopping.Store(how)
	_ = r.base.nc.SetReadDeadline(longAgo) // fails only on a closed connection
}

// longAgo is a deadline that has expired.
var longAgo = time.Unix(1, 0)

// Fill gives back what the last turn read and waits until more has come. It
// returns io.EOF when the peer has ended its side between two frames, and
// io.ErrUnexpectedEOF in the middle of one, and ErrIdle as NotifyIdle says. It may wait
// for memory, and must be called with none of Bodies in hand.
func (r *Reader) Fill() error {
	if err := r.settle(); err != nil {
		return err
	}
	for {
		if err := r.read(); err != nil {
			return err
		}
		switch {
		case r.starved:
			if err := r.grow(); err != nil {
				return err
			}
		case r.big == nil || r.have == r.size:
			return nil
		}
	}
}

// Next returns the next whole frame of this turn. ok is false when there is no
// more, or when err says that what follows cannot be a frame for this side.
func (r *Reader) Next() (f Frame, ok bool, err error) {
	r.dropHanded()
	if r.big != nil {
		return r.nextBig()
	}
	if r.buf == nil {
		return Frame{}, false, nil
	}
	b := r.buf.Bytes()[r.pos:r.end]
	size, err := wire.Size(b, r.most)
	if err != nil || size == 0 || len(b) < size {
		return Frame{}, false, err
	}
	r.pos += size
	f.Began = r.ended()
	f.Type, f.Payload = wire.Split(b[:size])
	f.Buffer = r.buf
	return f, true, nil
}

// NextType returns the type of the frame that Next will return next, if that much of it is in this turn.
func (r *Reader) NextType() (t wire.Type, known bool) {
	if r.buf == nil || r.end-r.pos < wire.HeaderSize {
		return 0, false
	}
	t, _ = wire.Split(r.buf.Bytes()[r.pos:][:wire.HeaderSize])
	return t, true
}

// More reports whether there is probably more to read already: the last read got as much as
// it asked for.
func (r *Reader) More() bool { return r.full }

// Pending returns how many bytes of this turn are still to be handed out.
func (r *Reader) Pending() int { return r.end - r.pos }

func (r *Reader) nextBig() (Frame, bool, error) {
	if r.have < r.size {
		return Frame{}, false, nil
	}
	f := Frame{Buffer: r.big, Alone: true}
	f.Type, f.Payload = wire.Split(r.big.Bytes()[:r.size])
	r.handed, r.big, r.have, r.size = r.big, nil, 0, 0
	f.Began = r.ended()
	r.held.Store(0)
	return f, true, nil
}

// ended notes that the frame is whole, and returns when it began.
func (r *Reader) ended() (began int64) {
	began = r.began
	r.since, r.began = 0, 0
	return began
}

// Stow is for an owner that is about to wait in the middle of a turn. It gives back the memory of the frame that Next returned last, which
// must not be touched any more, and moves what is still to be handed out to memory of its own size: Config.Reads is not for those who
// wait, for nobody can wait for it. Like Fill, it may wait for memory, and must be called with none of Bodies in hand.
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
	r.buf, r.pos, r.end = own, 0, len(rest)
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

// settle ends a turn: it keeps the start of an unfinished frame, and gives back
// the rest of the memory.
func (r *Reader) settle() error {
	r.dropHanded()
	if r.buf == nil {
		return nil
	}
	r.held.Store(0) // of what was stowed
	partial := r.buf.Bytes()[r.pos:r.end]
	handed := r.pos > 0
	r.pos, r.end = 0, 0
	if len(partial) == 0 {
		r.buf.Release()
		r.buf = nil
		return nil
	}
	if r.since == 0 {
		r.begin(len(partial))
		r.began = time.Now().UnixNano()
		r.overflow = false
	} else {
		r.progress(len(partial))
	}
	r.size, _ = wire.Size(partial, r.most) // Next has returned the error already
	r.keep(partial, handed)
	if r.restLen >= readSize && !r.leaves() {
		return r.grow()
	}
	return nil
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

// Waits returns a number that is odd while the Reader waits for the peer, and that changes whenever
// it begins or ceases to. Only while it stays the same and odd, a peer of which nothing arrives is
// silent: otherwise it may be that nobody reads it.
func (r *Reader) Waits() uint32 { return r.waits.Load() }

// Acknowledged returns how long ago the kernel of the peer has last acknowledged anything that was sent
// to it: a sign of life while nobody reads what the peer says. known is false where the kernel of this
// side does not tell.
func (r *Reader) Acknowledged() (ago time.Duration, known bool) {
	raw := r.base.below()
	if raw == nil {
		return 0, false
	}
	if raw.Control(func(fd uintptr) { ago, known = acknowledgedRaw(fd) }) != nil {
		return 0, false
	}
	return ago, known
}

// PeerEnded reports whether the peer will send nothing more, although there may be something to read
// before that. Where the kernel of this side does not tell, it is false.
func (r *Reader) PeerEnded() (ended bool) {
	raw := r.base.below()
	if raw == nil {
		return false
	}
	return raw.Control(func(fd uintptr) { ended = endedRaw(fd) }) != nil || ended
}

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
	r.n, r.err, r.full = n, err, n == len(p)
	if n == 0 {
		r.untarget()
		if err == nil {
			r.err = io.EOF
		}
	}
	return true
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

// read reads what has come without waiting.
func (b *base) read(fd uintptr, p []byte) (n int, again bool, err error) {
	if b.line != nil {
		return b.line.readOver(b.nc, fd, p)
	}
	return readRaw(fd, p)
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
	r.n, r.full = n, n == len(p) || n >= recordSize/2
	if n == 0 {
		r.untarget()
		r.full = false
	}
	return err
}

// limited returns size, or less if no more is to be read at once.
func (r *Reader) limited(size int) int {
	if r.atOnce == 0 {
		return size
	}
	most := r.restLen + r.atOnce
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

// took accounts for r.n bytes that were read into the target.
func (r *Reader) took() {
	r.brought.Add(int64(r.n))
	if r.big != nil {
		r.have += r.n
		r.progress(r.have)
		return
	}
	r.pos, r.end = 0, r.restLen+r.n
	if r.rest != nil {
		copy(r.buf.Bytes(), r.rest.Bytes()[:r.restLen])
		r.rest.Release()
		r.rest, r.restLen = nil, 0
		r.held.Store(0) // until settle finds that the frame still has no end
	}
	if r.base.config.Keep && r.end < len(r.buf.Bytes())/2 {
		small := body.Get(r.end)
		copy(small.Bytes(), r.buf.Bytes()[:r.end])
		r.buf.Release()
		r.buf = small
	}
}

// eof tells an end between two frames from one in the middle.
func (r *Reader) eof() error {
	if r.midFrame() {
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}

func (r *Reader) midFrame() bool { return r.rest != nil || r.big != nil }

// begin starts the time of an unfinished frame of which have bytes have come.
func (r *Reader) begin(have int) {
	r.since = now()
	r.moved, r.mark = r.since, have
}

// progress notes how much of an unfinished frame has come. One that brings minFrameRate is not cut.
func (r *Reader) progress(have int) {
	if have-r.mark >= int(minFrameRate*r.base.config.FrameTimeout.Seconds()) {
		r.moved, r.mark = now(), have
	}
}

// due returns when the unfinished frame is cut unless it progresses.
func (r *Reader) due() moment { return r.moved.after(r.base.config.FrameTimeout) }

// arm sets the deadline for the rest of an unfinished frame. It leaves an
// earlier deadline in place, and an old one between two frames: when that
// expires, deadline finds out that it means nothing. So a busy connection sets
// one now and then, not one for each frame.
func (r *Reader) arm() {
	if !r.midFrame() {
		r.armIdle()
		return
	}
	r.armAt(r.due())
}

// armAt sets the deadline, unless there is an earlier one.
func (r *Reader) armAt(at moment) {
	if r.armed == 0 || r.armed > at {
		r.setDeadline(at)
	}
}

// armIdle sets the deadline for ErrIdle, unless it is set already: when it expires, deadline finds
// out whether anything has come since.
func (r *Reader) armIdle() {
	if r.idle == 0 || r.armed != 0 && r.armed == r.idleAt || r.base.below() == nil {
		return
	}
	r.idleAt, r.seen = now().after(r.idle), r.brought.Load()
	r.setDeadline(r.idleAt)
}

// deadline decides what an expired deadline means.
func (r *Reader) deadline() error {
	if r.stopping.Load() != 0 {
		return ErrInterrupted
	}
	if !r.midFrame() {
		r.setDeadline(0)
		if r.idle > 0 && r.seen == r.brought.Load() {
			r.idle = 0
			return ErrIdle
		}
		return nil
	}
	if due := r.due(); due.until() > 0 {
		r.setDeadline(due) // and what is stuck is looked at anew, which may set an earlier one
		return nil
	}
	return r.late()
}

// late decides about an unfinished frame that has not progressed by what was read. What is left in the
// kernel on purpose has come as well, and anything else there is read before it is decided.
func (r *Reader) late() error {
	n := r.base.unread()
	have := max(r.have, r.restLen) + n
	switch {
	case n == 0:
		return ErrFrameTimeout
	case !r.patient || have >= r.size:
		r.setDeadline(0)
		return nil
	}
	r.progress(have)
	if r.due().until() <= 0 {
		return ErrFrameTimeout
	}
	r.setDeadline(r.due())
	return nil
}

func (r *Reader) setDeadline(at moment) {
	r.armed = at
	var t time.Time
	if at != 0 {
		t = time.Now().Add(at.until())
	}
	_ = r.base.nc.SetReadDeadline(t) // fails only on a closed connection, as the read then will
	if r.stopping.Load() != 0 {
		_ = r.base.nc.SetReadDeadline(longAgo) // likewise
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
