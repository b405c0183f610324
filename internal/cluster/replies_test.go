package cluster

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

func newTestReplies(s *fakeStream) *replies {
	return &replies{stream: s, account: body.NewBudget(1, 0).NewAccount(1)}
}

// TestReplies_Ranges says numbers in any order.
func TestReplies_Ranges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		r := newTestReplies(s)
		for _, number := range []uint64{5, 6, 7, 3, 4, 9, 8} {
			r.addQueued(number, nil)
		}
		pass(gatherDelay)
		var got []byte
		for _, record := range s.take(t) {
			got = append(got, record.head[7], record.head[15])
		}
		if want := []byte{5, 7, 3, 4, 9, 9, 8, 8}; !bytes.Equal(got, want) {
			t.Errorf("ranges %v, want %v", got, want)
		}
	})
}

// TestReplies_Gather gathers replies for gatherDelay, and sends many at once.
func TestReplies_Gather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		r := newTestReplies(s)
		report := wire.AppendReport(nil, 1, []byte{2})
		r.addFates(1, report)
		r.addPartQueued(2, 0, []byte{1})
		if s.isFlushed() {
			t.Error("sent at once")
		}
		pass(gatherDelay)
		if records := s.take(t); len(records) != 2 || !bytes.Equal(records[0].body, report) {
			t.Errorf("%+v", records)
		}
		for range maxGathered {
			r.addFates(1, report)
			if s.isFlushed() {
				break
			}
		}
		if !s.isFlushed() {
			t.Error("not sent at once")
		}
		pass(gatherDelay)
	})
}

// TestReplies_ManyReports are in records that the other hub accepts.
func TestReplies_ManyReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		r := newTestReplies(s)
		var reports []byte
		for seq := range uint64(1000) {
			reports = wire.AppendReport(reports, seq, make([]byte, 255))
		}
		r.addFates(1, bytes.Clone(reports))
		pass(gatherDelay)
		var got []byte
		for _, record := range s.take(t) {
			if len(record.body) > maxControlBody {
				t.Errorf("record of %d bytes", len(record.body))
			}
			got = append(got, record.body...)
		}
		if !bytes.Equal(got, reports) {
			t.Errorf("%d bytes of reports, want %d", len(got), len(reports))
		}
	})
}

// TestReplies_Close appends nothing afterwards.
func TestReplies_Close(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeStream()
		r := newTestReplies(s)
		r.addQueued(1, nil)
		r.close()
		r.addQueued(2, nil)
		r.addQueued(3, body.NewBudget(1, 0).NewAccount(1))
		r.addFates(1, wire.AppendReport(nil, 1, []byte{2}))
		r.addPartQueued(1, 0, []byte{0})
		r.flushNow()
		pass(time.Minute)
		if records := s.take(t); len(records) != 0 {
			t.Errorf("%+v are appended", records)
		}
	})
}

// TestPartQueued_Race unblocks receivers while the batch is still offered to others. Whatever the
// order, all are said to be queued at last.
func TestPartQueued_Race(t *testing.T) {
	for range 100 {
		s := newFakeStream()
		r := newTestReplies(s)
		p := &partQueued{replies: r, number: 1}
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(p.block(i))
		}
		p.offered(4, nil)
		wg.Wait()
		r.flushNow()
		records := s.take(t)
		if !hasQueued(records) {
			t.Fatalf("%+v, want that all are queued", records)
		}
		r.close()
	}
}

func hasQueued(records []testRecord) bool {
	for _, r := range records {
		if r.recordType == recordQueued {
			return true
		}
	}
	return false
}
