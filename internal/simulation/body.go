package simulation

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// A body of at least headerSize bytes starts with
//
//	┌─────────────┬─────────────┬───────────────────┐
//	│ sender  u32 │ number  u32 │ intended ns  u64  │    big-endian
//	└─────────────┴─────────────┴───────────────────┘
//
// sender is the index of the sending client, number counts its messages from 0, and intended
// is the time at which the message was due, since the epoch of the run. The rest of the body
// is a slice of the pattern, at an offset that is computed from those 16 bytes. Therefore
// building a body is one copy, checking a body is one memory comparison, and a corrupted
// header does not match the rest of its body.
const headerSize = 16

// header is the start of a body, held as two words, because senders and receivers need it as a
// whole (to find the rest of the body) as often as in parts.
type header struct {
	messageID uint64 // sender and number
	intended  uint64 // ns since the epoch of the run
}

func newHeader(sender int, number uint32, intended time.Duration) header {
	return header{uint64(sender)<<32 | uint64(number), uint64(intended)}
}

// parseHeader parses the first headerSize bytes of a body.
func parseHeader(body []byte) header {
	return header{binary.BigEndian.Uint64(body), binary.BigEndian.Uint64(body[8:headerSize])}
}

func (h header) put(body []byte) {
	binary.BigEndian.PutUint64(body, h.messageID)
	binary.BigEndian.PutUint64(body[8:headerSize], h.intended)
}

func (h header) sender() uint32 { return uint32(h.messageID >> 32) }
func (h header) number() uint32 { return uint32(h.messageID) }

// mixMessageID and mixIntended are the odd multipliers of SplitMix64. The high bits of their
// products are well mixed.
const (
	mixMessageID = 0xbf58476d1ce4e5b9
	mixIntended  = 0x94d049bb133111eb
)

// mix spreads the header over 64 bits. The high bits are mixed best.
func (h header) mix() uint64 {
	return (h.messageID*mixMessageID ^ h.intended) * mixIntended
}

// patternOffsetBits is the base-2 logarithm of the number of offsets into the pattern. With 32
// Ki offsets, the rest of another body matches by chance once in 32,768 cases, and the pattern
// of small bodies still fits into the inner caches of the processor.
const patternOffsetBits = 15

// pattern makes and checks bodies of one size. It is read-only after newPattern and shared by
// all senders and receivers.
type pattern struct {
	size  int    // bytes of a body
	bytes []byte // pseudo-random, the same in every run
}

func newPattern(size int) *pattern {
	p := &pattern{size: size, bytes: make([]byte, size+1<<patternOffsetBits)}
	random := rand.NewChaCha8([32]byte([]byte("a fixed seed, the same each time")))
	_, _ = random.Read(p.bytes) // never fails
	return p
}

// tail returns the bytes that follow the header h in a body.
func (p *pattern) tail(h header) []byte {
	offset := int(h.mix() >> (64 - patternOffsetBits))
	return p.bytes[offset : offset+p.size-headerSize]
}

// fill writes a body with the header h into body, which must have p.size bytes. It leaves a
// body that is too small for a header unchanged.
func (p *pattern) fill(body []byte, h header) {
	if p.size < headerSize {
		return
	}
	h.put(body)
	copy(body[headerSize:], p.tail(h))
}

// matches reports whether body, of p.size bytes and with the header h, has the content that
// fill writes.
func (p *pattern) matches(body []byte, h header) bool {
	return bytes.Equal(body[headerSize:], p.tail(h))
}
