package socket

import (
	"errors"
	"io"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// readSize is the number of bytes that one read asks for: the smallest size at which the cost
	// of the system call is negligible beside the copying (docs/decisions/0004).
	readSize = 64 << 10

	// unchargedSize is the number of bytes that a connection can hold without being charged: a
	// read buffer while the budget for large buffers is used up, and the start of an unfinished
	// frame between two reads.
	unchargedSize = 4 << 10

	// maxRecordSize is the maximum size of a TLS record (RFC 8446, section 5.1): a read returns
	// no more.
	maxRecordSize = 16 << 10

	// minFrameRate is the minimum rate of an unfinished frame in bytes per second, measured over
	// Config.FrameTimeout. A link of 8 kbit/s reaches it: half of the slowest rate to which
	// mobile operators throttle (16 kbit/s). The defaults of Apache (500) and Kestrel (240) are
	// lower. A frame below this rate is cut; a body of 1 MiB thus takes at most 17 minutes.
	minFrameRate = 1 << 10

	// idleBufSize is the size of the read buffer that an idle connection holds where the Reader
	// cannot wait without a buffer. It holds about 100 frames of minimum size.
	idleBufSize = 512
)

// Frame is a whole received frame.
type Frame struct {
	Type    wire.Type // 0 for the empty frame
	Payload []byte    // lies in Buffer; valid until the next call of Next or Fill
	Buffer  *body.Buffer

	// OwnsBuffer says that Buffer holds only this frame, from its start.
	OwnsBuffer bool

	// StartedAt is when the start of the frame was read, in ns since 1970. 0 means in the current
	// read.
	StartedAt int64
}

// Reader is the receiving side of a connection. Fill waits for data and reads what is
// available; Next then returns the whole frames of this read, one by one, until none is left.
//
//	for conn.Fill() == nil {
//		for ok, err := conn.Next(&frame); ok; … {
//			handle(&frame)
//		}
//	}
//
// While Fill waits between two frames, the Reader holds no memory. In the middle of a frame it
// holds the bytes that have arrived. A frame larger than a read buffer gets its final memory
// when a full read buffer of it has arrived, or, above Config.MinWhole, when all of it has
// arrived.
//
// One goroutine owns a Reader. Other goroutines can call Interrupt, StopWhenEmpty, BytesRead,
// BytesArrived, FrameBytesArrived, WaitSeq, SinceTCPAck, PeerEnded and HeldSince.
type Reader struct {
	// Static after init.
	base base // the Outbox points to it: a Reader must not be copied

	// Owned by the reading goroutine. 32 bits are enough for the size of a frame or a read, and
	// keep an idle connection small.
	maxLength     int32        // see SetMaxLength
	readLimit     int32        // see SetReadLimit
	buf           *body.Buffer // the data of the current read
	pos, end      int32        // the part of buf that Next has not returned
	*partialFrame              // the unfinished frame; noPartialFrame if there is none
	lent          *body.Buffer // the large frame that Next returned last
	deadline      monotime     // the read deadline that is set; 0: none
	idleTimer     *idleTimer   // see NotifyIdle; nil: not set
	lastReadFull  bool         // the last read filled its buffer

	// Owned by the transport, which is thus smaller.
	leavesLarge bool  // frames above Config.MinWhole stay in the kernel; static
	lowatRaised bool  // SO_RCVLOWAT is raised: a few bytes do not make the socket readable
	n           int32 // result of the last try to read

	// Shared between goroutines.
	stopMode  atomic.Int32  // 0, stopNow or stopWhenEmpty
	waitSeq   atomic.Uint32 // see WaitSeq
	bytesRead atomic.Int64  // total
	heldSince atomic.Int64  // see HeldSince; in ns since 1970; 0: no memory is held
}

func (r *Reader) init(b base) {
	r.base, r.partialFrame = b, noPartialFrame
	r.SetMaxLength(b.config.MaxLength)
}

// SetMaxLength sets the maximum value of the length field of later frames, in bytes. The
// initial value is Config.MaxLength. It must be called by the reading goroutine, or before the
// first Fill.
func (r *Reader) SetMaxLength(maxLength int) { r.maxLength = int32(min(maxLength, math.MaxInt32)) }

// SetReadLimit limits the bytes of later reads, except for the rest of a larger unfinished
// frame. A caller that cannot handle all frames of a read then has few bytes left over. 0
// means no limit but that of the Reader.
func (r *Reader) SetReadLimit(maxBytes int) { r.readLimit = int32(min(maxBytes, math.MaxInt32)) }

// BytesRead returns the number of bytes read so far.
func (r *Reader) BytesRead() int64 { return r.bytesRead.Load() }

// BytesArrived returns the number of bytes that have arrived so far: BytesRead, plus the bytes
// that wait in the kernel where the kernel reports them.
func (r *Reader) BytesArrived() int64 { return r.bytesRead.Load() + int64(r.unread()) }

// FrameBytesArrived is BytesArrived without those bytes that belong to no frame: the headers and
// control frames of a WebSocket that were read.
func (r *Reader) FrameBytesArrived() int64 {
	n := r.BytesArrived()
	if t, ok := r.base.transport.(*webSocketTransport); ok {
		n -= t.overhead.Load()
	}
	return n
}

// Values of Reader.stopMode.
const (
	stopNow       = 1 + iota // Fill returns ErrInterrupted
	stopWhenEmpty            // Fill returns ErrInterrupted when no arrived data is left
)

// Interrupt makes the current or next Fill return ErrInterrupted, even if it waits for memory,
// and ends every wait of the handler's account.
func (r *Reader) Interrupt() {
	r.stop(stopNow)
	if a := r.base.Account(); a != nil {
		a.Interrupt()
	}
}

// StopWhenEmpty makes Fill return ErrInterrupted when it would have to wait for the peer.
// Where the Reader cannot tell which data has arrived, that is at once.
func (r *Reader) StopWhenEmpty() { r.stop(stopWhenEmpty) }

func (r *Reader) stop(mode int32) {
	r.stopMode.Store(mode)
	r.base.transport.Interrupt(pastDeadline)
}

// pastDeadline is a deadline that has expired.
var pastDeadline = time.Unix(1, 0)

// Fill releases the memory of the last read and waits for more data. It returns io.EOF if the
// peer has ended its side between two frames, io.ErrUnexpectedEOF if the peer has done so in
// the middle of a frame, and ErrIdle as NotifyIdle says. Fill can wait for memory of
// Handler.Account: its caller must hold none that others wait for. Fill also returns when many
// bytes of a WebSocket have arrived of which none belongs to a frame; Next then returns none.
func (r *Reader) Fill() error {
	if err := r.finishRead(); err != nil {
		return err
	}
	for {
		err := r.waitAndRead()
		switch {
		case err == errNoMemory:
			err = r.acquireLarge()
		case err == errOverhead:
			return nil
		case err == nil && (r.large == nil || r.largeLen == r.size):
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Next stores the next whole frame of the current read in f. ok is false if there is none, or
// if err says that the next bytes are not a valid frame; f is then undefined.
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

// NextType returns the type of the frame that Next will return next, if the current read
// includes its header.
func (r *Reader) NextType() (t wire.Type, known bool) {
	if r.buf == nil || r.end-r.pos < wire.HeaderSize {
		return 0, false
	}
	t, _ = wire.Split(r.buf.Bytes()[r.pos:][:wire.HeaderSize])
	return t, true
}

// More reports whether more data has probably arrived: the last read has filled its buffer.
func (r *Reader) More() bool { return r.lastReadFull }

// Pending returns the number of bytes of the current read that Next has not returned.
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

// endFrame ends the state of an unfinished frame and returns when the frame started.
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

// finishRead ends the current read: it keeps the start of an unfinished frame and releases the
// other memory.
func (r *Reader) finishRead() error {
	r.releaseLent()
	if r.buf == nil {
		return nil
	}
	r.heldSince.Store(0) // the memory kept by Compact
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

// WaitSeq returns a number that changes each time the Reader begins or ends a wait for the
// peer, and is odd during a wait. A peer from which no data arrives is silent only while
// WaitSeq is odd and unchanged; otherwise it is possible that no goroutine reads its data.
func (r *Reader) WaitSeq() uint32 { return r.waitSeq.Load() }

// SinceTCPAck returns the time since the kernel of the peer last acknowledged any data. It is
// a sign of life while no goroutine reads the data of the peer. known is false where the local
// kernel does not report it.
func (r *Reader) SinceTCPAck() (ago time.Duration, known bool) {
	if kernel, ok := r.base.transport.(kernelView); ok {
		return kernel.SinceTCPAck()
	}
	return 0, false
}

// PeerEnded reports whether the peer has ended its side. Unread data can precede the end.
// Where the local kernel does not report it, PeerEnded returns false.
func (r *Reader) PeerEnded() bool {
	kernel, ok := r.base.transport.(kernelView)
	return ok && kernel.PeerEnded()
}

// unread returns the number of bytes that wait in the kernel, or 0 where the kernel does not
// report it.
func (r *Reader) unread() int {
	if kernel, ok := r.base.transport.(kernelView); ok {
		return kernel.Unread()
	}
	return 0
}

// waitAndRead waits for data, reads once, and updates waitSeq.
func (r *Reader) waitAndRead() error {
	r.waitSeq.Add(1)
	err := r.readLoop()
	r.waitSeq.Add(1)
	return err
}

// readLoop is waitAndRead without waitSeq.
func (r *Reader) readLoop() error {
	for {
		n, err := r.base.transport.Read()
		switch {
		case n > 0:
			r.onRead(n)
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err = r.onDeadline(); err != nil {
				return err
			}
		case errors.Is(err, io.EOF):
			return r.eofError()
		case err != nil:
			return err
		} // otherwise no data was read, which a net.Conn is allowed to report
	}
}

// onRead accounts for n bytes that were read into the buffer of nextBuffer.
func (r *Reader) onRead(n int) {
	r.bytesRead.Add(int64(n))
	if r.large != nil {
		r.largeLen += n
		r.recordProgress(r.largeLen)
		return
	}
	r.pos, r.end = 0, int32(r.startLen+n)
	if r.start != nil {
		copy(r.buf.Bytes(), r.start.Bytes()[:r.startLen])
		r.start.Release()
		r.start, r.startLen = nil, 0
		r.heldSince.Store(0) // finishRead sets it again if the frame is still unfinished
	}
	if r.base.config.RetainsFrames && int(r.end) < len(r.buf.Bytes())/2 {
		small := body.Get(int(r.end))
		copy(small.Bytes(), r.buf.Bytes()[:r.end])
		r.buf.Release()
		r.buf = small
	}
}

// eofError returns io.EOF between two frames, and io.ErrUnexpectedEOF in the middle of a
// frame.
func (r *Reader) eofError() error {
	if r.midFrame() {
		return io.ErrUnexpectedEOF
	}
	return io.EOF
}

func (r *Reader) midFrame() bool { return r.start != nil || r.large != nil }
