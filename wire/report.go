package wire

import (
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
)

// Fate is the state of a message for one of its receivers.
//
// FateUncertain says that the message was written, and that before it reached the level of its
// SEND either the session of the receiver ended, or the connection was lost and the TTL ended.
type Fate uint8

// Fates. Fates below 16 say how far the message has come. Fates from 16 on are final: they say
// why the message comes no further. Numbers are append-only.
const (
	FatePending   Fate = 0  // blocked on a full queue of the receiver when the report timeout ended
	FateQueued    Fate = 1  // in the queue of the receiver when the report timeout ended
	FateWritten   Fate = 2  // written to the socket of the receiver
	FateReceived  Fate = 3  // acknowledged: handed to the application of the receiver
	FateProcessed Fate = 4  // processed, by the verdict of the application
	FateUnknown   Fate = 16 // no client has this id
	FateGone      Fate = 17 // the session of the receiver ended before the message was written
	FateUncertain Fate = 18 // written, and the level cannot be reached any more: see Fate
	FateFull      Fate = 19 // not queued, or dropped from the queue, by the overflow policy
	FateExpired   Fate = 20 // the TTL ended before the message was written
	FateRefused   Fate = 21 // the permissions of the sender do not include the receiver
	FateRejected  Fate = 22 // rejected, by the verdict of the application
	FateStored    Fate = 23 // in the mailbox of the receiver; not used yet

	// FateUnreachable: given up, because connection after connection was lost during its write, or
	// not sent, because the hub of the receiver cannot be reached.
	FateUnreachable Fate = 24

	FateTooLarge Fate = 25 // the body is larger than the receiver accepts
)

var fateNames = map[Fate]string{
	FatePending: "pending", FateQueued: "queued", FateWritten: "written", FateReceived: "received",
	FateProcessed: "processed", FateUnknown: "unknown", FateGone: "gone", FateUncertain: "uncertain",
	FateFull: "full", FateExpired: "expired", FateRefused: "refused", FateRejected: "rejected", FateStored: "stored",
	FateUnreachable: "unreachable", FateTooLarge: "too large",
}

// String returns the name of the fate in logs and metrics.
func (f Fate) String() string {
	if name, ok := fateNames[f]; ok {
		return name
	}
	return "fate " + strconv.Itoa(int(f))
}

// MaxFate is the largest fate.
const MaxFate = FateTooLarge

// Fates returns all fates in ascending order.
func Fates() []Fate { return slices.Sorted(maps.Keys(fateNames)) }

// Reaches reports whether a message with fate f has reached level.
func (f Fate) Reaches(level Level) bool { return f <= FateProcessed && f > Fate(level) }

// Report tells the sender of a message the fate of the message for each receiver. Fates is a
// view of the payload that the Report was parsed from.
type Report struct {
	Seq   uint64
	Fates []byte // one Fate for each receiver, in the order of the SEND
}

const reportFixed = HeaderSize + 8 + 1

// ReportLen returns the size of a REPORT on the wire, in bytes.
func ReportLen(receivers int) int { return reportFixed + receivers }

// AppendReportHeader appends the part of a REPORT before its fates.
func AppendReportHeader(b []byte, seq uint64, receivers int) []byte {
	b = appendHeader(b, TypeReport, ReportLen(receivers)-HeaderSize)
	b = binary.BigEndian.AppendUint64(b, seq)
	return append(b, byte(receivers))
}

// AppendReport appends a REPORT. len(fates) must not be above MaxReceivers.
func AppendReport(b []byte, seq uint64, fates []byte) []byte {
	return append(AppendReportHeader(b, seq, len(fates)), fates...)
}

// ParseReport reads the payload of a REPORT. It returns an error that wraps ErrMalformed
// unless the length of the payload matches its count.
func ParseReport(payload []byte) (r Report, err error) {
	const fixed = reportFixed - HeaderSize
	if len(payload) < fixed || len(payload) != fixed+int(payload[8]) {
		return r, fmt.Errorf("%w: REPORT of %d bytes", ErrMalformed, len(payload))
	}
	return Report{Seq: binary.BigEndian.Uint64(payload), Fates: payload[fixed:]}, nil
}

// Verdict is what the application of a receiver says of one message: FateProcessed or
// FateRejected.
type Verdict struct {
	Sender uint64
	Seq    uint64
	Fate   Fate
}

const verdictSize = 8 + 8 + 1

// VerdictsLen returns the size of a VERDICT frame with n entries on the wire, in bytes.
func VerdictsLen(n int) int { return HeaderSize + n*verdictSize }

// AppendVerdicts appends a VERDICT frame with one entry for each verdict.
func AppendVerdicts(b []byte, verdicts []Verdict) []byte {
	b = appendHeader(b, TypeVerdict, len(verdicts)*verdictSize)
	for _, v := range verdicts {
		b = binary.BigEndian.AppendUint64(b, v.Sender)
		b = binary.BigEndian.AppendUint64(b, v.Seq)
		b = append(b, byte(v.Fate))
	}
	return b
}

// ParseVerdicts reads the payload of a VERDICT frame. The sequence that it returns reads the
// payload. ParseVerdicts returns an error that wraps ErrMalformed if the payload ends within
// an entry, or if the fate of an entry is neither FateProcessed nor FateRejected.
func ParseVerdicts(payload []byte) (iter.Seq[Verdict], error) {
	if len(payload)%verdictSize != 0 {
		return nil, fmt.Errorf("%w: VERDICT of %d bytes, not a multiple of %d", ErrMalformed, len(payload), verdictSize)
	}
	for offset := verdictSize - 1; offset < len(payload); offset += verdictSize {
		if f := Fate(payload[offset]); f != FateProcessed && f != FateRejected {
			return nil, fmt.Errorf("%w: VERDICT with fate %d", ErrMalformed, uint8(f))
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
