package socket

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
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
		omitted  Omitted
	}{
		{name: "nothing", told: [3]Progress{Received, Received, Received}},
		{name: "what was read", at: Position{Read: 2}, want: [4][]byte{skip, skip}, told: [3]Progress{Received, Received, Received}},
		{name: "all of it", at: Position{Read: 4}, want: [4][]byte{skip, skip, skip, skip}, told: [3]Progress{Received, Received, Received}},
		{name: "the first", giveUp: true, want: [4][]byte{skip}, told: [3]Progress{Unreachable, Received, Received}, omitted: Omitted{Unreachable: 1}},
		{name: "what comes behind what was read", at: Position{Received: 1, Read: 2}, giveUp: true, want: [4][]byte{{}, skip, skip}, told: [3]Progress{Received, Received, Unreachable}, omitted: Omitted{Unreachable: 1}},
		{name: "a report is not given up", at: Position{Received: 3, Read: 3}, giveUp: true, want: [4][]byte{{}, {}, {}}, told: [3]Progress{Received, Received, Received}},
		{name: "what is too large", maxFrame: 1000, want: [4][]byte{nil, skip}, told: [3]Progress{Received, Oversized, Received}, omitted: Omitted{Oversized: 1}},
		{name: "all at once", at: Position{Read: 1}, giveUp: true, maxFrame: 100, want: [4][]byte{skip, skip, skip}, told: [3]Progress{Received, Unreachable, Oversized}, omitted: Omitted{1, 1}},
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
			s.lose(t)
			if omitted := s.moveTo(t, next, test.at, test.giveUp, d); omitted != test.omitted {
				t.Errorf("omitted: %+v, want %+v", omitted, test.omitted)
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
	s.lose(t)
	if omitted := s.moveTo(t, next, Position{1, 1}, false, d); omitted != (Omitted{Oversized: 2}) {
		t.Errorf("omitted: %+v, want 2 that are too large", omitted)
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
	s.lose(t)
	for frame, want := range []bool{false, true, true, true, false, false} {
		if s.Begun(uint64(frame)) != want {
			t.Errorf("frame %d is begun: %v", frame, !want)
		}
	}
	for _, read := range []uint64{6, 5} {
		if _, ok := s.Resumable(Position{Read: read}); ok {
			t.Errorf("a peer that was given 3 frames and a part of the next has read %d", read)
		}
	}
	if _, ok := s.Resumable(Position{Read: 4}); !ok {
		t.Error("a peer cannot have read the frame that was begun")
	}
	s.Close()
}

// TestOutbox_ResumableReadsNothingUnwritten has three messages wait that no connection was given.
func TestOutbox_ResumableReadsNothingUnwritten(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 64 << 10})
	s.Number(1<<20, true)
	s.lose(t)
	d := s.dispatch()
	for i := range 3 {
		p := s.piece(wire.AppendDeliver(nil, &wire.Deliver{Seq: uint64(i)}))
		p.Counted = true
		s.Offer(p, d)
		p.Buffer.Release()
	}
	d.Drop()
	for _, at := range []Position{{Read: 1}, {1, 1}, {Read: 3}} {
		if _, ok := s.Resumable(at); ok {
			t.Errorf("can go on at %+v", at)
		}
	}
	s.queue.handed = wire.DeliverLen(0) + 1 // as after a write to crypto/tls that has failed
	for read, want := range []bool{true, true, true, false} {
		if _, ok := s.Resumable(Position{Read: uint64(read)}); ok != want {
			t.Errorf("a peer that was perhaps given one message and a part of the next has read %d: can go on: %v", read, ok)
		}
	}
	s.Close()
}

// TestOutbox_ResumableReadsAllThatCame loses connections in the middle of many small frames, also
// within records of TLS that were written together. A peer may say of all that has come that it has
// read it, but not of what no write was given.
func TestOutbox_ResumableReadsAllThatCame(t *testing.T) {
	const pieces, each, size = 100, 100, 100
	onLinks(t, func(t *testing.T, l link) {
		for round := range 10 {
			s := newStation(t, l, Config{OutboxBytes: 64 << 20})
			if nc, ok := beneath(s.Reader.base.nc).(*net.TCPConn); ok {
				nc.SetWriteBuffer(4 << 10)
			}
			s.Number(64<<20, true)
			enough, came := make(chan bool), make(chan uint64)
			go func() { // ends with the connection
				n := uint64(0)
				for {
					if _, _, err := readOne(s.far); err != nil {
						break
					}
					if n++; n == uint64(1+round*37) {
						close(enough)
					}
				}
				came <- n
			}()
			d := s.dispatch()
			p := s.piece(slices.Repeat([][]byte{frame(size)}, each)...)
			p.Counted, p.Terms = true, &Terms{IfFull: Insist}
			for range pieces {
				s.Offer(p, d)
			}
			p.Buffer.Release()
			d.Drop()
			within(t, "some frames", enough)
			s.lose(t)
			read := within(t, "the end", came)
			beyond := s.Kept().Frames + corkSize/size + 10
			if _, ok := s.Resumable(Position{Read: beyond}); ok {
				t.Errorf("%d frames were written, and a peer has read %d", s.Kept().Frames, beyond)
			}
			if _, ok := s.Resumable(Position{Read: read}); !ok {
				t.Errorf("%d frames were written, and a peer cannot have read the %d that came", s.Kept().Frames, read)
			}
			next := newStation(t, pipe, Config{OutboxBytes: 64 << 20})
			next.Number(64<<20, true)
			s.moveTo(t, next, Position{Read: read}, false, d)
			next.Detach() // before anything is written to it
			d.Drop()
			next.lose(t)
			if _, ok := next.Resumable(Position{Read: read}); !ok {
				t.Errorf("a peer cannot have read what it has said on the connection before")
			}
			s.Close()
			next.Close()
		}
	})
}

// memory returns how many bytes the buffers take that are queued or kept and charged to nobody.
func (s *station) memory() (bytes int) {
	s.Outbox.mu.Lock()
	defer s.Outbox.mu.Unlock()
	seen := make(map[*body.Buffer]bool)
	all := s.ledger.kept[s.ledger.head:]
	if q := s.queue; q != nil {
		all = append(slices.Clone(all), q.segments[q.head:]...)
	}
	for _, g := range all {
		if g.buffer != nil && g.buffer.Account() == nil && !seen[g.buffer] {
			seen[g.buffer] = true
			bytes += len(g.buffer.Bytes())
		}
	}
	return bytes
}

// TestMove_SkipsHoldNoMemory has SKIPs take the place of thousands of messages whose memory was
// charged to somebody. What they take is charged to nobody, so it must not grow with them.
func TestMove_SkipsHoldNoMemory(t *testing.T) {
	const pieces, each = 10, maxSkips*2 + 7
	skipped := bytes.Repeat(wire.AppendSkip(nil), pieces*each)
	for _, test := range []struct {
		name string
		ttl  time.Duration
		read uint64
		told Progress // beside Written
	}{
		{"read", 0, pieces * each, Received},
		{"expired", 10 * time.Second, 0, Unheard},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, next := newStation(t, pipe, Config{OutboxBytes: 64 << 20}), newStation(t, pipe, Config{OutboxBytes: 64 << 20})
				s.Number(64<<20, true)
				next.Number(64<<20, true)
				d := s.dispatch()
				frames := slices.Repeat([][]byte{wire.AppendDeliver(nil, &wire.Deliver{})}, each)
				var told []*witness
				for range pieces {
					w := &witness{seen: make([][]Progress, each)}
					p := s.piece(frames...)
					p.Counted, p.Deliveries, p.Terms = true, each, &Terms{Tracker: w}
					if test.ttl > 0 {
						p.Terms.Expires = time.Now().Add(test.ttl).UnixNano()
					}
					s.Offer(p, d)
					p.Buffer.Release()
					told = append(told, w)
				}
				d.Drop()
				s.wantStream(t, slices.Concat(slices.Repeat(frames, pieces)...))
				synctest.Wait()
				s.lose(t)
				if used(s.pieces.Budget) < pieces*each*30 {
					t.Error("what is kept is not charged")
				}
				s.moveTo(t, next, Position{Read: test.read}, false, d)
				time.Sleep(test.ttl)
				d.Drop()
				synctest.Wait() // it waits to be read
				held := func() {
					t.Helper()
					if n, free := next.memory(), used(s.pieces.Budget); n > 8<<10 || free != 0 {
						t.Errorf("%d SKIPs take %d bytes that are charged to nobody, and %d that are", pieces*each, n, free)
					}
				}
				held()
				next.wantStream(t, skipped)
				synctest.Wait()
				held()
				if k := next.Kept(); k != (Kept{Frames: pieces * each}) {
					t.Errorf("kept: %+v, want %d frames that hold nothing", k, pieces*each)
				}
				if next.ledger.bytes < len(skipped) {
					t.Error("SKIPs do not count for the window")
				}
				next.DropKept()
				if !next.ledger.whole(0) {
					t.Error("SKIPs are given up, although they hold nothing")
				}
				if !next.Acknowledge(pieces * each) {
					t.Error("SKIPs cannot be acknowledged")
				}
				if k := next.Kept(); k != (Kept{Frames: pieces * each, Acknowledged: pieces * each}) || next.ledger.bytes != 0 {
					t.Errorf("acknowledged: %+v, %d bytes of the window", k, next.ledger.bytes)
				}
				for i, w := range told {
					for j := range each {
						if seen := w.seen[j]; len(seen) != 2 || seen[0] != Written || seen[1] != test.told {
							t.Fatalf("told of frame %d of piece %d: %v", j, i, seen)
						}
					}
				}
				s.Close()
				next.Close()
			})
			until(t, "nobody refers to SKIPs", func() bool { return !skipFrames.Shared() })
		})
	}
}

// TestMove_ReadDoesNotExpire has the time of a message run out that the peer has read and has not
// acknowledged: it will, so the fate must not say that nobody knows.
func TestMove_ReadDoesNotExpire(t *testing.T) {
	const ttl = 10 * time.Second
	for _, test := range []struct {
		name   string
		expire func(t *testing.T, s *station, d *Dispatch, terms *Terms)
	}{
		{"before the SKIP is written", func(_ *testing.T, _ *station, d *Dispatch, _ *Terms) {
			time.Sleep(ttl)
			d.Drop()
		}},
		{"taken back before that", func(_ *testing.T, s *station, d *Dispatch, terms *Terms) {
			time.Sleep(ttl)
			s.Retract(terms)
			d.Drop()
		}},
		{"the SKIP is lost with its connection", func(t *testing.T, s *station, d *Dispatch, terms *Terms) {
			d.Drop()
			s.wantStream(t, wire.AppendSkip(nil))
			synctest.Wait()
			s.Detach()
			time.Sleep(ttl)
			s.Retract(terms)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, second, third := newStation(t, pipe, Config{OutboxBytes: 64 << 10}), newStation(t, pipe, Config{OutboxBytes: 64 << 10}), newStation(t, pipe, Config{OutboxBytes: 64 << 10})
				first.Number(1<<20, true)
				second.Number(1<<20, true)
				third.Number(1<<20, true)
				d := first.dispatch()
				w := &witness{seen: make([][]Progress, 1)}
				terms := &Terms{Tracker: w, Expires: time.Now().Add(ttl).UnixNano()}
				f := wire.AppendDeliver(nil, &wire.Deliver{})
				p := first.piece(f)
				p.Counted, p.Deliveries, p.Terms = true, 1, terms
				first.Offer(p, d)
				p.Buffer.Release()
				d.Drop()
				first.wantStream(t, f)
				synctest.Wait()
				first.lose(t)
				first.moveTo(t, second, Position{Read: 1}, false, d)
				test.expire(t, second, d, terms)
				go io.Copy(io.Discard, second.far) // ends with the connection
				synctest.Wait()
				second.lose(t)
				second.moveTo(t, third, Position{Received: 1, Read: 1}, false, d)
				d.Drop()
				if !slices.Equal(w.seen[0], []Progress{Written, Received}) {
					t.Errorf("told: %v, want %v", w.seen[0], []Progress{Written, Received})
				}
				first.Close()
				second.Close()
				third.Close()
			})
		})
	}
}
