package hub

import (
	"math/rand/v2"
	"time"

	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// timedOneIn is of how many reads one has the deliveries timed that it leads to: so few
// that it does not show, and enough for a histogram of a hub that is hardly used.
const timedOneIn = 256

// stopwatch times the deliveries of one read.
type stopwatch struct {
	read time.Time
	tell func(time.Duration)
}

// newStopwatch returns one for a read that has just come in, mostly nil: then
// nothing is timed.
func newStopwatch(tell func(time.Duration)) *stopwatch {
	if tell == nil || rand.Uint32()%timedOneIn != 0 {
		return nil
	}
	return &stopwatch{read: time.Now(), tell: tell}
}

// onlookers see how a run fares that was drawn by lot, beside whoever follows it.
type onlookers struct {
	timer  *stopwatch     // nil: none
	traces *traces        // nil: none
	next   socket.Tracker // who follows it; nil: nobody
}

// before returns the tracker that tells them and then next. Without any it is next.
func (o onlookers) before(next socket.Tracker) socket.Tracker {
	if o.timer == nil && o.traces == nil {
		return next
	}
	all := o // only this one is allocated, and not o for each run
	all.next = next
	return &all
}

// Progress tells all of them: see socket.Tracker.
func (o *onlookers) Progress(at int, what socket.Progress, first, frames int) {
	if o.timer != nil && what == socket.Written {
		o.timer.tell(time.Since(o.timer.read))
	}
	if o.traces != nil {
		o.traces.progress(at, what, first, frames)
	}
	if o.next != nil {
		o.next.Progress(at, what, first, frames)
	}
}

// witnesses are those who want to know how a run fares with each receiver.
type witnesses struct {
	batch  *batch  // nil: its sender does not
	traces *traces // nil: none of its messages is traced
}

// witness returns those of a piece that is about to be offered, which then tells them what
// becomes of it later.
func (t *turn) witness(ids []uint64, found []*session, piece *socket.Piece) (w witnesses) {
	if t.session.hub.config.Trace != nil {
		w.traces = t.trace(ids, piece)
	}
	seen := onlookers{timer: t.timer, traces: w.traces}
	if t.class.followed() {
		w.batch = t.newBatch(t.first, piece.Frames, found, seen)
		piece.Terms = &w.batch.terms
	} else if tracker := seen.before(nil); tracker != nil {
		piece.Terms = &socket.Terms{Tracker: tracker}
	}
	return w
}

// missed tells them that nobody gets it at one place.
func (w *witnesses) missed(at int, fate wire.Fate, first, frames int) {
	if w.batch != nil {
		w.batch.settle(at, first, frames, fate)
	}
	if w.traces != nil {
		w.traces.note(at, fate, first, frames)
	}
}

// newer reports whether a receiver gets it in version 2. A batch has decided that before anything was offered.
func (w *witnesses) newer(at int, receiver *session) bool {
	if w.batch != nil {
		return !w.batch.older.has(at)
	}
	return receiver.link.Load() != nil
}

// reach tells them that it is about to be offered to the receiver at one place, or that there is
// none.
func (w *witnesses) reach(at int) {
	if w.batch != nil {
		w.batch.reached.Store(int32(at + 1))
	}
}

// offered tells them what the outbox of a receiver did with it.
func (w *witnesses) offered(p *socket.Piece, outcome socket.Outcome) {
	if w.batch != nil {
		w.batch.offered(p, outcome)
	}
	if w.traces != nil {
		w.traces.offered(p, outcome)
	}
}
