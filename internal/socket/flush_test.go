package socket

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// tally counts how many frames came how far, of all pieces that are tracked by it.
type tally [Unheard + 1]atomic.Int64

func (c *tally) Progress(_ int, what Progress, _, frames int) { c[what].Add(int64(frames)) }

// TestOutbox_ExpiredWhileTheSocketIsFull fills a connection with frames that expire while the
// flusher waits for room. What it has in hand then is not written when there is room again, but for
// the frame that was begun, and over TLS those that are encrypted already.
func TestOutbox_ExpiredWhileTheSocketIsFull(t *testing.T) {
	for l, begun := range map[*link]int64{&tcp: 1, &secure: corkSize/expiringFrame + 1} {
		t.Run(l.name, func(t *testing.T) {
			ttl := 300 * time.Millisecond                               // real time: the kernel's buffers have no other
			for !expireWhileFull(t, *l, begun, ttl) && ttl < patience { // a busy machine takes longer to fill them
				ttl *= 2
			}
		})
	}
}

// expiringFrame is the size of the frames that expire, in bytes.
const expiringFrame = 1000

// expireWhileFull reports whether the socket was full before the frames that it offers had expired.
// begun is how many may have been begun by then.
func expireWhileFull(t *testing.T, l link, begun int64, ttl time.Duration) bool {
	const frames = 2000
	s := newStation(t, l, Config{OutboxBytes: 64 << 10, UnsentBytes: 64 << 10})
	LimitUnread(s.far, 32<<10)
	var seen tally
	terms := &Terms{Tracker: &seen, IfFull: Insist, Expires: time.Now().Add(ttl).UnixNano()}
	d, offered := s.dispatch(), int64(0)
	for range frames {
		p := s.piece(frame(expiringFrame))
		p.Terms = terms
		if s.Offer(p, d) == Queued {
			offered++
		}
		p.Buffer.Release()
		d.Leave()
	}
	time.Sleep(time.Until(time.Unix(0, terms.Expires)))
	s.Retract(terms)
	until(t, "all but those that were begun have expired or are written", func() bool { // the flusher may be about to tell
		return seen[Expired].Load()+seen[Written].Load() >= offered-begun
	})
	written := seen[Written].Load()
	go io.Copy(io.Discard, s.far) // ends with the connection
	s.Drain(nil)
	s.Close()
	s.Wait()
	if n := used(s.pieces.Budget); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
	if late := seen[Written].Load() - written; late > begun {
		t.Errorf("%d frames were written after they had expired", late)
	}
	return offered == frames
}

// TestOutbox_StampTellsWhatIsLeft waits in a full queue: what is written tells the time that is left then.
func TestOutbox_StampTellsWhatIsLeft(t *testing.T) {
	s := newStation(t, tcp, Config{OutboxBytes: 64 << 10})
	s.Number(1, false)
	s.Detach() // nothing leaves
	var stamped atomic.Int64
	p := s.piece(frame(100))
	p.Counted = true
	p.Terms = &Terms{Expires: time.Now().Add(patience).UnixNano(), Stamp: func(_ []byte, left int64) { stamped.Store(left) }}
	d := s.dispatch()
	s.Offer(p, d)
	p.Buffer.Release()
	next := newStation(t, tcp, Config{OutboxBytes: 64 << 10})
	next.Number(1, false)
	s.Sever()
	s.Outbox.Wait()
	time.Sleep(10 * time.Millisecond)
	s.moveTo(t, next, Position{0, 0}, false, d)
	d.Drop()
	next.wantStream(t, frame(100))
	if left := time.Duration(stamped.Load()); left <= 0 || left > patience-10*time.Millisecond {
		t.Errorf("%v are left of %v after 10ms", left, patience)
	}
	s.Close()
	next.Close()
}

// TestOutbox_ExpiredAfterItWasWritten loses a connection with frames that the peer has perhaps had.
// One whose time is up is not sent again, and still counts.
func TestOutbox_ExpiredAfterItWasWritten(t *testing.T) {
	for _, skips := range []bool{true, false} {
		s, next := newStation(t, tcp, Config{OutboxBytes: 64 << 10}), newStation(t, tcp, Config{OutboxBytes: 64 << 10})
		s.Number(1<<20, skips)
		next.Number(1<<20, skips)
		deliver := func(n uint64) []byte { return wire.AppendDeliver(nil, &wire.Deliver{Seq: n}) }
		terms := [3]Terms{}
		w := [3]witness{}
		d := s.dispatch()
		for i := range terms {
			w[i].seen = make([][]Progress, 1)
			terms[i].Tracker = &w[i]
			p := s.piece(deliver(uint64(i)))
			p.Counted, p.Terms = true, &terms[i]
			if i == 1 {
				terms[i].Expires = time.Now().Add(50 * time.Millisecond).UnixNano()
			}
			s.Offer(p, d)
			p.Buffer.Release()
		}
		d.Drop()
		until(t, "written", func() bool { return w[2].count(0, Written) == 1 })
		s.Detach()
		s.Sever()
		s.Outbox.Wait()
		time.Sleep(time.Until(time.Unix(0, terms[1].Expires)))
		s.Retract(&terms[1])
		if w[1].count(0, Unheard) != 1 {
			t.Errorf("skips %v: nobody is told that it will not be known: %v", skips, w[1].seen)
		}
		if again, ok := s.Resumable(Position{0, 0}); again != 3 || !ok {
			t.Fatalf("cannot go on, %d frames again", again)
		}
		s.moveTo(t, next, Position{0, 0}, false, d)
		d.Drop()
		second := deliver(1)
		if skips {
			second = wire.AppendSkip(nil)
		}
		next.wantStream(t, deliver(0))
		next.wantStream(t, second)
		next.wantStream(t, deliver(2))
		until(t, "acknowledged", func() bool { return next.Acknowledge(3) })
		until(t, "settled", func() bool { return w[2].count(0, Received) == 1 })
		if k := next.Kept(); k.Frames != 3 || k.Acknowledged != 3 || used(s.pieces.Budget) != 0 {
			t.Errorf("skips %v: kept %+v, %d bytes are held", skips, k, used(s.pieces.Budget))
		}
		s.Close()
		next.Close()
	}
}

// TestOutbox_RetractTellsWhatItLeaves has one frame in the hands of the connection and one behind
// it.
func TestOutbox_RetractTellsWhatItLeaves(t *testing.T) {
	s := newStation(t, pipe, Config{OutboxBytes: 64 << 10})
	var seen tally
	terms := &Terms{Tracker: &seen, Expires: time.Now().Add(time.Hour).UnixNano()}
	offer := func() Outcome {
		p := s.piece(frame(100))
		defer p.Buffer.Release()
		p.Terms = terms
		d := s.dispatch()
		defer d.Leave()
		return s.Offer(p, d)
	}
	offer()
	until(t, "it is being written", func() bool {
		s.Outbox.mu.Lock()
		defer s.Outbox.mu.Unlock()
		return s.queue != nil && s.queue.gathered > 0
	})
	offer()
	if held := s.Retract(terms); !held || seen[Expired].Load() != 1 {
		t.Errorf("held is %v, and %d are taken back, want the second of two", held, seen[Expired].Load())
	}
	s.wantStream(t, frame(100))
	until(t, "it is written", func() bool { return seen[Written].Load() == 1 })
	until(t, "the flusher is over", func() bool { return !s.flushes() })
	if s.Retract(terms) {
		t.Error("something is held where there is nothing")
	}
	terms = &Terms{Tracker: &seen, Expires: time.Now().UnixNano()}
	if outcome := offer(); outcome != Late || s.Busy() {
		t.Errorf("what has expired is offered: %v, want %v", outcome, Late)
	}
	s.Close()
}
