package outbox

import (
	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// maxCopy is the maximum size of a batch that is copied into an outbox, in bytes. Above it, a
	// reference and a separate entry in the vectored write are cheaper than the copy
	// (docs/decisions/0004).
	maxCopy = 1 << 10

	// blockSize is the size of a block of copied frames, in bytes.
	blockSize = 16 << 10

	// segmentCost is the cost of a queued reference in the weight of the outbox, in addition to
	// its bytes. It stands for the memory of the bookkeeping, which must be bounded for tiny
	// frames as well.
	segmentCost = 64
)

// segment is a group of consecutive whole frames in one buffer.
type segment struct {
	buffer         *body.Buffer
	from, to       int // the part of buffer to be sent
	frames         int
	messages       bool  // Batch.Messages
	isBlock        bool  // a block of the outbox: more frames can be copied behind to
	reliable       bool  // kept until acknowledged
	receiver       int16 // Batch.Receiver
	first          int32 // index of the first frame in its batch: see Batch.First
	options        *Options
	priority       bool // written before segments without priority
	retransmission bool // reliable and sent before, at least in part
	writeReported  bool // EventWritten was reported
}

// weight returns what the segment adds to the weight of the outbox.
func (s *segment) weight() int {
	if s.isBlock {
		return s.to - s.from
	}
	return s.to - s.from + segmentCost
}

// deliveries returns the number of frames that carry a message.
func (s *segment) deliveries() int {
	if s.messages {
		return s.frames
	}
	return 0
}

// segmentOf returns the segment of a batch.
func segmentOf(batch *Batch) segment {
	return segment{
		buffer: batch.Buffer, from: batch.From, to: batch.To, frames: batch.Frames, messages: batch.Messages,
		reliable: batch.Reliable, options: batch.Options, receiver: int16(batch.Receiver), first: int32(batch.First),
	}
}

// batch is the inverse of segmentOf. It takes over the reference to the buffer.
func (s *segment) batch() Batch {
	return Batch{
		Buffer: s.buffer, From: s.from, To: s.to, Frames: s.frames, Messages: s.messages,
		Reliable: s.reliable, Options: s.options, Receiver: int(s.receiver), First: int(s.first),
	}
}

// expires reports whether s can expire. SKIPs do not.
func (s *segment) expires() bool {
	return s.options != nil && s.options.Expires != 0 && !s.isSkips()
}

// expired reports whether s has expired.
func (s *segment) expired(now int64) bool {
	return s.expires() && now >= s.options.Expires
}

// trimFrames removes n frames from the front of a segment and returns their size in bytes, or
// 0 if its buffer was dropped.
func (s *segment) trimFrames(n int) (size int) {
	s.frames -= n
	s.first += int32(n)
	if s.buffer == nil {
		return 0
	}
	for frame := range wire.Frames(s.buffer.Bytes()[s.from:s.to]) {
		if n == 0 {
			break
		}
		size += len(frame)
		n--
	}
	s.from += size
	return size
}

// maxSkips is the maximum number of SKIP frames in one segment. A block of REPORT frames, or
// of copied DELIVER frames, has fewer frames.
const maxSkips = 800

// skipFrames holds the SKIP frames of all segments. SKIPs thus take no memory, however many
// messages they replace. The buffer is never written to, and its first reference is never
// released.
var skipFrames = func() *body.Buffer {
	b := body.Get(maxSkips * wire.SkipLen)
	all := b.Bytes()[:0]
	for range maxSkips {
		all = wire.AppendSkip(all)
	}
	return b
}()

// isSkips reports whether s holds SKIPs. SKIPs with options replace messages that the peer has
// read and will acknowledge: these SKIPs do not expire.
func (s *segment) isSkips() bool { return s.buffer == skipFrames }

// appendSkips appends SKIPs in place of the frames of s, in as many segments as necessary. The
// new segments hold their own references; the reference of s stays with the caller.
func appendSkips(to []segment, s segment) []segment {
	s.messages = false
	for s.frames > 0 {
		part := s
		part.frames = min(s.frames, maxSkips)
		part.buffer, part.from, part.to = skipFrames, 0, part.frames*wire.SkipLen
		skipFrames.Retain()
		to = append(to, part)
		s.frames -= part.frames
		s.first += int32(part.frames)
	}
	return to
}

// appendAccounts appends the accounts that are charged for segments.
func appendAccounts(to []*body.Account, segments []segment) []*body.Account {
	var last *body.Account
	for _, s := range segments {
		if s.buffer == nil {
			continue
		}
		if a := s.buffer.Account(); a != nil && a != last {
			to = append(to, a)
			last = a
		}
	}
	return to
}
