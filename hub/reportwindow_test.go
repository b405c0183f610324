package hub

import (
	"bytes"
	"testing"

	"github.com/sechlol/go-message-hub/internal/body"
)

// TestReportWindow_Reserve_UpToMaxReports takes room for REPORTs, and gives it back.
func TestReportWindow_Reserve_UpToMaxReports(t *testing.T) {
	const maxReports = 3
	var w reportWindow
	for i := range maxReports {
		if !w.reserve(maxReports) {
			t.Fatalf("no room for report %d of %d", i+1, maxReports)
		}
	}
	if w.reserve(maxReports) {
		t.Error("room for more than the maximum")
	}
	w.onWritten(2)
	for i := range 3 {
		if got := w.reserve(maxReports); got != (i < 2) {
			t.Errorf("report %d after two are written has room: %v", i+1, got)
		}
	}
}

// TestReportWindow_Write_SharesBuffer writes small REPORTs until they need a second buffer, and
// one that needs a buffer of its own.
func TestReportWindow_Write_SharesBuffer(t *testing.T) {
	budget := body.NewBudget(1<<20, 0)
	account := budget.NewAccount(1 << 20)
	var w reportWindow
	frames := make([]byte, reportBufSize/2-1)
	first, second := w.write(account, frames), w.write(account, bytes.Repeat([]byte{2}, len(frames)))
	if first.Buffer != second.Buffer || second.From != first.To {
		t.Errorf("the second REPORT is at %d of another buffer or not behind the first, which ends at %d", second.From, first.To)
	}
	if got := second.Buffer.Bytes()[second.From:second.To]; len(got) != len(frames) || got[0] != 2 {
		t.Errorf("the second REPORT reads %d bytes %.8x", len(got), got)
	}
	third := w.write(account, frames)
	if third.Buffer == first.Buffer || third.From != 0 {
		t.Errorf("a REPORT that does not fit is at %d of the same buffer or not at the start", third.From)
	}
	large := w.write(account, make([]byte, reportBufSize+1))
	if large.Buffer == third.Buffer || large.To != reportBufSize+1 {
		t.Errorf("a large REPORT has %d bytes or shares its buffer", large.To)
	}
	for _, b := range []*body.Buffer{first.Buffer, second.Buffer, third.Buffer, large.Buffer} {
		b.Release()
	}
	w.releaseUnusedBuf()
	if held, _ := budget.Used(); held != 0 {
		t.Errorf("%d bytes are held when no REPORT is needed", held)
	}
}

// TestReportWindow_UsedBuffer_IsKept checks that the shared buffer is released only when no
// REPORT in it is needed, and that releaseBuf does not wait for that.
func TestReportWindow_UsedBuffer_IsKept(t *testing.T) {
	account := body.NewBudget(1<<20, 0).NewAccount(1 << 20)
	w := reportWindow{pending: 1}
	batch := w.write(account, make([]byte, 8))
	w.onWritten(1)
	if w.buf == nil {
		t.Fatal("the buffer is released while a REPORT in it is needed")
	}
	w.releaseBuf()
	if w.buf != nil || batch.Buffer.Shared() {
		t.Error("releaseBuf has kept the reference to the buffer")
	}
	batch.Buffer.Release()
}

// TestReportWindow_OtherAccount_GetsOtherBuffer writes REPORTs before and after the client has
// resumed its session on another connection.
func TestReportWindow_OtherAccount_GetsOtherBuffer(t *testing.T) {
	budget := body.NewBudget(1<<20, 0)
	var w reportWindow
	before := w.write(budget.NewAccount(1<<20), make([]byte, 8))
	account := budget.NewAccount(1 << 20)
	after := w.write(account, make([]byte, 8))
	if after.Buffer.Account() != account {
		t.Error("the REPORT is charged to the account of the last connection")
	}
	before.Buffer.Release()
	after.Buffer.Release()
	w.releaseUnusedBuf()
}
