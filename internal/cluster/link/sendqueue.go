package link

import "github.com/sechlol/go-message-hub/internal/body"

const (
	// maxCopy is the maximum size of a part of a caller's buffer that is copied into a block, in
	// bytes. Above it, a reference is cheaper than the copy, as in package outbox.
	maxCopy = 1 << 10

	// blockSize is the size of a block, in bytes.
	blockSize = 16 << 10

	minRing = 64 // segments; a power of two
)

// segment is a part of the stream that is kept until the other hub has acknowledged it.
type segment struct {
	buffer   *body.Buffer
	from, to int   // the part of buffer
	at       int64 // when its first byte was appended, by Link.Now
}

func (s *segment) size() int { return s.to - s.from }

// sendQueue is the stream of this side from the first byte that is not acknowledged. It holds one
// reference to the buffer of each segment.
//
//	base ≤ acked ≤ next ≤ maxSent ≤ end
//
// What is copied goes to blocks. Copies that follow each other are one segment. A large buffer
// between them ends the segment but not the block: the head of each large record would otherwise
// occupy a block of its own. It is not safe for concurrent use.
type sendQueue struct {
	ring       []segment // the segments from first to last, each at its number modulo the length
	first      uint64    // number of the segment that begins at base
	last       uint64    // number of the segment after the last one
	base       uint64    // offset of the first byte that is kept
	acked      uint64    // all below were acknowledged
	next       uint64    // the next byte to send
	maxSent    uint64    // all from here on were never sent
	end        uint64    // offset of the next byte to be appended
	cursor     uint64    // number of the segment with next
	cursorByte int       // next within this segment; its size: next is in the following segment

	block     *body.Buffer // for copies, with one reference of the queue; nil: there is none with room
	blockUsed int          // bytes of block
}

func (q *sendQueue) at(number uint64) *segment { return &q.ring[number&uint64(len(q.ring)-1)] }

// outstanding reports whether bytes were sent and not acknowledged.
func (q *sendQueue) outstanding() bool { return q.acked < q.maxSent }

// push adds a segment at the end. It takes over the reference to its buffer.
func (q *sendQueue) push(s segment) {
	if int(q.last-q.first) == len(q.ring) {
		q.grow()
	}
	*q.at(q.last) = s
	q.last++
	q.end += uint64(s.size())
}

// grow doubles the ring.
func (q *sendQueue) grow() {
	old := *q
	q.ring = make([]segment, max(minRing, 2*len(old.ring)))
	for number := old.first; number < old.last; number++ {
		*q.at(number) = *old.at(number)
	}
}

// appendCopy appends a copy of p.
func (q *sendQueue) appendCopy(p []byte, now int64) {
	for len(p) > 0 {
		if q.block == nil {
			q.block, q.blockUsed = body.Get(blockSize), 0
		}
		n := copy(q.block.Bytes()[q.blockUsed:blockSize], p)
		q.extend(n, now)
		if q.blockUsed == blockSize {
			q.releaseBlock()
		}
		p = p[n:]
	}
}

// extend appends the next n bytes of the block to the stream.
func (q *sendQueue) extend(n int, now int64) {
	from := q.blockUsed
	q.blockUsed += n
	if q.first < q.last {
		if s := q.at(q.last - 1); s.buffer == q.block && s.to == from {
			s.to += n
			q.end += uint64(n)
			return
		}
	}
	q.block.Retain()
	q.push(segment{buffer: q.block, from: from, to: q.blockUsed, at: now})
}

// releaseBlock gives up the block. Segments can still refer to it.
func (q *sendQueue) releaseBlock() {
	if q.block != nil {
		q.block.Release()
		q.block = nil
	}
}

// appendBuffer appends a part of a buffer: small ones as a copy, others by a reference.
func (q *sendQueue) appendBuffer(buffer *body.Buffer, from, to int, now int64) {
	if to-from <= maxCopy {
		q.appendCopy(buffer.Bytes()[from:to], now)
		return
	}
	buffer.Retain()
	q.push(segment{buffer: buffer, from: from, to: to, at: now})
}

// send appends the next n bytes of the stream to p. There must be as many.
func (q *sendQueue) send(p []byte, n int) []byte {
	q.next += uint64(n)
	q.maxSent = max(q.maxSent, q.next)
	for n > 0 {
		s := q.at(q.cursor)
		if q.cursorByte == s.size() {
			q.cursor++
			q.cursorByte = 0
			continue
		}
		part := min(n, s.size()-q.cursorByte)
		from := s.from + q.cursorByte
		p = append(p, s.buffer.Bytes()[from:from+part]...)
		q.cursorByte += part
		n -= part
	}
	return p
}

// ack releases what is below an offset, which is from acked to maxSent.
func (q *sendQueue) ack(offset uint64) {
	q.acked = offset
	for q.first < q.last && q.base+uint64(q.at(q.first).size()) <= offset {
		q.release()
	}
	if q.next < offset || q.cursor < q.first {
		q.seek(max(q.next, offset))
	}
	if q.first == q.last {
		q.releaseBlock() // an idle link holds no memory
	}
}

// release removes the first segment.
func (q *sendQueue) release() {
	s := q.at(q.first)
	q.base += uint64(s.size())
	q.first++
	s.buffer.Release()
	*s = segment{}
}

// seek makes offset, from acked to maxSent, the next byte to send. It looks at all segments before
// it.
func (q *sendQueue) seek(offset uint64) {
	q.next, q.cursor = offset, q.first
	skip := offset - q.base
	for q.cursor < q.last && skip > uint64(q.at(q.cursor).size()) {
		skip -= uint64(q.at(q.cursor).size())
		q.cursor++
	}
	q.cursorByte = int(skip)
}

// unsend takes back that the bytes from an offset on were sent. maxSent was the value before.
func (q *sendQueue) unsend(offset, maxSent uint64) {
	q.maxSent = max(maxSent, q.acked)
	if offset = max(offset, q.acked); offset < q.next {
		q.seek(offset)
	}
}

// lag returns the age of the first segment, in µs.
func (q *sendQueue) lag(now int64) int64 {
	if q.first == q.last {
		return 0
	}
	return now - q.at(q.first).at
}

// clear releases everything. A new stream begins.
func (q *sendQueue) clear() {
	for q.first < q.last {
		q.release()
	}
	q.releaseBlock()
	*q = sendQueue{ring: q.ring}
}
