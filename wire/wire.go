// Package wire encodes and decodes the frames of the protocol. It has no I/O, no goroutines and
// no state: internal/socket reads the bytes, writes them and owns them. A message passes through
// this package in the client that sends it, in the hub and in each receiver: a frame is encoded
// before it is written and decoded after it was read. docs/PROTOCOL.md is the specification.
//
// # Framing
//
// All integers are unsigned and big-endian. A frame is
//
//	┌─────────────┬─────────┬─────────────┐
//	│ length  u32 │ type u8 │ payload     │    length counts type and payload
//	└─────────────┴─────────┴─────────────┘
//
// A frame of length 0 has neither type nor payload. The hub ignores it.
//
// # Versions
//
// The hub serves both versions on one port, with and without TLS. The first frame of the client
// selects the version of the connection.
//
//	version 1: requests for the own id and for a list of the other clients, and relays of a body
//	           to up to 255 receivers. A delivery does not name its sender.
//	version 2: sender ids, sessions that outlive connections, acknowledgements, reports with a
//	           fate for each receiver, verdicts, presence, keep-alive and authentication.
//
// Version 2 has been extended since, in this order. A field of HELLO or WELCOME announces each
// extension, and both sides ignore fields that they do not know. Programs from before and
// after an extension therefore work together.
//
//	HELLO max_body and WELCOME max_deliver: a receiver limits the bodies it takes.
//	WELCOME max_report_timeout_ms: a SEND can name its report timeout.
//	HELLO skip: SKIP replaces a frame that the hub does not retransmit.
//	HELLO confirms: the client acknowledges WELCOME.
//	WELCOME grants_ids: ids up to MaxGrantedID keep their meaning after a restart.
//	WELCOME receiver_cost: what a receiver of a SEND costs of the send credit.
//	HELLO read: frames that were read whole are not retransmitted.
//	WELCOME renew: RENEW replaces the token of the connection.
//	WELCOME cluster and kept_id: ids are valid at all hubs of a cluster, and outlive a session.
//
// # Protocol flow
//
// Version 1:
//
//   - client connects
//   - client sends IDENTITY, LIST and RELAY requests
//   - hub answers IDENTITY and LIST in the order of the requests, and delivers relays
//   - either side closes
//
// Version 2:
//
//   - client connects
//   - client sends HELLO, with the id and the resume secret of its session if it has one
//   - hub sends WELCOME, or sends GOAWAY and closes
//   - client sends SEND, hub sends ACK when the message is in the queues of its receivers
//   - hub sends DELIVER to each receiver, receiver sends ACK when its application has the message
//   - receiver sends VERDICT when its application has processed or rejected the message
//   - hub sends REPORT to the sender, if its SEND asks for one, when the message has reached the
//     level of the SEND for each receiver or cannot reach it, or when a timeout ends
//   - either side sends PING, and its peer answers by PONG
//   - client sends RENEW with a new token, hub sends RENEWED, or ERROR and keeps the old token
//   - client sends BYE, or hub sends GOAWAY, and the connection ends; a connection that ends in
//     another way is lost, and the client can resume its session on a new one
//
// # Functions
//
// AppendX appends a whole frame, its header included, to the slice that it is given, and
// returns the extended slice. PutX overwrites a part of a frame in place. ParseX reads a
// payload, the bytes behind the type. It never copies: slices in its result are views of the
// payload. XLen returns the size of a whole frame on the wire, in bytes. PING, PONG and ACK
// share ParseUint64. Requests of version 1 for an id or a list, deliveries of version 1, SKIP
// and BYE need no ParseX. The frames in JSON (HELLO, WELCOME, GOAWAY, RENEW and RENEWED) have no
// XLen.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// Type is the first byte after the length of a frame.
type Type uint8

// Frame types of version 1. The types 0 and 4 to 15 are reserved: the hub ignores and counts
// them.
const (
	// TypeIdentity asks for the id of the client.
	//   - client to hub: payload ignored
	//   - hub to client: id u64
	TypeIdentity Type = 1

	// TypeList asks for the ids of all other clients. The hub sends them in ascending order.
	//   - client to hub: payload ignored
	//   - hub to client: id u64 …
	TypeList Type = 2

	// TypeRelay asks the hub to deliver a body. The hub sends one delivery to each receiver.
	//   - client to hub: count u8 · count × id u64 · body
	//   - hub to client: body
	TypeRelay Type = 3
)

// Frame types of version 2. Numbers are append-only. The types 0x20 to 0x23 and those above 0x26
// are not assigned: the hub ignores and counts them.
const (
	// TypeHello is the first frame of the client.
	//   - client to hub: Hello as JSON
	TypeHello Type = 0x10

	// TypeWelcome is the first frame of the hub. It answers HELLO.
	//   - hub to client: Welcome as JSON
	TypeWelcome Type = 0x11

	// TypeSend asks the hub to deliver a body.
	//   - client to hub: seq u64 · options u32 · ttl_ms u32 · count u8 · count × id u64 · body
	TypeSend Type = 0x12

	// TypeDeliver is a message for the client. It is a reliable frame.
	//   - hub to client: sender u64 · seq u64 · time u64 · flags u8 · body
	TypeDeliver Type = 0x13

	// TypeReport tells a sender the fate of its SEND for each receiver. It is a reliable frame.
	//   - hub to client: seq u64 · count u8 · count × fate u8
	TypeReport Type = 0x14

	// TypeVerdict says which messages the application of the receiver has processed or rejected.
	//   - client to hub: … × (sender u64 · seq u64 · fate u8)
	TypeVerdict Type = 0x15

	// TypeListRange asks for a page of the list of clients.
	//   - client to hub: after u64 · limit u32
	TypeListRange Type = 0x16

	// TypeListPage answers LIST_RANGE.
	//   - hub to client: total u64 · more u8 · id u64 …
	TypeListPage Type = 0x17

	// TypeWatch starts or stops a presence watch.
	//   - client to hub: on u8 · since u64
	TypeWatch Type = 0x18

	// TypePresence tells a watcher which clients joined and left.
	//   - hub to client: revision u64 · flags u8 · joined u32 · joined × id u64 · left id u64 …
	TypePresence Type = 0x19

	// TypePing asks the peer for a PONG.
	//   - both: opaque u64
	TypePing Type = 0x1A

	// TypePong answers a PING.
	//   - both: opaque u64, that of the PING
	TypePong Type = 0x1B

	// TypeError says that a request failed.
	//   - hub to client: seq u64 · code u16 · text
	TypeError Type = 0x1C

	// TypeBye is the last frame of a client that ends its session.
	//   - client to hub: no payload
	TypeBye Type = 0x1D

	// TypeGoAway says that the hub ends the connection. Frames that are queued can follow it.
	//   - hub to client: GoAway as JSON
	TypeGoAway Type = 0x1E

	// TypeAck is a cumulative acknowledgement.
	//   - client to hub: up_to u64, the number of reliable frames that the application has
	//     received since the session began
	//   - hub to client: up_to u64, the seq up to which all SENDs are in the queues of their
	//     receivers
	TypeAck Type = 0x1F

	// TypeSkip replaces a reliable frame that the hub does not retransmit. It is a reliable frame.
	//   - hub to client: no payload; the client ignores one
	TypeSkip Type = 0x24

	// TypeRenew asks the hub to replace the token of the connection.
	//   - client to hub: Renew as JSON
	TypeRenew Type = 0x25

	// TypeRenewed answers RENEW: the permissions of the new token apply.
	//   - hub to client: Renewed as JSON
	TypeRenewed Type = 0x26
)

// IsReliable reports whether frames of type t from the hub are reliable. The client counts
// reliable frames and acknowledges them by ACK. The hub keeps them until then and retransmits
// them on the connection that resumes the session.
func (t Type) IsReliable() bool { return t == TypeDeliver || t == TypeReport || t == TypeSkip }

// Sizes of the parts of a frame, and limits of its length, in bytes.
const (
	LengthSize = 4              // the length field, u32
	HeaderSize = LengthSize + 1 // length and type
	IDSize     = 8              // a client id, u64
	relayFixed = HeaderSize + 1 // length, type and count of a RELAY
	MaxLength  = 1<<32 - 1      // the largest value of the length field

	// MaxBodyLimit is the largest body limit that can be configured. It is far below MaxLength,
	// and an int on every platform.
	MaxBodyLimit = 1 << 30

	// A SEND with the largest body to MaxReceivers receivers must have a length. Otherwise this
	// constant does not compile.
	_ = uint(MaxLength - MaxBodyLimit - sendFixed - MaxReceivers*IDSize)
)

// Limits.
const (
	// MaxReceivers is the maximum number of receivers of a message: the count is a u8.
	MaxReceivers = 255

	// DefaultPort is the TCP port of a hub, with and without TLS.
	DefaultPort = 9999

	// ALPN is the name of the protocol in TLS (RFC 7301). It keeps servers and clients of other
	// protocols from being taken for a hub or a client.
	ALPN = "message-hub"

	// Subprotocol is the name of version 2 of the protocol as a subprotocol of WebSocket (RFC
	// 6455), and WebPath the path at which a hub accepts WebSockets.
	Subprotocol = "message-hub.v2"
	WebPath     = "/connect"

	// DefaultMaxBody is the default limit of a body, in bytes. The requirements of the system
	// name 1 MiB.
	DefaultMaxBody = 1 << 20
)

var (
	// ErrTooLong says that the length field of a frame is above the limit of the reader.
	ErrTooLong = errors.New("frame too long")

	// ErrMalformed says that a payload does not have the layout of its type.
	ErrMalformed = errors.New("malformed frame")
)

// LengthError is an ErrTooLong with the value of the length field. A peer that speaks another
// protocol is recognized by its first bytes, which are read as a length field.
type LengthError struct {
	Length    uint32 // value of the length field
	MaxLength int    // largest value that is allowed
}

// Error returns a text with both lengths.
func (e *LengthError) Error() string {
	return fmt.Sprintf("%v: %d bytes announced, %d allowed", ErrTooLong, e.Length, e.MaxLength)
}

// Unwrap returns ErrTooLong.
func (e *LengthError) Unwrap() error { return ErrTooLong }

// MaxRequestLength returns the largest length field of a frame from a client to a hub whose body
// limit is maxBody bytes: that of a SEND to MaxReceivers receivers.
func MaxRequestLength(maxBody int) int { return SendLen(MaxReceivers, maxBody) - LengthSize }

// Size returns the size on the wire of the frame at the start of b, in bytes, length field
// included. It returns 0 if b ends within the length field, and an error that wraps ErrTooLong if
// the length field is above maxLength.
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

// Split returns the type and the payload of a whole frame, whose end Size has found. The
// payload is a view of frame. The empty frame (length 0) has type 0 and no payload.
func Split(frame []byte) (Type, []byte) {
	if len(frame) < HeaderSize {
		return 0, nil
	}
	return Type(frame[LengthSize]), frame[HeaderSize:]
}

// Frames yields the consecutive whole frames at the start of b, which must begin with a frame.
// The sequence ends before a partial frame, and before a frame that is longer than
// MaxBodyLimit allows.
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

// appendHeader appends the length and the type of a frame with a payload of n bytes.
func appendHeader(b []byte, t Type, n int) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(1+n))
	return append(b, byte(t))
}
