package outbox

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// TestOutbox_Move_Omits moves a batch of three messages, and a report behind them, that were
// written on a lost connection.
func TestOutbox_Move_Omits(t *testing.T) {
	skip := wire.AppendSkip(nil)
	var frames [][]byte
	for i, size := range []int{100, 3000, 200} {
		frames = append(frames, wire.AppendDeliver(nil, &wire.Deliver{Seq: uint64(i), Body: make([]byte, size)}))
	}
	report := wire.AppendReport(nil, 1, []byte{0})
	for _, test := range []struct {
		name     string
		at       Position
		giveUp   bool
		maxFrame int
		want     [4][]byte // nil: unchanged
		told     [3]Event
		omitted  Omitted
	}{
		{name: "nothing", told: [3]Event{EventAcked, EventAcked, EventAcked}},
		{name: "read frames", at: Position{Read: 2}, want: [4][]byte{skip, skip}, told: [3]Event{EventAcked, EventAcked, EventAcked}},
		{name: "all frames", at: Position{Read: 4}, want: [4][]byte{skip, skip, skip, skip}, told: [3]Event{EventAcked, EventAcked, EventAcked}},
		{name: "first message given up", giveUp: true, want: [4][]byte{skip}, told: [3]Event{EventUnreachable, EventAcked, EventAcked}, omitted: Omitted{Unreachable: 1}},
		{name: "message behind the read frames given up", at: Position{Acked: 1, Read: 2}, giveUp: true, want: [4][]byte{{}, skip, skip}, told: [3]Event{EventAcked, EventAcked, EventUnreachable}, omitted: Omitted{Unreachable: 1}},
		{name: "report not given up", at: Position{Acked: 3, Read: 3}, giveUp: true, want: [4][]byte{{}, {}, {}}, told: [3]Event{EventAcked, EventAcked, EventAcked}},
		{name: "too large message", maxFrame: 1000, want: [4][]byte{nil, skip}, told: [3]Event{EventAcked, EventTooLarge, EventAcked}, omitted: Omitted{TooLarge: 1}},
		{name: "all together", at: Position{Read: 1}, giveUp: true, maxFrame: 100, want: [4][]byte{skip, skip, skip}, told: [3]Event{EventAcked, EventUnreachable, EventTooLarge}, omitted: Omitted{1, 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tc, next := newTestConn(t, memory, Config{MaxBytes: 64 << 10}), newTestConn(t, memory, Config{MaxBytes: 64 << 10})
			tc.EnableAcks(1<<20, true)
			next.EnableAcks(1<<20, true)
			next.SetMaxFrame(test.maxFrame)
			rec := &eventRecorder{events: make([][]Event, len(frames))}
			fl := tc.newFlusher()
			batch := tc.newBatch(frames...)
			batch.Reliable, batch.Messages, batch.Options = true, true, &Options{Events: rec}
			tc.Offer(batch, fl)
			batch.Buffer.Release()
			batch = tc.newBatch(report)
			batch.Reliable = true
			tc.Offer(batch, fl)
			batch.Buffer.Release()
			fl.Reset()
			waitUntil(t, "written", func() bool { return tc.AckStats().Written == 4 })
			tc.loseConn(t)
			if omitted := tc.moveTo(t, next, test.at, test.giveUp, fl); omitted != test.omitted {
				t.Errorf("omitted: %+v, want %+v", omitted, test.omitted)
			}
			fl.Reset()
			for i, f := range append(slices.Clone(frames), report) {
				if test.want[i] != nil {
					f = test.want[i]
				}
				next.wantStream(t, f)
			}
			waitUntil(t, "written", func() bool { return next.AckStats().Written == 4 })
			if !next.Acknowledge(4) {
				t.Error("an acknowledgement of written frames was rejected")
			}
			for i, want := range test.told {
				if seen := rec.events[i]; rec.count(i, want) != 1 || len(seen) != 2 || seen[0] != EventWritten {
					t.Errorf("events of frame %d: %v, want EventWritten and %v", i, seen, want)
				}
			}
			if n := used(tc.batchBudget.Budget); n != 0 || next.queuedWeight() != 0 {
				t.Errorf("%d bytes are held, and %d queued", n, next.queuedWeight())
			}
			tc.Close()
			next.Close()
		})
	}
}

// TestOutbox_Move_OmitsBlocked moves three blocked messages. The message that is too large for
// the next connection is not written, and gets no number.
func TestOutbox_Move_OmitsBlocked(t *testing.T) {
	tc, next := newTestConn(t, memory, Config{MaxBytes: 10_000}), newTestConn(t, memory, Config{MaxBytes: 10_000})
	tc.EnableAcks(1, true) // the first frame fills the window
	next.EnableAcks(1<<20, true)
	next.SetMaxFrame(1000)
	sizes := []int{100, 20_000, 300, 2000, 400} // the second fills the queue
	var messages [][]byte
	for i, size := range sizes {
		messages = append(messages, wire.AppendDeliver(nil, &wire.Deliver{Seq: uint64(i), Body: make([]byte, size)}))
	}
	fl := tc.newFlusher()
	var recs []*eventRecorder
	for _, frames := range [][][]byte{messages[:1], messages[1:2], messages[2:]} {
		rec := &eventRecorder{events: make([][]Event, len(frames))}
		batch := tc.newBatch(frames...)
		batch.Reliable, batch.Messages, batch.Options = true, true, &Options{Events: rec}
		if outcome := tc.Offer(batch, fl); outcome != Queued && len(recs) < 2 || outcome != Blocked && len(recs) == 2 {
			t.Fatalf("offer of batch %d: %v", len(recs), outcome)
		}
		fl.Flush()
		batch.Buffer.Release()
		recs = append(recs, rec)
		waitUntil(t, "written", func() bool { return tc.AckStats().Written == 1 })
	}
	fl.Abandon()
	tc.loseConn(t)
	if omitted := tc.moveTo(t, next, Position{1, 1}, false, fl); omitted != (Omitted{TooLarge: 2}) {
		t.Errorf("omitted: %+v, want 2 too large", omitted)
	}
	fl.Reset()
	next.wantStream(t, messages[2])
	next.wantStream(t, messages[4])
	waitUntil(t, "written", func() bool { return next.AckStats().Written == 3 })
	next.Acknowledge(3)
	sentAndAcked := []Event{EventQueued, EventWritten, EventAcked}
	for i, want := range [][][]Event{{{EventWritten, EventAcked}}, {{EventTooLarge}}, {sentAndAcked, {EventTooLarge}, sentAndAcked}} {
		for j, events := range want {
			if got := recs[i].events[j]; !slices.Equal(got, events) {
				t.Errorf("events of frame %d of batch %d: %v, want %v", j, i, got, events)
			}
		}
	}
	if n := used(tc.batchBudget.Budget); n != 0 || next.queuedWeight() != 0 {
		t.Errorf("%d bytes are held, and %d queued", n, next.queuedWeight())
	}
	tc.Close()
	next.Close()
}

// unchargedBytes returns the size of the queued and unacknowledged buffers without an account.
func (tc *testConn) unchargedBytes() (bytes int) {
	tc.Outbox.mu.Lock()
	defer tc.Outbox.mu.Unlock()
	seen := make(map[*body.Buffer]bool)
	segments := tc.retransmit.unacked[tc.retransmit.head:]
	if q := tc.queue; q != nil {
		segments = append(slices.Clone(segments), q.segments[q.head:]...)
	}
	for _, g := range segments {
		if g.buffer != nil && g.buffer.Account() == nil && !seen[g.buffer] {
			seen[g.buffer] = true
			bytes += len(g.buffer.Bytes())
		}
	}
	return bytes
}

// TestOutbox_Move_SkipsHoldNoMemory replaces thousands of messages by SKIPs. The memory of the
// messages was charged to accounts. The memory of SKIPs is charged to no account, and must
// therefore not grow with their number.
func TestOutbox_Move_SkipsHoldNoMemory(t *testing.T) {
	const pieces, each = 10, maxSkips*2 + 7
	skipped := bytes.Repeat(wire.AppendSkip(nil), pieces*each)
	for _, test := range []struct {
		name string
		ttl  time.Duration
		read uint64
		told Event // besides EventWritten
	}{
		{"read", 0, pieces * each, EventAcked},
		{"expired", 10 * time.Second, 0, EventUnacked},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc, next := newTestConn(t, pipe, Config{MaxBytes: 64 << 20}), newTestConn(t, pipe, Config{MaxBytes: 64 << 20})
				tc.EnableAcks(64<<20, true)
				next.EnableAcks(64<<20, true)
				fl := tc.newFlusher()
				frames := slices.Repeat([][]byte{wire.AppendDeliver(nil, &wire.Deliver{})}, each)
				var recs []*eventRecorder
				for range pieces {
					rec := &eventRecorder{events: make([][]Event, each)}
					batch := tc.newBatch(frames...)
					batch.Reliable, batch.Messages, batch.Options = true, true, &Options{Events: rec}
					if test.ttl > 0 {
						batch.Options.Expires = time.Now().Add(test.ttl).UnixNano()
					}
					tc.Offer(batch, fl)
					batch.Buffer.Release()
					recs = append(recs, rec)
				}
				fl.Reset()
				tc.wantStream(t, slices.Concat(slices.Repeat(frames, pieces)...))
				synctest.Wait()
				tc.loseConn(t)
				if used(tc.batchBudget.Budget) < pieces*each*30 {
					t.Error("unacknowledged frames are not charged")
				}
				tc.moveTo(t, next, Position{Read: test.read}, false, fl)
				time.Sleep(test.ttl)
				fl.Reset()
				synctest.Wait() // the connection waits to be read
				wantUncharged := func() {
					t.Helper()
					if n, free := next.unchargedBytes(), used(tc.batchBudget.Budget); n > 8<<10 || free != 0 {
						t.Errorf("%d SKIPs take %d uncharged bytes and %d charged bytes", pieces*each, n, free)
					}
				}
				wantUncharged()
				next.wantStream(t, skipped)
				synctest.Wait()
				wantUncharged()
				if k := next.AckStats(); k != (AckStats{Written: pieces * each}) {
					t.Errorf("unacknowledged: %+v, want %d frames without memory", k, pieces*each)
				}
				if next.retransmit.windowBytes < len(skipped) {
					t.Error("SKIPs do not count against the window")
				}
				next.DropUnacked()
				if !next.retransmit.canResend(0) {
					t.Error("SKIPs were dropped although they hold no memory")
				}
				if !next.Acknowledge(pieces * each) {
					t.Error("an acknowledgement of SKIPs was rejected")
				}
				if k := next.AckStats(); k != (AckStats{Written: pieces * each, Acked: pieces * each}) || next.retransmit.windowBytes != 0 {
					t.Errorf("acknowledged: %+v, %d bytes of the window", k, next.retransmit.windowBytes)
				}
				for i, rec := range recs {
					for j := range each {
						if seen := rec.events[j]; len(seen) != 2 || seen[0] != EventWritten || seen[1] != test.told {
							t.Fatalf("events of frame %d of batch %d: %v", j, i, seen)
						}
					}
				}
				tc.Close()
				next.Close()
			})
			waitUntil(t, "no reference to SKIPs is left", func() bool { return !skipFrames.Shared() })
		})
	}
}

// TestOutbox_Move_ReadFramesDoNotExpire lets a message expire that the peer has read and not
// acknowledged. The peer will acknowledge it: EventUnacked must not be reported.
func TestOutbox_Move_ReadFramesDoNotExpire(t *testing.T) {
	const ttl = 10 * time.Second
	for _, test := range []struct {
		name   string
		expire func(t *testing.T, tc *testConn, fl *Flusher, options *Options)
	}{
		{"before the SKIP is written", func(_ *testing.T, _ *testConn, fl *Flusher, _ *Options) {
			time.Sleep(ttl)
			fl.Reset()
		}},
		{"retracted before the SKIP is written", func(_ *testing.T, tc *testConn, fl *Flusher, options *Options) {
			time.Sleep(ttl)
			tc.Retract(options)
			fl.Reset()
		}},
		{"the SKIP is lost with its connection", func(t *testing.T, tc *testConn, fl *Flusher, options *Options) {
			fl.Reset()
			tc.wantStream(t, wire.AppendSkip(nil))
			synctest.Wait()
			tc.Detach()
			time.Sleep(ttl)
			tc.Retract(options)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, second, third := newTestConn(t, pipe, Config{MaxBytes: 64 << 10}), newTestConn(t, pipe, Config{MaxBytes: 64 << 10}), newTestConn(t, pipe, Config{MaxBytes: 64 << 10})
				first.EnableAcks(1<<20, true)
				second.EnableAcks(1<<20, true)
				third.EnableAcks(1<<20, true)
				fl := first.newFlusher()
				rec := &eventRecorder{events: make([][]Event, 1)}
				options := &Options{Events: rec, Expires: time.Now().Add(ttl).UnixNano()}
				f := wire.AppendDeliver(nil, &wire.Deliver{})
				batch := first.newBatch(f)
				batch.Reliable, batch.Messages, batch.Options = true, true, options
				first.Offer(batch, fl)
				batch.Buffer.Release()
				fl.Reset()
				first.wantStream(t, f)
				synctest.Wait()
				first.loseConn(t)
				first.moveTo(t, second, Position{Read: 1}, false, fl)
				test.expire(t, second, fl, options)
				go io.Copy(io.Discard, second.far) // ends with the connection
				synctest.Wait()
				second.loseConn(t)
				second.moveTo(t, third, Position{Acked: 1, Read: 1}, false, fl)
				fl.Reset()
				if !slices.Equal(rec.events[0], []Event{EventWritten, EventAcked}) {
					t.Errorf("events: %v, want %v", rec.events[0], []Event{EventWritten, EventAcked})
				}
				first.Close()
				second.Close()
				third.Close()
			})
		})
	}
}
