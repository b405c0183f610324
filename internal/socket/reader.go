package socket

import (
	"io"
	"math"
	"sync/atomic"
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
//		for ok, err := conn.Next(&frame); ok; … {
//			handle(&frame)
//		}
//	}
//
// While Fill waits between frames, the Reader holds no memory. In the middle of
// one it holds the bytes that have come. A frame larger than a read buffer gets its
// final memory when a read buffer full of it has come, or all of it if it is larger
// than Config.MinWhole.
//
// One goroutine owns it. Interrupt, Finish, Brought, Arrived, Waits, Acknowledged,
// PeerEnded and Holding may be called by others.
type Reader struct {
	// Static after init.
	base    base                  // to which the Outbox points as well, so that a Reader must not be copied
	attempt func(fd uintptr) bool // tryRead, bound once so that a read allocates nothing

	// Owned by the reading goroutine. 32 bits are enough for what a frame or a read may have, and
	// an idle connection holds all of this.
	most     int32        // see SetMaxLength
	atOnce   int32        // see ReadAtOnce
	buf      *body.Buffer // what was read: between Fill and the Fill after it
	pos, end int32        // what of buf is still to be handed out
	*partial              // the unfinished frame; noPartial: there is none
	handed   *body.Buffer // the big frame that Next returned last
	armed    moment       // the read deadline that is set; 0: none
	idle     *idleWatch   // see NotifyIdle; nil: the owner does not ask
	full     bool         // the last read filled its buffer
	starved  bool         // the last attempt had no memory to read into
	patient  bool         // the socket is readable only when much has come
	n        int32        // outcome of the last attempt
	err      error

	// Shared.
	stopping atomic.Int32  // why Fill shall not wait for the peer any more
	waits    atomic.Uint32 // how often a wait for the peer has begun or ended; odd: it waits
	brought  atomic.Int64  // bytes read
	held     atomic.Int64  // since when budget is held for an unfinished frame or what was stowed, in ns since 1970; 0: not
}

func (r *Reader) init(b base) {
	r.base, r.partial = b, noPartial
	r.SetMaxLength(b.config.MaxLength)
	r.attempt = r.tryRead
}

// SetMaxLength changes the largest length field that is taken from now on, in bytes: at first
// it is Config.MaxLength. It must be called by the one who reads, or before.
func (r *Reader) SetMaxLength(most int) { r.most = int32(min(most, math.MaxInt32)) }

// ReadAtOnce bounds how many bytes a read brings from now on, unless they are of an unfinished frame that is larger: of what it has brought, little
// is then left if not all of it can be handled. 0 leaves it to the Reader.
func (r *Reader) ReadAtOnce(most int) { r.atOnce = int32(min(most, math.MaxInt32)) }

// Brought returns how many bytes were read so far.
func (r *Reader) Brought() int64 { return r.brought.Load() }

// Arrived returns how many bytes have come so far: those that were read, and those that wait in the
// kernel, where it can be asked.
func (r *Reader) Arrived() int64 { return r.brought.Load() + int64(r.base.unread()) }

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

// Next puts the next whole frame of this turn into f. ok is false when there is no more, or when
// err says that what follows cannot be a frame for this side; then f means nothing.
func (r *Reader) Next(f *Frame) (ok bool, err error) {
	r.dropHanded()
	if r.big != nil {
		return r.nextBig(f), nil
	}
	if r.buf == nil {
		return false, nil
	}
	b := r.buf.Bytes()[r.pos:r.end]
	size, err := wire.Size(b, int(r.most))
	if err != nil || size == 0 || len(b) < size {
		return false, err
	}
	r.pos += int32(size)
	f.Began = r.ended()
	f.Type, f.Payload = wire.Split(b[:size])
	f.Buffer, f.Alone = r.buf, false
	return true, nil
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
func (r *Reader) Pending() int { return int(r.end - r.pos) }

func (r *Reader) nextBig(f *Frame) bool {
	if r.have < r.size {
		return false
	}
	f.Buffer, f.Alone = r.big, true
	f.Type, f.Payload = wire.Split(r.big.Bytes()[:r.size])
	r.handed, r.big, r.have, r.size = r.big, nil, 0, 0
	f.Began = r.ended()
	r.held.Store(0)
	return true
}

// ended notes that the frame is whole, and returns when it began.
func (r *Reader) ended() (began int64) {
	began = r.began
	if r.partial != noPartial {
		r.leaveRoom()
		*r.partial = partial{}
		partials.Put(r.partial)
		r.partial = noPartial
	}
	return began
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
	r.size, _ = wire.Size(partial, int(r.most)) // Next has returned the error already
	r.keep(partial, handed)
	if r.restLen >= readSize && !r.leaves() {
		return r.grow()
	}
	return nil
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

// eof tells an end between two frames from one in the middle.
func (r *Reader) eof() error {
	if r.midFrame() {
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}

func (r *Reader) midFrame() bool { return r.rest != nil || r.big != nil }
