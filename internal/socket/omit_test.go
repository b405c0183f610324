package socket

import (
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// TestMove_Omits moves three messages in one piece, and one report behind them, that were written
// and are lost with their connection.
func TestMove_Omits(t *testing.T) {
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
		want     [4][]byte // nil: as it was
		told     [3]Progress
	}{
		{name: "nothing", told: [3]Progress{Received, Received, Received}},
		{name: "what was read", at: Position{Read: 2}, want: [4][]byte{skip, skip}, told: [3]Progress{Received, Received, Received}},
		{name: "all of it", at: Position{Read: 4}, want: [4][]byte{skip, skip, skip, skip}, told: [3]Progress{Received, Received, Received}},
		{name: "the first", giveUp: true, want: [4][]byte{skip}, told: [3]Progress{Unreachable, Received, Received}},
		{name: "what comes behind what was read", at: Position{Received: 1, Read: 2}, giveUp: true, want: [4][]byte{{}, skip, skip}, told: [3]Progress{Received, Received, Unreachable}},
		{name: "a report is not given up", at: Position{Received: 3, Read: 3}, giveUp: true, want: [4][]byte{{}, {}, {}}, told: [3]Progress{Received, Received, Received}},
		{name: "what is too large", maxFrame: 1000, want: [4][]byte{nil, skip}, told: [3]Progress{Received, Oversized, Received}},
		{name: "all at once", at: Position{Read: 1}, giveUp: true, maxFrame: 100, want: [4][]byte{skip, skip, skip}, told: [3]Progress{Received, Unreachable, Oversized}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, next := newStation(t, tcp, Config{OutboxBytes: 64 << 10}), newStation(t, tcp, Config{OutboxBytes: 64 << 10})
			s.Number(1<<20, true)
			next.Number(1<<20, true)
			next.SetMaxFrame(test.maxFrame)
			w := &witness{seen: make([][]Progress, len(frames))}
			d := s.dispatch()
			p := s.piece(frames...)
			p.Counted, p.Deliveries, p.Terms = true, len(frames), &Terms{Tracker: w}
			s.Offer(p, d)
			p.Buffer.Release()
			p = s.piece(report)
			p.Counted = true
			s.Offer(p, d)
			p.Buffer.Release()
			d.Drop()
			until(t, "written", func() bool { return s.Kept().Frames == 4 })
			s.Detach()
			s.Sever()
			s.Outbox.Wait()
			if _, ok := s.Resumable(test.at); !ok || !s.Move(&next.Outbox, test.at, test.giveUp, d) {
				t.Fatal("cannot go on")
			}
			d.Drop()
			for i, f := range append(slices.Clone(frames), report) {
				if test.want[i] != nil {
					f = test.want[i]
				}
				next.wantStream(t, f)
			}
			until(t, "written", func() bool { return next.Kept().Frames == 4 })
			if !next.Acknowledge(4) {
				t.Error("what was sent cannot be acknowledged")
			}
			for i, want := range test.told {
				if seen := w.seen[i]; w.count(i, want) != 1 || len(seen) != 2 || seen[0] != Written {
					t.Errorf("told of frame %d: %v, want Written and %v", i, seen, want)
				}
			}
			if n := used(s.pieces.Budget); n != 0 || next.weigh() != 0 {
				t.Errorf("%d bytes are held, and %d queued", n, next.weigh())
			}
			s.Close()
			next.Close()
		})
	}
}

// TestMove_OmitsOfWhatWaits moves three messages that wait for room behind what their connection
// does not take. The one that is too large for the next connection is not written, and has no
// number.
func TestMove_OmitsOfWhatWaits(t *testing.T) {
	s, next := newStation(t, tcp, Config{OutboxBytes: 10_000}), newStation(t, tcp, Config{OutboxBytes: 10_000})
	s.Number(1, true) // the first stops the writing
	next.Number(1<<20, true)
	next.SetMaxFrame(1000)
	sizes := []int{100, 20_000, 300, 2000, 400} // the second fills the queue
	var all [][]byte
	for i, size := range sizes {
		all = append(all, wire.AppendDeliver(nil, &wire.Deliver{Seq: uint64(i), Body: make([]byte, size)}))
	}
	d := s.dispatch()
	var told []*witness
	for _, frames := range [][][]byte{all[:1], all[1:2], all[2:]} {
		w := &witness{seen: make([][]Progress, len(frames))}
		p := s.piece(frames...)
		p.Counted, p.Deliveries, p.Terms = true, len(frames), &Terms{Tracker: w}
		if outcome := s.Offer(p, d); outcome != Queued && len(told) < 2 || outcome != Parked && len(told) == 2 {
			t.Fatalf("offered piece %d: %v", len(told), outcome)
		}
		d.Flush()
		p.Buffer.Release()
		told = append(told, w)
		until(t, "written", func() bool { return s.Kept().Frames == 1 })
	}
	d.Leave()
	s.Detach()
	s.Sever()
	s.Outbox.Wait()
	at := Position{1, 1}
	if _, ok := s.Resumable(at); !ok || !s.Move(&next.Outbox, at, false, d) {
		t.Fatal("cannot go on")
	}
	d.Drop()
	next.wantStream(t, all[2])
	next.wantStream(t, all[4])
	until(t, "written", func() bool { return next.Kept().Frames == 3 })
	next.Acknowledge(3)
	through := []Progress{Entered, Written, Received}
	for i, want := range [][][]Progress{{{Written, Received}}, {{Oversized}}, {through, {Oversized}, through}} {
		for j, of := range want {
			if got := told[i].seen[j]; !slices.Equal(got, of) {
				t.Errorf("told of frame %d of piece %d: %v, want %v", j, i, got, of)
			}
		}
	}
	if n := used(s.pieces.Budget); n != 0 || next.weigh() != 0 {
		t.Errorf("%d bytes are held, and %d queued", n, next.weigh())
	}
	s.Close()
	next.Close()
}

// TestOutbox_Begun has a connection that takes two small frames in one piece, a message and a part
// of the next.
func TestOutbox_Begun(t *testing.T) {
	s := newStation(t, pipe, Config{OutboxBytes: 64 << 10})
	s.Number(1<<20, true)
	d := s.dispatch()
	small := s.piece(wire.AppendReport(nil, 1, []byte{0}), wire.AppendDeliver(nil, &wire.Deliver{Seq: 7}))
	small.Counted = true
	s.Offer(small, d)
	small.Buffer.Release()
	for i := range 3 {
		p := s.piece(wire.AppendDeliver(nil, &wire.Deliver{Seq: uint64(i), Body: make([]byte, 20_000)}))
		p.Counted = true
		s.Offer(p, d)
		p.Buffer.Release()
	}
	if s.Begun(1) {
		t.Error("begun before anything was written")
	}
	d.Drop()
	s.wantStream(t, wire.AppendReport(nil, 1, []byte{0}))
	s.wantStream(t, wire.AppendDeliver(nil, &wire.Deliver{Seq: 7}))
	s.wantStream(t, wire.AppendDeliver(nil, &wire.Deliver{Body: make([]byte, 20_000)}))
	s.wantStream(t, wire.AppendDeliver(nil, &wire.Deliver{Seq: 1, Body: make([]byte, 20_000)})[:10])
	s.Detach()
	s.far.Close()
	s.Sever()
	s.Outbox.Wait()
	for frame, want := range []bool{false, true, true, true, false, false} {
		if s.Begun(uint64(frame)) != want {
			t.Errorf("frame %d is begun: %v", frame, !want)
		}
	}
	s.Close()
}
