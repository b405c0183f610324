package wire

import (
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
)

// Fate is what became of one message for one receiver.
type Fate uint8

// The fates. Those below 16 say how far the message has come, those from 16 on why
// it came no further. They are append-only.
const (
	FatePending   Fate = 0  // waits for room in the receiver's queue, and the report's time is up
	FateQueued    Fate = 1  // in the receiver's queue
	FateWritten   Fate = 2  // written to the receiver's socket
	FateReceived  Fate = 3  // handed to the receiver's application
	FateProcessed Fate = 4  // the application has processed it
	FateUnknown   Fate = 16 // no such client
	FateGone      Fate = 17 // the receiver left before it was written
	FateUncertain Fate = 18 // the receiver left after it was written, and before it said what was asked
	FateFull      Fate = 19 // the receiver's queue was full
	FateExpired   Fate = 20 // it was worth nothing any more before it was written
	FateRefused   Fate = 21 // a rule forbids it
	FateRejected  Fate = 22 // the application does not want it
	FateStored    Fate = 23 // in the receiver's mailbox

	FateUnreachable Fate = 24 // it did not get through to the receiver, and is not sent again
	FateTooLarge    Fate = 25 // the body is larger than the receiver takes
)

var fateNames = map[Fate]string{
	FatePending: "pending", FateQueued: "queued", FateWritten: "written", FateReceived: "received",
	FateProcessed: "processed", FateUnknown: "unknown", FateGone: "gone", FateUncertain: "uncertain",
	FateFull: "full", FateExpired: "expired", FateRefused: "refused", FateRejected: "rejected", FateStored: "stored",
	FateUnreachable: "unreachable", FateTooLarge: "too large",
}

// String returns the name of a fate, as logs and statistics have it.
func (f Fate) String() string {
	if name, ok := fateNames[f]; ok {
		return name
	}
	return "fate " + strconv.Itoa(int(f))
}

// MaxFate is the largest that there is.
const MaxFate = FateTooLarge

// Fates returns all that there are, in ascending order.
func Fates() []Fate { return slices.Sorted(maps.Keys(fateNames)) }

// Reaches reports whether a message with this fate has come as far as level.
func (f Fate) Reaches(level Level) bool { return f <= FateProcessed && f > Fate(level) }

// Report tells the sender of one message what became of it. Fates is a view of the
// payload that it was parsed from.
type Report struct {
	Seq   uint64
	Fates []byte // one for each receiver, in the order of the SEND
}

const reportFixed = HeaderSize + 8 + 1

// ReportLen returns the size of a REPORT on the wire, in bytes.
func ReportLen(receivers int) int { return reportFixed + receivers }

// AppendReportHeader appends everything of a REPORT but its fates.
func AppendReportHeader(b []byte, seq uint64, receivers int) []byte {
	b = appendHeader(b, TypeReport, ReportLen(receivers)-HeaderSize)
	b = binary.BigEndian.AppendUint64(b, seq)
	return append(b, byte(receivers))
}

// AppendReport appends a whole REPORT with at most MaxReceivers fates.
func AppendReport(b []byte, seq uint64, fates []byte) []byte {
	return append(AppendReportHeader(b, seq, len(fates)), fates...)
}

// ParseReport reads the payload of a REPORT. It returns an error that wraps
// ErrMalformed when its length does not fit its count.
func ParseReport(payload []byte) (r Report, err error) {
	const fixed = reportFixed - HeaderSize
	if len(payload) < fixed || len(payload) != fixed+int(payload[8]) {
		return r, fmt.Errorf("%w: REPORT of %d bytes", ErrMalformed, len(payload))
	}
	return Report{Seq: binary.BigEndian.Uint64(payload), Fates: payload[fixed:]}, nil
}

// Verdict is what the receiver's application made of one message: FateProcessed or
// FateRejected.
type Verdict struct {
	Sender uint64
	Seq    uint64
	Fate   Fate
}

const verdictSize = 8 + 8 + 1

// VerdictsLen returns the size of an ACK for n messages on the wire, in bytes.
func VerdictsLen(n int) int { return HeaderSize + n*verdictSize }

// AppendVerdicts appends an ACK.
func AppendVerdicts(b []byte, verdicts []Verdict) []byte {
	b = appendHeader(b, TypeVerdict, len(verdicts)*verdictSize)
	for _, v := range verdicts {
		b = binary.BigEndian.AppendUint64(b, v.Sender)
		b = binary.BigEndian.AppendUint64(b, v.Seq)
		b = append(b, byte(v.Fate))
	}
	return b
}

// ParseVerdicts reads the payload of an ACK. It returns an error that wraps
// ErrMalformed when its length is not that of whole entries, or when an entry
// carries any other fate.
func ParseVerdicts(payload []byte) (iter.Seq[Verdict], error) {
	if len(payload)%verdictSize != 0 {
		return nil, fmt.Errorf("%w: ACK of %d bytes, not a multiple of %d", ErrMalformed, len(payload), verdictSize)
	}
	for offset := verdictSize - 1; offset < len(payload); offset += verdictSize {
		if f := Fate(payload[offset]); f != FateProcessed && f != FateRejected {
			return nil, fmt.Errorf("%w: ACK with fate %d", ErrMalformed, uint8(f))
		}
	}
	return func(yield func(Verdict) bool) {
		for ; len(payload) > 0; payload = payload[verdictSize:] {
			v := Verdict{binary.BigEndian.Uint64(payload), binary.BigEndian.Uint64(payload[8:]), Fate(payload[16])}
			if !yield(v) {
				return
			}
		}
	}, nil
}
