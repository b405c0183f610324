package hub

import (
	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// reportBufSize is the size of a buffer of REPORTs, in bytes: room for 146 of the smallest.
const reportBufSize = 2 << 10

// reportWindow bounds the SENDs of a client whose REPORT is not written, holds the buffer that
// small REPORTs share, and counts the fates in REPORTs. The zero value is empty. Its methods must
// not be called concurrently.
type reportWindow struct {
	pending int32        // SENDs whose REPORT is not written
	bufUsed int32        // in bytes
	buf     *body.Buffer // where REPORTs are written, while one in it is needed
	fates   *fateCounts  // nil before the first REPORT: most clients request none
}

// fateCounts counts fates by their number.
type fateCounts [wire.MaxFate + 1]uint64

// count adds the fates in REPORTs of the hub.
func (w *reportWindow) count(frames []byte) {
	if w.fates == nil {
		w.fates = new(fateCounts)
	}
	for frame := range wire.Frames(frames) {
		_, payload := wire.Split(frame)
		report, _ := wire.ParseReport(payload) // encoded by this hub
		for _, fate := range report.Fates {
			w.fates[fate]++
		}
	}
}

// reserve takes room for one more REPORT, and returns false if maxReports are pending.
func (w *reportWindow) reserve(maxReports int) bool {
	if int(w.pending) >= maxReports {
		return false
	}
	w.pending++
	return true
}

// onWritten records that n REPORTs were written or lost, or are not needed.
func (w *reportWindow) onWritten(n int) {
	w.pending -= int32(n)
	w.releaseUnusedBuf()
}

// write copies REPORTs into the buffer from which they are sent, and where they are kept until
// the client acknowledges them. Small REPORTs share one buffer. The batch holds a reference to
// its buffer. The memory is overhead and must not count against the quota of the client's own
// messages: it is freed when the client acknowledges it, and that ACK may stand behind a
// message that waits for room in the quota.
func (w *reportWindow) write(account *body.Account, frames []byte) outbox.Batch {
	if len(frames) > reportBufSize {
		buffer := account.ForceAcquireOverhead(len(frames))
		return outbox.Batch{Buffer: buffer, To: copy(buffer.Bytes(), frames)}
	}
	if w.buf == nil || w.buf.Account() != account || len(w.buf.Bytes())-int(w.bufUsed) < len(frames) {
		w.releaseBuf()
		w.buf = account.ForceAcquireOverhead(reportBufSize)
	}
	from := int(w.bufUsed)
	to := from + copy(w.buf.Bytes()[from:], frames)
	w.bufUsed = int32(to)
	w.buf.Retain()
	return outbox.Batch{Buffer: w.buf, From: from, To: to}
}

// releaseBuf releases the buffer although an outbox may still refer to it.
func (w *reportWindow) releaseBuf() {
	if w.buf != nil {
		w.buf.Release()
		w.buf, w.bufUsed = nil, 0
	}
}

// releaseUnusedBuf releases the buffer when no REPORT in it is needed any more.
func (w *reportWindow) releaseUnusedBuf() {
	if w.buf != nil && !w.buf.Shared() {
		w.releaseBuf()
	}
}
