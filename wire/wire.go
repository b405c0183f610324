// Package wire turns frames into bytes and bytes into frames. It is the first
// room on the way of a message: pure functions and constants, no I/O, no
// goroutines, no state. Waiting for bytes and owning them is the business of
// internal/socket.
//
// All integers are big-endian. A frame on the wire is
//
//	┌─────────────┬─────────┬─────────────┐
//	│ length  u32 │ type u8 │ payload     │    length counts type and payload
//	└─────────────┴─────────┴─────────────┘
//
// and in version 1, "classic", one of
//
//	client → hub   1 identity   payload ignored
//	               2 list       payload ignored
//	               3 relay      count u8 · count × id u64 · body
//	hub → client   1 identity   id u64
//	               2 list       id u64 … of every other client, ascending
//	               3 delivery   body
//
// A client that sends HELLO first speaks version 2, which adds
//
//	client → hub   10 HELLO       JSON
//	               12 SEND        seq u64 · options u32 · ttl_ms u32 · count u8 · count × id u64 · body
//	               15 ACK         … × (sender u64 · seq u64 · fate u8)
//	               16 LIST_RANGE  after u64 · limit u32
//	               18 WATCH       on u8 · since u64
//	               1D BYE
//	hub → client   11 WELCOME     JSON
//	               13 DELIVER     sender u64 · seq u64 · time u64 · flags u8 · body
//	               14 REPORT      seq u64 · count u8 · count × fate u8
//	               17 LIST_PAGE   total u64 · more u8 · id u64 …
//	               19 PRESENCE    revision u64 · flags u8 · joined u32 · id u64 …
//	               1C ERROR       seq u64 · code u16 · text
//	               1E GOAWAY      JSON
//	both           1A PING        opaque u64
//	               1B PONG        opaque u64
//	               1F TAKEN       up to u64
//
// Every frame has an Append, a Parse and a Len. Append extends the slice that
// it is given and returns it. Parse reads a payload (the bytes after the type),
// never copies and never keeps anything but slices of it. Len is the whole size
// on the wire. docs/PROTOCOL.md is the specification.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// Type is the first byte after the length of a frame.
type Type uint8

// The frame types of version 1. 0 and 4 to 15 are reserved: a hub ignores and
// counts them.
const (
	TypeIdentity Type = 1 // → nothing              ← id u64
	TypeList     Type = 2 // → nothing              ← id u64 …
	TypeRelay    Type = 3 // → count, ids, body     ← body
)

// The frame types of version 2. Numbers are append-only.
const (
	TypeHello     Type = 0x10 // →
	TypeWelcome   Type = 0x11 // ←
	TypeSend      Type = 0x12 // →
	TypeDeliver   Type = 0x13 // ←
	TypeReport    Type = 0x14 // ←
	TypeVerdict   Type = 0x15 // →
	TypeListRange Type = 0x16 // →
	TypeListPage  Type = 0x17 // ←
	TypeWatch     Type = 0x18 // →
	TypePresence  Type = 0x19 // ←
	TypePing      Type = 0x1A // both
	TypePong      Type = 0x1B // both
	TypeError     Type = 0x1C // ←
	TypeBye       Type = 0x1D // →
	TypeGoAway    Type = 0x1E // ←
	TypeAck       Type = 0x1F // both
	TypeSkip      Type = 0x24 // ←
)

// IsReliable reports whether a frame from the hub is one that a client of version 2
// counts: it is sent again after a lost connection if the client has not had it.
func (t Type) IsReliable() bool { return t == TypeDeliver || t == TypeReport || t == TypeSkip }

// Sizes of the parts of a frame, in bytes.
const (
	LengthSize   = 4                                                                // the length field, u32
	HeaderSize   = LengthSize + 1                                                   // length and type
	IDSize       = 8                                                                // a client id, u64
	relayFixed   = HeaderSize + 1                                                   // length, type and count of a relay
	MaxLength    = 1<<32 - 1                                                        // what the length field can say
	MaxBodyLimit = 1 << 30                                                          // largest body limit that may be configured: far below MaxLength, and an int everywhere
	_            = uint(MaxLength - MaxBodyLimit - sendFixed - MaxReceivers*IDSize) // a SEND of that size still has a length
)

// Limits.
const (
	// MaxReceivers is how many ids one message can name: its count is a u8.
	MaxReceivers = 255

	// DefaultPort is the TCP port of a hub, with TLS as well.
	DefaultPort = 9999

	// ALPN is how hub and client name their protocol in TLS (RFC 7301), so that neither takes
	// one of another kind for its peer.
	ALPN = "message-hub"

	// DefaultMaxBody is the largest body that a hub takes unless it is told
	// otherwise, in bytes: 1 MiB, by the system's description.
	DefaultMaxBody = 1 << 20
)

var (
	// ErrTooLong says that a frame announces more bytes than the reader takes.
	ErrTooLong = errors.New("frame too long")

	// ErrMalformed says that a payload does not have the layout of its type.
	ErrMalformed = errors.New("malformed frame")
)

// LengthError is an ErrTooLong of a length field. What speaks another protocol is known by the first bytes that it
// sends, which are that field.
type LengthError struct {
	Length    uint32 // as announced, in bytes
	MaxLength int    // that is allowed
}

// Error returns what was announced and what is allowed.
func (e *LengthError) Error() string {
	return fmt.Sprintf("%v: %d bytes announced, %d allowed", ErrTooLong, e.Length, e.MaxLength)
}

// Unwrap returns ErrTooLong.
func (e *LengthError) Unwrap() error { return ErrTooLong }

// MaxRequestLength is the largest value of the length field that a client may send
// to a hub that takes bodies of maxBody bytes: a SEND to MaxReceivers.
func MaxRequestLength(maxBody int) int { return SendLen(MaxReceivers, maxBody) - LengthSize }

// Size returns how many bytes the frame at the start of b takes on the wire,
// length field included. It returns 0 when b is too short to say, and an error
// that wraps ErrTooLong when the length field is above maxLength.
func Size(b []byte, maxLength int) (int, error) {
	if len(b) < LengthSize {
		return 0, nil
	}
	length := binary.BigEndian.Uint32(b)
	if uint64(length) > uint64(maxLength) {
		return 0, &LengthError{Length: length, MaxLength: maxLength}
	}
	return LengthSize + int(length), nil
}

// Split takes a whole frame, as Size measured it, apart. The empty frame
// (length 0) has type 0 and no payload.
func Split(frame []byte) (Type, []byte) {
	if len(frame) < HeaderSize {
		return 0, nil
	}
	return Type(frame[LengthSize]), frame[HeaderSize:]
}

// Frames yields the whole frames that b starts with, one behind the other. b must
// begin at the start of a frame. It ends at one that is not whole, or that no
// configuration allows.
func Frames(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for {
			size, err := Size(b, MaxRequestLength(MaxBodyLimit))
			if err != nil || size == 0 || size > len(b) || !yield(b[:size]) {
				return
			}
			b = b[size:]
		}
	}
}

// appendHeader appends a length and a type for a payload of n bytes.
func appendHeader(b []byte, t Type, n int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(1+n))
	return append(b, byte(t))
}
