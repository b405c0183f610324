package wire

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Sizes of the fixed parts of SEND and DELIVER, in bytes. The part of a SEND before its body
// is at least as long as that of a DELIVER, even with one receiver, because the options have
// four bytes. The hub therefore writes the header of the DELIVER over that of the SEND and
// does not copy the body. The constant _ does not compile if the room is too small.
const (
	sendFixed    = HeaderSize + 8 + 4 + 4 + 1
	deliverFixed = HeaderSize + 8 + 8 + 8 + 1
	_            = uint(sendFixed + IDSize - deliverFixed)
)

// Level is the state that a message must reach for each of its receivers before the hub sends the
// report to the sender.
type Level uint8

// Levels.
const (
	LevelNone      Level = 0 // no report
	LevelWritten   Level = 1 // written to the receiver's socket
	LevelReceived  Level = 2 // acknowledged by ACK: handed to the receiver's application
	LevelProcessed Level = 3 // processed by the application, by VERDICT
)

// Overflow is the overflow policy of a message: what the hub does if a receiver's queue is full.
type Overflow uint8

// Overflow policies.
const (
	OverflowBlock  Overflow = 0 // the message is blocked until the queue has room
	OverflowReject Overflow = 1 // the message is not sent to that receiver

	// OverflowDropOldest makes the queue drop the oldest message of the same sender that was sent
	// with OverflowDropOldest. If the queue is full even then, the message is not sent.
	OverflowDropOldest Overflow = 2
)

// Options are the options of a SEND. Bits without a meaning must be 0.
//
//	bits  0–1 level · 2–3 overflow policy · 12–31 report timeout, in units of 100 ms
type Options uint32

const (
	levelMask             = 0b11
	overflowShift         = 2
	overflowMask          = 0b11
	reportTimeoutShift    = 12
	maxReportTimeoutUnits = 1<<(32-reportTimeoutShift) - 1
	knownOptions          = Options(levelMask | overflowMask<<overflowShift | maxReportTimeoutUnits<<reportTimeoutShift)

	reportTimeoutUnit = 100 * time.Millisecond
)

// MaxReportTimeout is the maximum report timeout that a SEND can name: 29 hours.
const MaxReportTimeout = maxReportTimeoutUnits * reportTimeoutUnit

// MakeOptions returns options without a report timeout.
func MakeOptions(level Level, overflow Overflow) Options {
	return Options(level) | Options(overflow)<<overflowShift
}

// Level returns the level at which the hub sends the report.
func (o Options) Level() Level { return Level(o & levelMask) }

// Overflow returns the overflow policy.
func (o Options) Overflow() Overflow { return Overflow(o >> overflowShift & overflowMask) }

// ReportTimeout returns the maximum time until the report; 0: the default of the hub.
func (o Options) ReportTimeout() time.Duration {
	return time.Duration(o>>reportTimeoutShift) * reportTimeoutUnit
}

// WithReportTimeout returns a copy of o with the report timeout d, rounded up to 100 ms and
// limited to MaxReportTimeout. If d is 0 or negative, the default of the hub applies.
func (o Options) WithReportTimeout(d time.Duration) Options {
	d = min(max(d, 0), MaxReportTimeout)
	units := (d + reportTimeoutUnit - 1) / reportTimeoutUnit
	return o&(1<<reportTimeoutShift-1) | Options(units)<<reportTimeoutShift
}

// PutSendOptions overwrites the options of a SEND.
func PutSendOptions(frame []byte, o Options) {
	binary.BigEndian.PutUint32(frame[HeaderSize+8:], uint32(o))
}

// Send is a request of a version 2 client to deliver Body to the clients in To. To and Body
// are views of the payload that the Send was parsed from.
type Send struct {
	Seq     uint64 // number of the message, chosen by the client; above that of the SEND before
	Options Options
	TTL     uint32 // time to live, in milliseconds; 0: unlimited
	To      IDs
	Body    []byte
}

// SendLen returns the size of a SEND with a body of body bytes on the wire, in bytes.
func SendLen(receivers, body int) int { return sendFixed + receivers*IDSize + body }

// DefaultReceiverCost is the cost of a receiver, in bytes, if Welcome.ReceiverCost is 0. It is
// also the maximum of that field. A client that does not know the field therefore never counts
// too little.
const DefaultReceiverCost = 64

// SendCost returns what a SEND costs of Welcome.Credit until the hub acknowledges it, in
// bytes: the size of the frame, and for each receiver the cost of its entry in a queue of the
// hub.
func SendCost(receivers, body, receiverCost int) int {
	return SendLen(receivers, body) + receivers*receiverCost
}

// AppendSend appends a SEND. ttl is in milliseconds. len(to) must not be above MaxReceivers.
func AppendSend(b []byte, seq uint64, options Options, ttl uint32, to []uint64, body []byte) []byte {
	b = appendHeader(b, TypeSend, SendLen(len(to), len(body))-HeaderSize)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint32(b, uint32(options))
	b = binary.BigEndian.AppendUint32(b, ttl)
	b = append(b, byte(len(to)))
	return append(AppendIDs(b, to), body...)
}

// PutSendTTL overwrites the time to live of a SEND, in milliseconds.
func PutSendTTL(frame []byte, ttl uint32) { binary.BigEndian.PutUint32(frame[HeaderSize+8+4:], ttl) }

// ParseSend reads the payload of a SEND. It returns an error that wraps ErrMalformed if the
// payload has fewer ids than its count announces, or options without a meaning.
func ParseSend(payload []byte) (s Send, err error) {
	const fixed = sendFixed - HeaderSize
	if len(payload) < fixed {
		return s, fmt.Errorf("%w: SEND of %d bytes, at least %d needed", ErrMalformed, len(payload), fixed)
	}
	count := int(payload[fixed-1])
	end := fixed + count*IDSize
	if len(payload) < end {
		return s, fmt.Errorf("%w: SEND of %d bytes announces %d receivers", ErrMalformed, len(payload), count)
	}
	s = Send{
		Seq:     binary.BigEndian.Uint64(payload),
		Options: Options(binary.BigEndian.Uint32(payload[8:])),
		TTL:     binary.BigEndian.Uint32(payload[12:]),
		To:      IDs(payload[fixed:end:end]),
		Body:    payload[end:],
	}
	if s.Options&^knownOptions != 0 || s.Options.Overflow() > OverflowDropOldest {
		return s, fmt.Errorf("%w: SEND with options %#x", ErrMalformed, uint32(s.Options))
	}
	return s, nil
}

// DeliverFlags say what the hub asks of the receiver of a DELIVER.
type DeliverFlags uint8

// Flags of DELIVER.
const (
	DeliverWantAck     DeliverFlags = 1 << 0 // a report waits for the ACK: send it soon
	DeliverWantVerdict DeliverFlags = 1 << 1 // a report waits for a VERDICT
)

// Deliver is a message as the hub sends it to a version 2 client. Body is a view of the
// payload that the Deliver was parsed from.
type Deliver struct {
	Sender uint64
	Seq    uint64 // of the SEND; 0: the message is a RELAY
	Time   uint64 // when the hub read the message, in microseconds since 1970
	Flags  DeliverFlags
	Body   []byte
}

// DeliverLen returns the size of a DELIVER with a body of body bytes on the wire, in bytes.
func DeliverLen(body int) int { return deliverFixed + body }

// DeliverHeaderLen is the size of the part of a DELIVER before its body, in bytes.
const DeliverHeaderLen = deliverFixed

// AppendDeliver appends a DELIVER.
func AppendDeliver(b []byte, d *Deliver) []byte {
	return append(appendDeliverHeader(b, d, len(d.Body)), d.Body...)
}

// PutDeliverHeader writes the part of a DELIVER before its body into the first
// DeliverHeaderLen bytes of b, in front of a body of bodyLen bytes that is already in place.
// It ignores d.Body.
func PutDeliverHeader(b []byte, d *Deliver, bodyLen int) {
	appendDeliverHeader(b[:0], d, bodyLen)
}

func appendDeliverHeader(b []byte, d *Deliver, bodyLen int) []byte {
	b = appendHeader(b, TypeDeliver, deliverFixed-HeaderSize+bodyLen)
	b = binary.BigEndian.AppendUint64(b, d.Sender)
	b = binary.BigEndian.AppendUint64(b, d.Seq)
	b = binary.BigEndian.AppendUint64(b, d.Time)
	return append(b, byte(d.Flags))
}

// ParseDeliver reads the payload of a DELIVER. It returns an error that wraps ErrMalformed if the
// payload is too short.
func ParseDeliver(payload []byte) (d Deliver, err error) {
	err = d.Parse(payload)
	return d, err
}

// Parse is ParseDeliver into d. It saves the copy of a Deliver, which counts for a reader of
// millions of messages a second. On error Parse does not change d.
func (d *Deliver) Parse(payload []byte) error {
	const fixed = deliverFixed - HeaderSize
	if len(payload) < fixed {
		return fmt.Errorf("%w: DELIVER of %d bytes, at least %d needed", ErrMalformed, len(payload), fixed)
	}
	d.Sender = binary.BigEndian.Uint64(payload)
	d.Seq = binary.BigEndian.Uint64(payload[8:])
	d.Time = binary.BigEndian.Uint64(payload[16:])
	d.Flags = DeliverFlags(payload[24])
	d.Body = payload[fixed:]
	return nil
}
