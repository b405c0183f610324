package wire

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Sizes of the fixed parts of SEND and DELIVER, in bytes. A SEND to one receiver
// has just the room for the head of a DELIVER before its body, so that a hub can
// write it there: therefore options has four bytes.
const (
	sendFixed    = HeaderSize + 8 + 4 + 4 + 1
	deliverFixed = HeaderSize + 8 + 8 + 8 + 1
	_            = uint(sendFixed + IDSize - deliverFixed)
)

// Level is how far a message must have come for each of its receivers before the
// sender gets its report.
type Level uint8

// The levels.
const (
	LevelNone      Level = 0 // no report
	LevelWritten   Level = 1 // written to the receiver's socket
	LevelReceived  Level = 2 // handed to the receiver's application by its library
	LevelProcessed Level = 3 // the application has said so
)

// Overflow is what happens when a receiver's queue is full.
type Overflow uint8

// The ways to meet a full queue.
const (
	OverflowBlock      Overflow = 0 // the message waits for room
	OverflowReject     Overflow = 1 // that receiver does not get it
	OverflowDropOldest Overflow = 2 // the sender's oldest messages that came this way and still wait there give way
)

// Options are the options of a SEND. Bits that have no meaning must be 0.
//
//	bits  0–1 level · 2–3 overload · 12–31 report timeout, in units of 100 ms
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

// MaxReportTimeout is the longest report timeout that a SEND can name: 29 hours.
const MaxReportTimeout = maxReportTimeoutUnits * reportTimeoutUnit

// MakeOptions puts options together.
func MakeOptions(level Level, overflow Overflow) Options {
	return Options(level) | Options(overflow)<<overflowShift
}

// Level returns the level that the report waits for.
func (o Options) Level() Level { return Level(o & levelMask) }

// Overflow returns what happens when a queue is full.
func (o Options) Overflow() Overflow { return Overflow(o >> overflowShift & overflowMask) }

// ReportTimeout returns how long the report may wait; 0: as long as the hub is set to.
func (o Options) ReportTimeout() time.Duration {
	return time.Duration(o>>reportTimeoutShift) * reportTimeoutUnit
}

// WithReportTimeout returns the options with another report timeout: that of d, rounded up to 100
// ms and at most MaxReportTimeout. 0, and less, is as long as the hub is set to.
func (o Options) WithReportTimeout(d time.Duration) Options {
	d = min(max(d, 0), MaxReportTimeout)
	units := (d + reportTimeoutUnit - 1) / reportTimeoutUnit
	return o&(1<<reportTimeoutShift-1) | Options(units)<<reportTimeoutShift
}

// PutSendOptions changes the options of a whole SEND.
func PutSendOptions(frame []byte, o Options) {
	binary.BigEndian.PutUint32(frame[HeaderSize+8:], uint32(o))
}

// Send is a request to hand one body to the clients in To. To and Body are views
// of the payload that it was parsed from.
type Send struct {
	Seq     uint64 // the client's number for it, larger than that of the last one
	Options Options
	TTL     uint32 // milliseconds after which it is worth nothing; 0: none
	To      IDs
	Body    []byte
}

// SendLen returns the size of a SEND on the wire, in bytes.
func SendLen(receivers, body int) int { return sendFixed + receivers*IDSize + body }

// DefaultReceiverCost is Welcome.ReceiverCost of a hub that does not say it. It is also the largest
// that a hub may say: a client that does not know the field never counts too little.
const DefaultReceiverCost = 64

// SendCost returns what a SEND counts against Welcome.Credit until it is taken, in
// bytes: its size, and what it costs the hub to have it wait for each receiver.
func SendCost(receivers, body, receiverCost int) int {
	return SendLen(receivers, body) + receivers*receiverCost
}

// AppendSend appends a whole SEND. to must not name more than MaxReceivers.
func AppendSend(b []byte, seq uint64, options Options, ttl uint32, to []uint64, body []byte) []byte {
	b = appendHeader(b, TypeSend, SendLen(len(to), len(body))-HeaderSize)
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint32(b, uint32(options))
	b = binary.BigEndian.AppendUint32(b, ttl)
	b = append(b, byte(len(to)))
	return append(appendIDs(b, to), body...)
}

// PutSendTTL changes the time to live of a whole SEND, in milliseconds.
func PutSendTTL(frame []byte, ttl uint32) { binary.BigEndian.PutUint32(frame[HeaderSize+8+4:], ttl) }

// ParseSend reads the payload of a SEND. It returns an error that wraps
// ErrMalformed when the payload ends before the ids that its count announces, or
// has options that mean nothing.
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

// DeliverFlags say what the hub asks of the receiver of a DELIVER, and tells it.
type DeliverFlags uint8

// The flags.
const (
	DeliverWantAck     DeliverFlags = 1 << 0 // somebody waits to hear that it was received: say so soon
	DeliverWantVerdict DeliverFlags = 1 << 1 // somebody waits to hear that it was processed: say so by ACK
)

// Deliver is what each receiver of a message gets. Body is a view of the payload
// that it was parsed from.
type Deliver struct {
	Sender uint64
	Seq    uint64 // the sender's; 0: it speaks version 1 and has none
	Time   uint64 // when the hub took it, in microseconds since 1970
	Flags  DeliverFlags
	Body   []byte
}

// DeliverLen returns the size of a DELIVER on the wire, in bytes.
func DeliverLen(body int) int { return deliverFixed + body }

// DeliverHeaderLen is the size of everything of a DELIVER that stands before its body.
const DeliverHeaderLen = deliverFixed

// AppendDeliver appends a whole DELIVER.
func AppendDeliver(b []byte, d *Deliver) []byte {
	return append(appendDeliverHeader(b, d, len(d.Body)), d.Body...)
}

// PutDeliverHeader writes everything of a DELIVER but its body of bodyLen bytes
// into the first DeliverHeaderLen bytes of b, for a body that already stands behind.
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

// ParseDeliver reads the payload of a DELIVER. It returns an error that wraps
// ErrMalformed when that is too short.
func ParseDeliver(payload []byte) (d Deliver, err error) {
	err = d.Parse(payload)
	return d, err
}

// Parse is ParseDeliver into d, for those who read millions a second: nothing is copied. It
// leaves d as it is when there is an error.
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
