package socket

import (
	"slices"
	"testing"
	"testing/synctest"
)

// enqueued is what became of an Enqueue in a goroutine of its own.
type enqueued struct {
	d       *Dispatch
	p       *Piece
	cancel  chan struct{}
	outcome chan Outcome
}

// enqueue begins to enqueue and returns when that has ended or waits. It must be
// called in a bubble.
func (s *station) enqueue(f []byte) *enqueued {
	e := &enqueued{d: s.dispatch(), p: s.piece(f), cancel: make(chan struct{}), outcome: make(chan Outcome, 1)}
	s.add(&s.offered, Tally{e.p.Frames, e.p.Deliveries, e.p.To})
	go func() { // ends when the piece is queued, withdrawn or lost
		outcome := e.d.Enqueue(&s.Outbox, e.p, e.cancel)
		e.p.Buffer.Release()
		e.d.Drop()
		e.outcome <- outcome
	}()
	synctest.Wait()
	return e
}

func (e *enqueued) waits() bool { return len(e.outcome) == 0 }

func TestAFullOutboxLetsItsSendersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, pipe, Config{OutboxBytes: 10_000})
		first := s.enqueue(frame(9_000))
		second := s.enqueue(frame(9_001)) // finds it below its limit, and is taken whole
		third := s.enqueue(frame(9_002))
		if first.waits() || second.waits() || !third.waits() {
			t.Fatalf("waiting: %v, %v, %v, want only the third", first.waits(), second.waits(), third.waits())
		}
		s.wantStream(t, frame(9_000))
		synctest.Wait()
		if third.waits() {
			t.Fatal("there is room for the third")
		}
		for _, e := range []*enqueued{first, second, third} {
			if got := <-e.outcome; got != Queued {
				t.Errorf("outcome %v, want %v", got, Queued)
			}
		}
		s.wantStream(t, slices.Concat(frame(9_001), frame(9_002)))
		s.finish(t)
	})
}

func TestSendersAreServedInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, pipe, Config{OutboxBytes: 10_000})
		s.enqueue(frame(9_000))
		s.enqueue(frame(9_001))
		var waiting []*enqueued
		var want []byte
		for i := range 20 { // small ones too: none of them overtakes
			f := frame([]int{100, 9_000}[i%2] + i)
			waiting = append(waiting, s.enqueue(f))
			want = append(want, f...)
		}
		s.wantStream(t, slices.Concat(frame(9_000), frame(9_001), want))
		synctest.Wait()
		for i, e := range waiting {
			if e.waits() {
				t.Errorf("sender %d still waits", i)
			}
		}
		s.finish(t)
	})
}

func TestACancelledPieceIsNotSent(t *testing.T) {
	for _, which := range []int{0, 1, 2} {
		synctest.Test(t, func(t *testing.T) {
			s := newStation(t, pipe, Config{OutboxBytes: 10_000})
			s.enqueue(frame(20_000))
			waiting := []*enqueued{s.enqueue(frame(1_000)), s.enqueue(frame(8_000)), s.enqueue(frame(1_001))}
			withdrawn := waiting[which]
			close(withdrawn.cancel)
			synctest.Wait()
			if withdrawn.waits() || <-withdrawn.outcome != Parked {
				t.Fatal("a cancelled piece was not given back as parked")
			}
			s.add(&s.offered, Tally{-1, -1, -withdrawn.p.To})
			want := frame(20_000)
			for _, e := range slices.Delete(waiting, which, which+1) {
				want = append(want, frame(e.p.To)...)
			}
			s.wantStream(t, want)
			s.finish(t)
		})
	}
}

func TestWhatIsQueuedCannotBeCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, pipe, Config{OutboxBytes: 10_000})
		cancel := make(chan struct{})
		close(cancel)
		d, p := s.dispatch(), s.piece(frame(100))
		s.add(&s.offered, Tally{1, 1, 100})
		if got := d.Enqueue(&s.Outbox, p, cancel); got != Queued {
			t.Errorf("outcome %v, want %v", got, Queued)
		}
		p.Buffer.Release()
		d.Drop()
		s.wantStream(t, frame(100))
		s.finish(t)
	})
}

func TestClosingLetsTheSendersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, pipe, Config{OutboxBytes: 10_000})
		s.enqueue(frame(20_000))
		waiting := []*enqueued{s.enqueue(frame(100)), s.enqueue(frame(101))}
		s.Close()
		synctest.Wait()
		for _, e := range waiting {
			if e.waits() || <-e.outcome != Gone {
				t.Error("a sender to a closed outbox must learn that it is gone")
			}
		}
		s.Wait()
		s.wantSettled(t)
	})
}

// TestOneSenderToManyReceivers offers to all first, and then waits for the full
// ones.
func TestOneSenderToManyReceivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fast, slow, slower := newStation(t, pipe, Config{OutboxBytes: 1 << 20}),
			newStation(t, pipe, Config{OutboxBytes: 10_000}), newStation(t, pipe, Config{OutboxBytes: 10_000})
		all := []*station{slow, fast, slower}
		d := fast.dispatch()
		for i, want := range []Outcome{Queued, Parked} {
			for _, s := range all {
				if got := s.offer(d, frame(10_000+i)); got != want && s != fast {
					t.Errorf("offer %d: %v, want %v", i, got, want)
				}
			}
		}
		waited := make(chan bool, 1)
		go func() { waited <- d.Wait(nil) }() // ends when the slow ones have taken enough
		fast.wantStream(t, slices.Concat(frame(10_000), frame(10_001)))
		slow.wantStream(t, frame(10_000))
		synctest.Wait()
		if len(waited) > 0 {
			t.Fatal("one receiver is still full")
		}
		slower.wantStream(t, frame(10_000))
		if !<-waited {
			t.Error("Wait says that it was stopped")
		}
		d.Drop()
		for _, s := range all {
			s.finish(t)
		}
	})
}

func TestAStoppedWaitLeavesADispatchThatWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full, other := newStation(t, pipe, Config{OutboxBytes: 10_000}), newStation(t, pipe, Config{OutboxBytes: 10_000})
		d := full.dispatch()
		full.offer(d, frame(10_000))
		full.offer(d, frame(10_001))
		if d.Wait(closed()) {
			t.Fatal("Wait was stopped, and says it was not")
		}
		for range 2 {
			other.offer(d, frame(10_000))
		}
		waited := make(chan bool, 1)
		go func() { waited <- d.Wait(nil) }()                           // ends when other has taken enough
		full.wantStream(t, slices.Concat(frame(10_000), frame(10_001))) // settles what nobody waits for
		synctest.Wait()
		if len(waited) > 0 {
			t.Fatal("a piece of the wait before settled this one")
		}
		other.wantStream(t, frame(10_000))
		if !<-waited {
			t.Error("Wait says that it was stopped")
		}
		d.Drop()
		full.finish(t)
		other.finish(t)
	})
}

// TestWaitingTooLateForOneIsNotWaitingForTheNext has a parked piece settled before
// anybody waits for it.
func TestWaitingTooLateForOneIsNotWaitingForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, pipe, Config{OutboxBytes: 10_000})
		d := s.dispatch()
		for i := range 3 {
			s.offer(d, frame(10_000))
			if s.offer(d, frame(10_001)) != Parked {
				t.Fatal("there is room")
			}
			d.Flush()
			if i < 2 {
				s.wantStream(t, slices.Concat(frame(10_000), frame(10_001)))
				synctest.Wait()
				if !d.Wait(nil) {
					t.Error("Wait says that it was stopped")
				}
			}
		}
		waited := make(chan bool, 1)
		go func() { waited <- d.Wait(nil) }() // ends when the first is taken
		synctest.Wait()
		if len(waited) > 0 {
			t.Fatal("Wait has not waited")
		}
		s.wantStream(t, frame(10_000))
		if !<-waited {
			t.Error("Wait says that it was stopped")
		}
		d.Drop()
		s.finish(t)
	})
}

func TestDropGivesTheSpareBlockBack(t *testing.T) {
	s := newStation(t, pipe, Config{OutboxBytes: 1 << 20})
	d := s.dispatch()
	for range 2 {
		s.offer(d, frame(100))
		s.offer(d, frame(100)) // finds room in the block: another is spare
		if n := s.blocksUsed(); n != 2 {
			t.Errorf("%d blocks, want the queue's and the spare one", n)
		}
		d.Drop()
		s.wantStream(t, slices.Concat(frame(100), frame(100)))
		until(t, "the blocks are given back", func() bool { return s.blocksUsed() == 0 })
	}
	s.finish(t)
}
