package wire

import (
	"encoding/binary"
	"fmt"
)

// Sizes of PING, ACK and BYE on the wire, in bytes. A PONG is as long as its PING.
const (
	PingLen = HeaderSize + 8
	AckLen  = HeaderSize + 8
	ByeLen  = HeaderSize
)

// AppendPing appends a PING. Its receiver must answer by a PONG with the same number.
func AppendPing(b []byte, opaque uint64) []byte { return appendUint64(b, TypePing, opaque) }

// AppendPong appends a PONG, the answer to the PING with the same number.
func AppendPong(b []byte, opaque uint64) []byte { return appendUint64(b, TypePong, opaque) }

// AppendAck appends an ACK, a cumulative acknowledgement. In an ACK from a client, upTo is the
// number of reliable frames that its application has received since the session began. In an
// ACK from the hub, upTo is the seq up to which all SENDs are in the queues of their
// receivers.
func AppendAck(b []byte, upTo uint64) []byte { return appendUint64(b, TypeAck, upTo) }

// AppendBye appends a BYE, by which a client ends its session.
func AppendBye(b []byte) []byte { return appendHeader(b, TypeBye, 0) }

// ParseUint64 reads the payload of a PING, PONG or ACK. It returns an error that wraps
// ErrMalformed unless the payload has exactly 8 bytes.
func ParseUint64(payload []byte) (uint64, error) {
	if len(payload) != 8 {
		return 0, fmt.Errorf("%w: number of %d bytes, want 8", ErrMalformed, len(payload))
	}
	return binary.BigEndian.Uint64(payload), nil
}

func appendUint64(b []byte, t Type, n uint64) []byte {
	return binary.BigEndian.AppendUint64(appendHeader(b, t, 8), n)
}

// ErrorCode is the reason why a request failed.
type ErrorCode uint16

// Codes of ERROR. Numbers are append-only.
const (
	ErrorSeq      ErrorCode = 1 // the seq of a SEND is not above that of the SEND before
	ErrorBody     ErrorCode = 2 // the body of a SEND is larger than Welcome.MaxBody
	ErrorRefused  ErrorCode = 3 // the permissions of the client do not allow the request
	ErrorFrame    ErrorCode = 4 // the client sent a frame that only the hub sends, or a second HELLO
	ErrorWatchers ErrorCode = 5 // the hub has its maximum number of presence watchers

	// Answers to RENEW. The old token and its permissions stay.
	ErrorTokenRefused ErrorCode = 6 // the new token is not valid for this connection
	ErrorTokenExpired ErrorCode = 7 // the new token has expired
	ErrorRenewLater   ErrorCode = 8 // the hub does not renew now; the same token can be valid
)

// ErrorCodes returns all codes in ascending order.
func ErrorCodes() []ErrorCode {
	return []ErrorCode{
		ErrorSeq, ErrorBody, ErrorRefused, ErrorFrame, ErrorWatchers, ErrorTokenRefused, ErrorTokenExpired, ErrorRenewLater,
	}
}

// String returns the text of the code in metrics and logs.
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
	case ErrorTokenRefused:
		return "token refused"
	case ErrorTokenExpired:
		return "token expired"
	case ErrorRenewLater:
		return "renewal not now"
	}
	return fmt.Sprintf("error %d", uint16(c))
}

// Error says that a request failed. The connection stays open. Text is meant for people. It is
// a view of the payload that the Error was parsed from.
type Error struct {
	Seq  uint64 // of the SEND that failed; 0: the request was not a SEND
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

// ParseError reads the payload of an ERROR. It returns an error that wraps ErrMalformed if the
// payload is too short.
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
