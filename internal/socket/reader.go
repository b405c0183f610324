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

	// unchargedSize is the memory that a connection may take without being charged:
	// the read buffer when the budget for large ones is used up, and the start of
	// an unfinished frame between two reads.
	unchargedSize = 4 << 10

	// maxRecordSize is the most that TLS carries in one piece (RFC 8446, section 5.1): a read
	// returns no more.
	maxRecordSize = 16 << 10

	// minFrameRate is how many bytes a second an unfinished frame must bring, measured over
	// Config.FrameTimeout: what a link of 8 kbit/s carries, half of the slowest to which mobile
	// operators throttle (16 kbit/s). Apache asks for 500 by default, Kestrel for 240. A body that is
	// dripped is cut, and one of 1 MiB takes 17 minutes at most.
	minFrameRate = 1 << 10

	// idleBufSize is what a connection holds while it waits where it cannot wait
	// without a buffer. It takes some hundred small frames.
	idleBufSize = 512
)

// Frame is a whole frame as it was read.
type Frame struct {
	Type    wire.Type // 0 for the empty frame
	Payload []byte    // lies in Buffer; valid until the next call of Next or Fill
	Buffer  *body.Buffer

	// OwnsBuffer says that Buffer holds this frame and nothing else, from its start.
	OwnsBuffer bool

	// StartedAt is when its start was read, in ns since 1970; 0: in this turn.
	StartedAt int64
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
	base      base                  // to which the Outbox points as well, so that a Reader must not be copied
	tryReadFn func(fd uintptr) bool // tryRead, bound once so that a read allocates nothing

	// Owned by the reading goroutine. 32 bits are enough for what a frame or a read may have, and
	// an idle connection holds all of this.
	maxLength     int32        // see SetMaxLength
	readLimit     int32        // see SetReadLimit
	buf           *body.Buffer // what was read: between Fill and the Fill after it
	pos, end      int32        // what of buf is still to be handed out
	*partialFrame              // the unfinished frame; noPartialFrame: there is none
	lent          *body.Buffer // the big frame that Next returned last
	deadline      monotime     // the read deadline that is set; 0: none
	idleTimer     *idleTimer   // see NotifyIdle; nil: the owner does not ask
	lastReadFull  bool         // the last read filled its buffer
	noMemory      bool         // the last attempt had no memory to read into
	lowatRaised   bool         // the socket is readable only when much has come
	n             int32        // outcome of the last attempt
	err           error

	// Shared.
	stopMode  atomic.Int32  // why Fill shall not wait for the peer any more
	waitSeq   atomic.Uint32 // how often a wait for the peer has begun or ended; odd: it waits
	bytesRead atomic.Int64  // bytes read
	heldSince atomic.Int64  // since when budget is held for an unfinished frame or what was stowed, in ns since 1970; 0: not
}

func (r *Reader) init(b base) {
	r.base, r.partialFrame = b, noPartialFrame
	r.SetMaxLength(b.config.MaxLength)
	r.tryReadFn = r.tryRead
}

// SetMaxLength changes the largest length field that is taken from now on, in bytes: at first
// it is Config.MaxLength. It must be called by the one who reads, or before.
func (r *Reader) SetMaxLength(maxLength int) { r.maxLength = int32(min(maxLength, math.MaxInt32)) }

// SetReadLimit bounds how many bytes a read brings from now on, unless they are of an unfinished frame that is larger: of what it has brought, little
// is then left if not all of it can be handled. 0 leaves it to the Reader.
func (r *Reader) SetReadLimit(maxBytes int) { r.readLimit = int32(min(maxBytes, math.MaxInt32)) }

// BytesRead returns how many bytes were read so far.
func (r *Reader) BytesRead() int64 { return r.bytesRead.Load() }

// BytesArrived returns how many bytes have come so far: those that were read, and those that wait in the
// kernel, where it can be asked.
func (r *Reader) BytesArrived() int64 { return r.bytesRead.Load() + int64(r.base.unread()) }

// What a Reader is told to do instead of waiting for the peer.
const (
	stopNow       = 1 + iota // return ErrInterrupted
	stopWhenEmpty            // do so when what has come is read
)

// Interrupt makes the current or next Fill return ErrInterrupted, also one that waits for memory, and
// ends each wait of the owner's Account.
func (r *Reader) Interrupt() {
	r.stop(stopNow)
	if a := r.base.handler.Account(); a != nil {
		a.Interrupt()
	}
}

// StopWhenEmpty makes Fill return ErrInterrupted when it would have to wait for the
// peer. Where it cannot be told what has come, that is at once.
func (r *Reader) StopWhenEmpty() { r.stop(stopWhenEmpty) }

func (r *Reader) stop(mode int32) {
	r.stopMode.Store(mode)
	_ = r.base.nc.SetReadDeadline(pastDeadline) // fails only on a closed connection
}

// pastDeadline is a deadline that has expired.
var pastDeadline = time.Unix(1, 0)

// Fill gives back what the last turn read and waits until more has come. It
// returns io.EOF when the peer has ended its side between two frames, and
// io.ErrUnexpectedEOF in the middle of one, and ErrIdle as NotifyIdle says. It may wait
// for memory, and must be called with none of Bodies in hand.
func (r *Reader) Fill() error {
	if err := r.finishRead(); err != nil {
		return err
	}
	for {
		if err := r.waitAndRead(); err != nil {
			return err
		}
		switch {
		case r.noMemory:
			if err := r.acquireLarge(); err != nil {
				return err
			}
		case r.large == nil || r.largeLen == r.size:
			return nil
		}
	}
}

// Next puts the next whole frame of this turn into f. ok is false when there is no more, or when
// err says that what follows cannot be a frame for this side; then f means nothing.
func (r *Reader) Next(f *Frame) (ok bool, err error) {
	r.releaseLent()
	if r.large != nil {
		return r.nextLarge(f), nil
	}
	if r.buf == nil {
		return false, nil
	}
	b := r.buf.Bytes()[r.pos:r.end]
	size, err := wire.Size(b, int(r.maxLength))
	if err != nil || size == 0 || len(b) < size {
		return false, err
	}
	r.pos += int32(size)
	f.StartedAt = r.endFrame()
	f.Type, f.Payload = wire.Split(b[:size])
	f.Buffer, f.OwnsBuffer = r.buf, false
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
func (r *Reader) More() bool { return r.lastReadFull }

// Pending returns how many bytes of this turn are still to be handed out.
func (r *Reader) Pending() int { return int(r.end - r.pos) }

func (r *Reader) nextLarge(f *Frame) bool {
	if r.largeLen < r.size {
		return false
	}
	f.Buffer, f.OwnsBuffer = r.large, true
	f.Type, f.Payload = wire.Split(r.large.Bytes()[:r.size])
	r.lent, r.large, r.largeLen, r.size = r.large, nil, 0, 0
	f.StartedAt = r.endFrame()
	r.heldSince.Store(0)
	return true
}

// endFrame notes that the frame is whole, and returns when it began.
func (r *Reader) endFrame() (startedAt int64) {
	startedAt = r.startedAt
	if r.partialFrame != noPartialFrame {
		r.releaseKernelBudget()
		*r.partialFrame = partialFrame{}
		partialFrames.Put(r.partialFrame)
		r.partialFrame = noPartialFrame
	}
	return startedAt
}

// finishRead ends a turn: it keeps the start of an unfinished frame, and gives back
// the rest of the memory.
func (r *Reader) finishRead() error {
	r.releaseLent()
	if r.buf == nil {
		return nil
	}
	r.heldSince.Store(0) // of what was stowed
	start := r.buf.Bytes()[r.pos:r.end]
	lent := r.pos > 0
	r.pos, r.end = 0, 0
	if len(start) == 0 {
		r.buf.Release()
		r.buf = nil
		return nil
	}
	if r.partialSince == 0 {
		r.startPartial(len(start))
		r.startedAt = time.Now().UnixNano()
		r.streamed = false
	} else {
		r.recordProgress(len(start))
	}
	r.size, _ = wire.Size(start, int(r.maxLength)) // Next has returned the error already
	r.keepStart(start, lent)
	if r.startLen >= readSize && !r.waitsForWhole() {
		return r.acquireLarge()
	}
	return nil
}

// WaitSeq returns a number that is odd while the Reader waits for the peer, and that changes whenever
// it begins or ceases to. Only while it stays the same and odd, a peer of which nothing arrives is
// silent: otherwise it may be that nobody reads it.
func (r *Reader) WaitSeq() uint32 { return r.waitSeq.Load() }

// SinceTCPAck returns how long ago the kernel of the peer has last acknowledged anything that was sent
// to it: a sign of life while nobody reads what the peer says. known is false where the kernel of this
// side does not tell.
func (r *Reader) SinceTCPAck() (ago time.Duration, known bool) {
	raw := r.base.pollConn()
	if raw == nil {
		return 0, false
	}
	if raw.Control(func(fd uintptr) { ago, known = sinceTCPAckRaw(fd) }) != nil {
		return 0, false
	}
	return ago, known
}

// PeerEnded reports whether the peer will send nothing more, although there may be something to read
// before that. Where the kernel of this side does not tell, it is false.
func (r *Reader) PeerEnded() (ended bool) {
	raw := r.base.pollConn()
	if raw == nil {
		return false
	}
	return raw.Control(func(fd uintptr) { ended = peerEndedRaw(fd) }) != nil || ended
}

// eofError tells an end between two frames from one in the middle.
func (r *Reader) eofError() error {
	if r.midFrame() {
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}

func (r *Reader) midFrame() bool { return r.start != nil || r.large != nil }
