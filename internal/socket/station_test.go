package socket

import (
	"bytes"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/wire"
)

// station is an outbox with its other end, and what it has told its owner.
type station struct {
	*Conn
	far    net.Conn
	failed chan error
	owned  *body.Account // of the owner; nil: nobody is charged
	pieces purse         // what the pieces are drawn from
	blocks purse         // what the copies are drawn from

	mu      sync.Mutex
	sent    Tally
	lost    Tally
	offered Tally // what offer has offered and was not told to be gone
}

// newStation makes a station whose owner closes the connection when it has failed.
func newStation(t testing.TB, l link, config Config) *station {
	near, far := l.open(t)
	s := &station{far: far, failed: make(chan error, 1), pieces: newPurse(64 << 20), blocks: newPurse(1 << 20)}
	config.MaxLength, config.FrameTimeout = 8<<20, patience
	s.Conn = New(near, &config, s)
	return s
}

func (s *station) Account() *body.Account { return s.owned }
func (s *station) Done() <-chan struct{}  { return nil }
func (s *station) Sent(done Tally)        { s.add(&s.sent, done) }
func (s *station) Lost(lost Tally)        { s.add(&s.lost, lost) }

func (s *station) Failed(err error) {
	s.failed <- err
	s.Close()
}

func (s *station) add(to *Tally, what Tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to.add(what)
}

func (s *station) tally(which *Tally) Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *which
}

// dispatch returns what a sender offers with.
func (s *station) dispatch() *Dispatch { return &Dispatch{Blocks: s.blocks.account} }

// piece puts frames into a buffer. Its caller holds the reference.
func (s *station) piece(frames ...[]byte) *Piece {
	all := slices.Concat(frames...)
	p := &Piece{Buffer: s.pieces.account.TryDraw(len(all)), To: len(all), Frames: len(frames)}
	for _, f := range frames {
		if t, _ := wire.Split(f); t == wire.TypeRelay {
			p.Deliveries++
		}
	}
	copy(p.Buffer.Bytes(), all)
	return p
}

// offer offers frames as one piece, of which it keeps nothing.
func (s *station) offer(d *Dispatch, frames ...[]byte) Outcome {
	p := s.piece(frames...)
	outcome := s.Offer(p, d)
	if outcome != Gone {
		s.add(&s.offered, Tally{p.Frames, p.Deliveries, p.To})
	}
	p.Buffer.Release()
	return outcome
}

// fill offers frames until the queue is full, and sees to it that the flusher has
// the first of them in hand.
func (s *station) fill(t testing.TB, d *Dispatch, f []byte) (n int) {
	t.Helper()
	for n = 1; s.weigh() < s.Reader.base.config.OutboxBytes; n++ {
		if outcome := s.offer(d, f); outcome != Queued {
			t.Fatalf("offer %d to a queue of %d bytes: %v", n, s.weigh(), outcome)
		}
		d.Flush()
	}
	return n - 1
}

// lose ends the connection as a hub does that finds it lost.
func (s *station) lose(t testing.TB) {
	t.Helper()
	if !s.Detach() {
		t.Fatal("cannot be detached")
	}
	s.Sever()
	s.Outbox.Wait()
}

// moveTo goes on at another station.
func (s *station) moveTo(t testing.TB, next *station, at Position, giveUp bool, d *Dispatch) Omitted {
	t.Helper()
	if _, ok := s.Resumable(at); !ok {
		t.Fatalf("cannot go on at %+v", at)
	}
	omitted, ok := s.Move(&next.Outbox, at, giveUp, d)
	if !ok {
		t.Fatal("closed meanwhile")
	}
	return omitted
}

func (s *station) weigh() int {
	s.Outbox.mu.Lock()
	defer s.Outbox.mu.Unlock()
	return s.weight
}

// wantStream reads what must come, and nothing else before it.
func (s *station) wantStream(t testing.TB, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(s.far, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes came, and not as they should (%v)", n, len(want), err)
	}
}

// finish reads what is left, closes, and looks whether everything is given back
// and accounted for.
func (s *station) finish(t testing.TB) {
	t.Helper()
	done := make(chan struct{})
	go func() { // ends with the connection
		defer close(done)
		io.Copy(io.Discard, s.far)
	}()
	s.Drain(nil)
	s.Close()
	s.Wait()
	<-done
	s.wantSettled(t)
}

// wantSettled is for a connection that is closed, and that nobody offers to.
func (s *station) wantSettled(t testing.TB) {
	t.Helper()
	until(t, "all pieces are given back", func() bool { return used(s.pieces.Budget) == 0 })
	if s.Busy() || s.flushes() {
		t.Error("something is still in the queue, or a flusher runs")
	}
	total := s.tally(&s.sent)
	total.add(s.tally(&s.lost))
	if want := s.tally(&s.offered); total != want {
		t.Errorf("sent %+v and lost %+v, want %+v together", s.tally(&s.sent), s.tally(&s.lost), want)
	}
}

func (s *station) Busy() bool { return s.Pulse().Busy }

func (s *station) flushes() bool {
	s.Outbox.mu.Lock()
	defer s.Outbox.mu.Unlock()
	return s.flushing
}

// blocksUsed returns how many blocks are held.
func (s *station) blocksUsed() int {
	return int(used(s.blocks.Budget)) / body.Capacity(blockSize)
}
