package socket

import (
	"encoding/binary"
	"fmt"
	"math"
)

// opCode is the opcode of a WebSocket frame (RFC 6455, section 5.2).
type opCode byte

const (
	opContinuation opCode = 0x0
	opText         opCode = 0x1
	opBinary       opCode = 0x2
	opClose        opCode = 0x8
	opPing         opCode = 0x9
	opPong         opCode = 0xa
)

func (op opCode) isControl() bool  { return op&0x8 != 0 }
func (op opCode) isReserved() bool { return op&0x7 > opBinary }

// Bits of the first two bytes of a WebSocket frame.
const (
	finBit    = 0x80 // of the first byte
	rsvBits   = 0x70 // of the first byte
	maskBit   = 0x80 // of the second byte
	lengthBit = 0x7f // of the second byte: the length, or one of the following values
	length16  = 126  // two bytes with the length follow
	length64  = 127  // eight bytes with the length follow
)

// maxWSHeader is the maximum size of the header of a frame: two bytes, the length, the mask.
const maxWSHeader = 2 + 8 + 4

// maxControlPayload is the maximum payload of a control frame (RFC 6455, section 5.5).
const maxControlPayload = 125

// appendWSHeader appends the header of a frame that is not masked and is the last of its message.
func appendWSHeader(b []byte, op opCode, length int) []byte {
	b = append(b, finBit|byte(op))
	switch {
	case length < length16:
		return append(b, byte(length))
	case length <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, length16), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(b, length64), uint64(length))
}

// CloseStatus is the status of a WebSocket close frame (RFC 6455, section 7.4).
type CloseStatus uint16

// The statuses that a hub sends.
const (
	StatusNormal          CloseStatus = 1000
	StatusGoingAway       CloseStatus = 1001 // the hub shuts down
	StatusProtocolError   CloseStatus = 1002 // a rule of RFC 6455 is broken
	StatusUnsupportedData CloseStatus = 1003 // text message
	StatusInvalidPayload  CloseStatus = 1007 // text that is not UTF-8
	StatusPolicyViolation CloseStatus = 1008
	StatusTooLong         CloseStatus = 1009
	StatusTryAgainLater   CloseStatus = 1013

	// statusNone stands for a close frame without a status. It is never on the wire.
	statusNone CloseStatus = 1005
)

// isValid reports whether a close frame can have the status: one of RFC 6455, one that IANA has
// registered since, or one of a library or an application.
func (s CloseStatus) isValid() bool {
	switch {
	case s < 1000, s == 1004, s == 1005, s == 1006, s > 1014 && s < 3000, s >= 5000:
		return false
	}
	return true
}

// appendCloseFrame appends a close frame.
func appendCloseFrame(b []byte, status CloseStatus) []byte {
	if status == statusNone {
		return append(b, finBit|byte(opClose), 0)
	}
	return binary.BigEndian.AppendUint16(append(b, finBit|byte(opClose), 2), uint16(status))
}

// WebSocketError means that a client has broken the rules of RFC 6455, or has sent what a hub does
// not accept. Conn.Close sends its status.
type WebSocketError struct {
	Status CloseStatus
	reason string
}

// Error implements error.
func (e *WebSocketError) Error() string {
	return fmt.Sprintf("WebSocket: %s (close status %d)", e.reason, e.Status)
}
