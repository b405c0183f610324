package wire

import (
	"encoding/binary"
	"fmt"
)

// Sizes of frames of one number on the wire, in bytes.
const (
	PingLen = HeaderSize + 8
	AckLen  = HeaderSize + 8
	ByeLen  = HeaderSize
)

// AppendPing appends a PING, to be answered by a PONG with the same number.
func AppendPing(b []byte, opaque uint64) []byte { return appendUint64(b, TypePing, opaque) }

// AppendPong appends the answer to a PING.
func AppendPong(b []byte, opaque uint64) []byte { return appendUint64(b, TypePong, opaque) }

// AppendAck appends a TAKEN. From a client, upTo is how many counted frames it
// has had in all; from the hub, the seq of the last SEND that it took, and with it
// all before.
func AppendAck(b []byte, upTo uint64) []byte { return appendUint64(b, TypeAck, upTo) }

// AppendBye appends a BYE: the client leaves for good.
func AppendBye(b []byte) []byte { return appendHeader(b, TypeBye, 0) }

// ParseUint64 reads the payload of a PING, PONG or TAKEN. It returns an error that
// wraps ErrMalformed unless there are exactly 8 bytes.
func ParseUint64(payload []byte) (uint64, error) {
	if len(payload) != 8 {
		return 0, fmt.Errorf("%w: number of %d bytes, want 8", ErrMalformed, len(payload))
	}
	return binary.BigEndian.Uint64(payload), nil
}

func appendUint64(b []byte, t Type, n uint64) []byte {
	return binary.BigEndian.AppendUint64(appendHeader(b, t, 8), n)
}

// ErrorCode says what was wrong with a request.
type ErrorCode uint16

// The codes of ERROR. They are append-only.
const (
	ErrorSeq      ErrorCode = 1 // seq is not larger than that of the last SEND
	ErrorBody     ErrorCode = 2 // body above Welcome.MaxBody
	ErrorRefused  ErrorCode = 3 // the client may not do this
	ErrorFrame    ErrorCode = 4 // a frame that only the hub sends
	ErrorWatchers ErrorCode = 5 // as many clients watch as may: this one does not
)

// ErrorCodes returns all that are used, in ascending order.
func ErrorCodes() []ErrorCode {
	return []ErrorCode{ErrorSeq, ErrorBody, ErrorRefused, ErrorFrame, ErrorWatchers}
}

// String returns the code in words, by which it is counted and logged.
func (c ErrorCode) String() string {
	switch c {
	case ErrorSeq:
		return "seq not above the last"
	case ErrorBody:
		return "body too large"
	case ErrorRefused:
		return "refused"
	case ErrorFrame:
		return "frame that only the hub sends"
	case ErrorWatchers:
		return "too many watchers"
	}
	return fmt.Sprintf("error %d", uint16(c))
}

// Error says that one request failed; the connection lives. Text is for people,
// and a view of the payload that it was parsed from.
type Error struct {
	Seq  uint64 // of the SEND; 0: it was none
	Code ErrorCode
	Text []byte
}

const errorFixed = HeaderSize + 8 + 2

// ErrorLen returns the size of an ERROR on the wire, in bytes.
func ErrorLen(text string) int { return errorFixed + len(text) }

// AppendError appends an ERROR.
func AppendError(b []byte, seq uint64, code ErrorCode, text string) []byte {
	b = appendHeader(b, TypeError, ErrorLen(text)-HeaderSize)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	return append(b, text...)
}

// ParseError reads the payload of an ERROR. It returns an error that wraps
// ErrMalformed when that is too short.
func ParseError(payload []byte) (e Error, err error) {
	const fixed = errorFixed - HeaderSize
	if len(payload) < fixed {
		return e, fmt.Errorf("%w: ERROR of %d bytes, at least %d needed", ErrMalformed, len(payload), fixed)
	}
	return Error{
		Seq:  binary.BigEndian.Uint64(payload),
		Code: ErrorCode(binary.BigEndian.Uint16(payload[8:])),
		Text: payload[fixed:],
	}, nil
}
