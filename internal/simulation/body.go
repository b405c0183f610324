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
// sender is the index of the client that sent it, number counts its messages
// from 0, and intended is when it should have been sent, since the epoch of the
// run. The rest is a piece of the pattern at a place that follows from those 16
// bytes. So building a body is a copy, checking one is a comparison at the speed
// of memory, and a damaged header does not fit its rest.
const headerSize = 16

// header is what stands in front of a body, as two words: both ends need it
// whole (to find the rest) as often as in parts.
type header struct {
	messageID uint64 // sender and number
	intended  uint64 // ns since the epoch of the run
}

func newHeader(sender int, number uint32, intended time.Duration) header {
	return header{uint64(sender)<<32 | uint64(number), uint64(intended)}
}

// parseHeader reads the first headerSize bytes of a body.
func parseHeader(body []byte) header {
	return header{binary.BigEndian.Uint64(body), binary.BigEndian.Uint64(body[8:headerSize])}
}

func (h header) put(body []byte) {
	binary.BigEndian.PutUint64(body, h.messageID)
	binary.BigEndian.PutUint64(body[8:headerSize], h.intended)
}

func (h header) sender() uint32 { return uint32(h.messageID >> 32) }
func (h header) number() uint32 { return uint32(h.messageID) }

// The odd multipliers of SplitMix64: their products have well mixed high bits.
const (
	mixMessageID = 0xbf58476d1ce4e5b9
	mixIntended  = 0x94d049bb133111eb
)

// mix spreads the header over 64 bits, best in the high ones.
func (h header) mix() uint64 {
	return (h.messageID*mixMessageID ^ h.intended) * mixIntended
}

// patternOffsetBits is the logarithm of how many different rests there are: 32 Ki, so
// that a piece of another body is taken for the right one once in 32,768 times,
// while the pattern of small bodies stays in the processor's nearer caches.
const patternOffsetBits = 15

// pattern makes and checks bodies of one size. It is read only after newPattern
// and shared by all senders and receivers.
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

// tail returns what stands behind h.
func (p *pattern) tail(h header) []byte {
	offset := int(h.mix() >> (64 - patternOffsetBits))
	return p.bytes[offset : offset+p.size-headerSize]
}

// fill writes a body into one of p.size bytes. A body too small for a header
// is left as it is.
func (p *pattern) fill(body []byte, h header) {
	if p.size < headerSize {
		return
	}
	h.put(body)
	copy(body[headerSize:], p.tail(h))
}

// matches says whether a body of p.size bytes with the header h is what fill made.
func (p *pattern) matches(body []byte, h header) bool {
	return bytes.Equal(body[headerSize:], p.tail(h))
}
