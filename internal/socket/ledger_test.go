package socket

import (
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// witness notes what it is told of one piece.
type witness struct {
	timed bool // it may expire

	mu   sync.Mutex
	seen [][]Progress // by frame
}

func (w *witness) Progress(_ int, what Progress, first, frames int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := first; i < first+frames; i++ {
		w.seen[i] = append(w.seen[i], what)
	}
}

// count returns how often a frame has come so far.
func (w *witness) count(frame int, what Progress) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.seen[frame] {
		if p == what {
			n++
		}
	}
	return n
}

// commuter is a peer whose connections are lost. What it is sent are DELIVERs
// numbered from 1, with other frames between them that are not counted.
type commuter struct {
	t      testing.TB
	random *rand.Rand
	window int
	skips  bool // it knows SKIP

	station *station
	sent    uint64 // number of the last DELIVER that was offered
	pieces  []*witness

	had   atomic.Uint64 // how many have come, SKIPs among them
	acked atomic.Uint64 // how many of them were acknowledged
	done  chan struct{} // closed when nothing more comes on this connection

	mu      sync.Mutex
	timed   map[uint64]bool // the DELIVERs that may expire
	large   map[uint64]bool // those above smallFrame
	last    uint64          // number of the last that has come
	givenUp int             // how many may be missing for that
	shrinks bool            // it takes smallFrame at times
}

// smallFrame is the largest frame that a commuter takes on some connections, in bytes.
const smallFrame = 2000

// goesOn chooses where a commuter goes on that has lost its connection, and whether it gives up
// what was begun there.
func (c *commuter) goesOn(old *station) (at Position, giveUp bool) {
	had := c.had.Load()
	if !c.skips {
		return Position{had, had}, false
	}
	acked := c.acked.Load()
	at = Position{acked + c.random.Uint64N(had-acked+1), had}
	c.acked.Store(at.Received)
	giveUp = old.Begun(had) && c.random.IntN(2) == 0
	if giveUp {
		c.mu.Lock()
		c.givenUp++
		c.mu.Unlock()
	}
	return at, giveUp
}

// connect gives it a first or a further connection.
func (c *commuter) connect() {
	c.t.Helper()
	old := c.station
	next := newStation(c.t, tcp, Config{OutboxBytes: 64 << 10, StallTimeout: patience})
	next.Number(c.window, c.skips)
	d := next.dispatch()
	var at Position
	if old != nil {
		var giveUp bool
		at, giveUp = c.goesOn(old)
		if c.shrinks && c.random.IntN(3) == 0 {
			next.SetMaxFrame(smallFrame)
		}
		old.moveTo(c.t, next, at, giveUp, d)
	}
	d.Drop()
	c.station, c.done = next, make(chan struct{})
	go c.listen(next, at, rand.New(rand.NewPCG(c.random.Uint64(), 1)), c.done) // ends with the connection
}

// listen takes what comes, holds it to its order, and acknowledges it now and then,
// and at least when half of the window is waiting for that.
func (c *commuter) listen(s *station, at Position, random *rand.Rand, done chan struct{}) {
	defer close(done)
	unsaid := 0
	again := at.Read - at.Received
	for {
		kind, payload, err := readOne(s.far)
		if err != nil {
			return
		}
		if !kind.Counted() {
			continue
		}
		if again > 0 {
			if again--; kind != wire.TypeSkip {
				c.t.Errorf("what the peer has is sent again as a frame of type %#x", kind)
			}
			continue
		}
		if kind == wire.TypeDeliver && !c.follows(payload) {
			return
		}
		had := c.had.Load() + 1
		c.had.Store(had)
		unsaid += len(payload)
		if unsaid >= c.window/2 || random.IntN(4) == 0 {
			unsaid = 0
			if !s.Acknowledge(had) {
				c.t.Errorf("frame %d came and cannot be acknowledged", had)
			}
			c.acked.Store(had)
		}
		if s.Acknowledge(had + 1_000_000) {
			c.t.Error("what was never sent can be acknowledged")
		}
	}
}

// follows reports whether a DELIVER may come now: behind the last one, and nothing between them is
// missing but what may expire.
func (c *commuter) follows(payload []byte) bool {
	d, err := wire.ParseDeliver(payload)
	c.mu.Lock()
	defer c.mu.Unlock()
	ok := err == nil && d.Seq > c.last
	for n := c.last + 1; ok && n < d.Seq; n++ {
		if c.timed[n] || c.shrinks && c.large[n] {
			continue
		}
		c.givenUp--
		ok = c.givenUp >= 0
	}
	if !ok {
		c.t.Errorf("frame %d comes behind %d: %v", d.Seq, c.last, err)
	}
	c.last = d.Seq
	return ok
}

func readOne(r io.Reader) (wire.Type, []byte, error) {
	b := make([]byte, wire.LengthSize)
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, nil, err
	}
	size, err := wire.Size(b, 8<<20)
	if err != nil {
		return 0, nil, err
	}
	frame := append(b, make([]byte, size-len(b))...)
	if _, err := io.ReadFull(r, frame[len(b):]); err != nil {
		return 0, nil, err
	}
	kind, payload := wire.Split(frame)
	return kind, payload, nil
}

// lose ends the connection as a hub does that finds it lost.
func (c *commuter) lose() {
	if !c.station.Detach() {
		c.t.Fatal("cannot be detached")
	}
	c.station.far.(*net.TCPConn).SetLinger(c.random.IntN(2) - 1)
	c.station.far.Close()
	c.station.Sever()
	c.station.Outbox.Wait()
	<-c.done
}

// offer offers a few frames of any size.
func (c *commuter) offer(d *Dispatch) {
	c.t.Helper()
	if c.random.IntN(5) == 0 {
		p := c.station.piece(wire.AppendPing(nil, 1))
		if c.random.IntN(2) == 0 {
			p.Terms = &Terms{IfFull: Overtake}
		}
		c.station.Offer(p, d)
		p.Buffer.Release()
		return
	}
	var frames [][]byte
	for range 1 + c.random.IntN(4) {
		size := c.random.IntN(3 * copyMost)
		if c.random.IntN(20) == 0 {
			size = 100_000
		}
		c.sent++
		if wire.DeliverLen(size) > smallFrame {
			c.mu.Lock()
			c.large[c.sent] = true
			c.mu.Unlock()
		}
		frames = append(frames, wire.AppendDeliver(nil, &wire.Deliver{Seq: c.sent, Body: make([]byte, size)}))
	}
	p := c.station.piece(frames...)
	p.Counted, p.Deliveries = true, len(frames)
	if c.random.IntN(2) == 0 {
		w := &witness{seen: make([][]Progress, len(frames))}
		c.pieces = append(c.pieces, w)
		p.Terms = &Terms{Tracker: w}
		if c.random.IntN(2) == 0 {
			w.timed = true
			p.Terms.Expires = time.Now().Add(time.Duration(c.random.IntN(20)) * time.Millisecond).UnixNano()
			c.mu.Lock()
			for i := range frames {
				c.timed[c.sent-uint64(i)] = true
			}
			c.mu.Unlock()
		}
	}
	switch c.station.Offer(p, d) {
	case Late:
		p.Terms.Tracker.Progress(0, Expired, 0, len(frames))
	case TooLarge: // nothing of it
		c.mu.Lock()
		for i := range frames {
			c.large[c.sent-uint64(i)] = true
		}
		c.mu.Unlock()
		if p.Terms != nil {
			p.Terms.Tracker.Progress(0, Oversized, 0, len(frames))
		}
	}
	p.Buffer.Release()
}

// TestWhatIsNotAcknowledgedMovesOn loses one connection after the other, at random
// moments, with a window that is full most of the time.
func TestWhatIsNotAcknowledgedMovesOn(t *testing.T) {
	for i, window := range []int{1, 10_000, 1 << 20, 1, 10_000, 1 << 20, 10_000, 1 << 20} {
		seed := rand.Uint64()
		t.Logf("window %d, seed %d", window, seed)
		c := &commuter{t: t, random: rand.New(rand.NewPCG(seed, 0)), window: window, skips: i < 3 || i >= 6, shrinks: i >= 6, timed: make(map[uint64]bool), large: make(map[uint64]bool)}
		c.connect()
		for range 60 {
			d := c.station.dispatch()
			for range c.random.IntN(20) {
				c.offer(d)
				if !d.Wait(c.done) {
					break
				}
			}
			d.Drop()
			if c.random.IntN(3) == 0 {
				c.lose()
				c.offer(d) // nobody is there
				d.Drop()
				time.Sleep(time.Duration(c.random.IntN(20)) * time.Millisecond) // something expires
				c.connect()
			}
		}
		until(t, "everything has come", func() bool { return c.complete() || t.Failed() })
		c.lose()
		if _, ok := c.station.Resumable(Position{c.had.Load(), c.had.Load()}); !ok {
			t.Error("the peer has had everything, and cannot go on")
		}
		for _, w := range c.pieces {
			for i := range w.seen {
				if w.gone(i, c) {
					continue
				}
				if !w.plausible(i, c.skips) {
					t.Fatalf("frame %d of a piece, timed %v, skips %v: %v", i, w.timed, c.skips, w.seen[i])
				}
			}
		}
		c.station.Close()
	}
}

// complete reports whether everything has come that was not dropped.
func (c *commuter) complete() bool {
	return !c.station.Busy() && c.station.Kept().Frames == c.had.Load()
}

// gone reports whether a frame met one of the ends that a model of loss does not know, and no
// other.
func (w *witness) gone(i int, c *commuter) bool {
	unreachable, oversized := w.count(i, Unreachable), w.count(i, Oversized)
	return unreachable+oversized == 1 && (unreachable == 0 || c.skips) && (oversized == 0 || c.shrinks) &&
		w.count(i, Received)+w.count(i, Expired)+w.count(i, Unheard) == 0
}

// plausible reports whether what was told of a frame can be: it has arrived, or it has expired,
// and then it is known whether it was written before.
func (w *witness) plausible(i int, skips bool) bool {
	written, received, expired, unheard := w.count(i, Written), w.count(i, Received), w.count(i, Expired), w.count(i, Unheard)
	switch {
	case received == 1:
		return written == 1 && expired == 0 && unheard == 0
	case unheard == 1:
		return w.timed && skips && written == 1 && expired == 0
	default:
		return w.timed && written == 0 && expired == 1 && received == 0 && unheard == 0
	}
}

// hold makes a station whose peer reads nothing, and offers it one tracked piece.
func hold(t *testing.T, window int, frames ...[]byte) (*station, *witness) {
	t.Helper()
	s := newStation(t, tcp, Config{OutboxBytes: 64 << 10})
	s.Number(window, false)
	w := &witness{seen: make([][]Progress, len(frames))}
	p := s.piece(frames...)
	p.Counted, p.Terms = true, &Terms{Tracker: w}
	d := s.dispatch()
	s.Offer(p, d)
	d.Drop()
	p.Buffer.Release()
	return s, w
}

func TestTheEndOfWhatWasWrittenIsUncertain(t *testing.T) {
	s, w := hold(t, 1<<20, frame(100), frame(100), frame(100))
	until(t, "written", func() bool { return w.count(2, Written) == 1 })
	if !s.Acknowledge(1) {
		t.Error("what was written cannot be acknowledged")
	}
	s.Close()
	s.Outbox.Wait()
	s.Acknowledge(3) // by one who reads, and does not know yet that it is over
	if w.count(0, Received) != 1 || w.count(1, Received) != 0 || w.count(0, Unheard) != 0 || w.count(1, Unheard) != 1 || w.count(2, Unheard) != 1 {
		t.Errorf("told: %v", w.seen)
	}
	if n := used(s.pieces.Budget); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

func TestAFullWindowStopsTheWriting(t *testing.T) {
	s, first := hold(t, 250, frame(100), frame(100))
	until(t, "written", func() bool { return first.count(1, Written) == 1 })
	d := s.dispatch()
	s.offer(d, frame(100))
	d.Drop()
	until(t, "paused", func() bool {
		s.Outbox.mu.Lock()
		defer s.Outbox.mu.Unlock()
		return s.ledger.paused && !s.flushing
	})
	s.Acknowledge(1)
	until(t, "written", func() bool { return !s.Pulse().Busy })
	s.Close()
}

// TestOvertaking is what frames do that the peer must see although it acknowledges nothing.
func TestOvertaking(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 64 << 10})
	s.Number(250, false)
	d := s.dispatch()
	counted := func(n byte) []byte {
		f := wire.AppendDeliver(nil, &wire.Deliver{Seq: uint64(n), Body: make([]byte, 100)})
		p := s.piece(f)
		p.Counted = true
		s.Offer(p, d)
		d.Leave()
		p.Buffer.Release()
		return f
	}
	overtaking := func(n uint64) []byte {
		f := wire.AppendPing(nil, n)
		p := s.piece(f)
		p.Terms = &Terms{IfFull: Overtake}
		s.Offer(p, d)
		d.Leave()
		p.Buffer.Release()
		return f
	}
	s.wantStream(t, slices.Concat(counted(1), counted(2)))
	last := counted(3) // beyond the window
	for n := range uint64(3) {
		s.wantStream(t, overtaking(n))
	}
	first, second := overtaking(4), overtaking(5)
	s.wantStream(t, append(first, second...))
	s.Acknowledge(2)
	s.wantStream(t, last)
	s.Close()
}

// TestWhatIsGivenUpStillCounts: its bookkeeping takes memory too.
func TestWhatIsGivenUpStillCounts(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 64 << 10})
	s.Number(20*segmentCost, false)
	d := s.dispatch()
	go io.Copy(io.Discard, s.far) // ends with the connection
	for range 100 {
		p := s.piece(wire.AppendDeliver(nil, &wire.Deliver{}))
		p.Counted, p.Terms = true, &Terms{Tracker: &witness{seen: make([][]Progress, 1)}}
		s.Offer(p, d)
		d.Leave()
		p.Buffer.Release()
		s.DropKept()
	}
	until(t, "paused", func() bool { return !s.flushes() })
	s.DropKept()
	if k := s.Kept(); k.Frames > 20 || k.Bytes != 0 {
		t.Errorf("written and not acknowledged: %+v", k)
	}
	s.Close()
}

// TestMoveToOneThatHasEnded leaves everything where it is.
func TestMoveToOneThatHasEnded(t *testing.T) {
	s, next := newStation(t, tcp, Config{OutboxBytes: 4 << 10}), newStation(t, tcp, Config{OutboxBytes: 4 << 10})
	s.Number(1<<20, false)
	next.Number(1<<20, false)
	s.Detach()
	s.Sever()
	s.Outbox.Wait()
	d := s.dispatch()
	for range 3 {
		p := s.piece(frame(5000))
		p.Counted = true
		s.Offer(p, d)
		p.Buffer.Release()
	}
	if _, ok := s.Resumable(Position{0, 0}); !ok {
		t.Fatal("cannot go on")
	}
	next.Close()
	if _, ok := s.Move(&next.Outbox, Position{0, 0}, false, d); ok {
		t.Error("moved to an outbox that is closed")
	}
	s.Close()
	if !d.Wait(nil) {
		t.Error("what was parked is not settled")
	}
	if n := used(s.pieces.Budget); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

// TestWhatIsGivenUp cannot be sent again, but its fate is still told.
func TestWhatIsGivenUp(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 64 << 10})
	s.Number(1<<20, false)
	w := &witness{seen: make([][]Progress, 2)}
	p := s.piece(frame(5000), frame(5000))
	p.Counted, p.Terms = true, &Terms{Tracker: w}
	d := s.dispatch()
	s.Offer(p, d)
	d.Drop()
	p.Buffer.Release()
	until(t, "written", func() bool { return w.count(1, Written) == 1 })
	if k := s.Kept(); k != (Kept{Frames: 2, Bytes: 2 * len(frame(5000))}) {
		t.Errorf("kept is %+v", k)
	}
	s.DropKept()
	until(t, "given back", func() bool { return used(s.pieces.Budget) == 0 })
	s.Acknowledge(1)
	if w.count(0, Received) != 1 {
		t.Error("what was given up cannot be acknowledged any more")
	}
	if k := s.Kept(); k != (Kept{Frames: 2, Acknowledged: 1}) {
		t.Errorf("kept is %+v", k)
	}
	s.Detach()
	s.Sever()
	s.Outbox.Wait()
	if _, ok := s.Resumable(Position{1, 1}); ok {
		t.Error("what was given up can be sent again")
	}
	if _, ok := s.Resumable(Position{2, 2}); !ok {
		t.Error("the peer has had everything, and cannot go on")
	}
	s.Close()
}

// TestAnswersDoNotMove has an answer to a request of the old connection wait for room,
// between two frames that are counted: it is dropped, and they are not.
func TestAnswersDoNotMove(t *testing.T) {
	s, next := newStation(t, tcp, Config{OutboxBytes: 4 << 10}), newStation(t, tcp, Config{OutboxBytes: 64 << 10})
	s.Number(1, false) // a frame that is written stops the writing
	next.Number(1<<20, false)
	d := s.dispatch()
	var all []*witness
	for i, counted := range []bool{true, true, true, false, true} {
		w := &witness{seen: make([][]Progress, 1)}
		p := s.piece(frame(5000))
		p.Counted, p.Terms = counted, &Terms{Tracker: w}
		s.Offer(p, d)
		d.Leave()
		p.Buffer.Release()
		if i == 0 {
			until(t, "written", func() bool { return w.count(0, Written) == 1 })
		}
		all = append(all, w)
	}
	s.Detach()
	s.Sever()
	s.Outbox.Wait()
	s.moveTo(t, next, Position{1, 1}, false, d)
	d.Leave()
	for i, w := range all[1:] {
		if i == 2 {
			until(t, "dropped", func() bool { return w.count(0, Unsent) == 1 })
			continue
		}
		until(t, "written", func() bool { return w.count(0, Written) == 1 })
	}
	if n := all[3].count(0, Written); n != 0 {
		t.Error("the answer was written")
	}
	s.Close()
	next.Close()
}

// TestWhatIsPromisedIsKept has memory become short between the look whether the peer
// can go on and its going on.
func TestWhatIsPromisedIsKept(t *testing.T) {
	s, next := newStation(t, tcp, Config{OutboxBytes: 64 << 10}), newStation(t, tcp, Config{OutboxBytes: 64 << 10})
	s.Number(1<<20, false)
	next.Number(1<<20, false)
	w := &witness{seen: make([][]Progress, 1)}
	p := s.piece(frame(5000))
	p.Counted, p.Terms = true, &Terms{Tracker: w}
	d := s.dispatch()
	s.Offer(p, d)
	d.Drop()
	p.Buffer.Release()
	until(t, "written", func() bool { return w.count(0, Written) == 1 })
	s.Detach()
	s.Sever()
	s.Outbox.Wait()
	if _, ok := s.Resumable(Position{0, 0}); !ok {
		t.Fatal("what is kept cannot be sent again")
	}
	s.DropKept()
	s.Move(&next.Outbox, Position{0, 0}, false, d)
	d.Drop()
	until(t, "written again", func() bool { return next.Pulse().Sent > 0 })
	if n := w.count(0, Written); n != 1 {
		t.Errorf("told %d times that it was written", n)
	}
	s.Close()
	next.Close()
}

func TestTermsOfAFullQueue(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 4 << 10})
	s.Number(1<<20, false)
	s.Detach() // nothing leaves
	d := s.dispatch()
	defer d.Drop()
	offer := func(ifFull IfFull, owner any) (Outcome, *witness) {
		w := &witness{seen: make([][]Progress, 1)}
		p := s.piece(frame(3000))
		defer p.Buffer.Release()
		p.Counted, p.Terms = true, &Terms{Tracker: w, IfFull: ifFull, Owner: owner}
		return s.Offer(p, d), w
	}
	want := func(what string, got, want Outcome) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	o, mine := offer(Displace, "me")
	want("room", o, Queued)
	o, second := offer(Displace, "me")
	want("room", o, Queued)
	o, _ = offer(Refuse, "me")
	want("refuse", o, Full)
	o, _ = offer(Displace, "you")
	want("nothing of one's own to displace", o, Full)
	o, _ = offer(Displace, "me")
	want("displace", o, Queued)
	if mine.count(0, Displaced) != 1 || second.count(0, Displaced) != 0 {
		t.Error("it was not the oldest that gave way")
	}
	o, _ = offer(Insist, nil)
	want("insist", o, Queued)
	o, waits := offer(Park, nil)
	want("park", o, Parked)
	s.Close()
	if waits.count(0, Unsent) != 1 || second.count(0, Unsent) != 1 {
		t.Error("nobody is told of what was lost with the connection")
	}
	if n := used(s.pieces.Budget); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}
