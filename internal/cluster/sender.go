package cluster

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/wire"
)

// stream is the stream of records to another hub. It is implemented by a link.
type stream interface {
	// Append appends a copy of head, and then a part of buf: see link.Link.Append.
	Append(head []byte, buf *body.Buffer, from, to int) (generation, end uint64)

	// Flush has what was appended sent: see link.Link.Flush.
	Flush()

	// Now returns the time in µs: see link.Link.Now.
	Now() int64
}

// sender sends batches to the clients of another hub, and passes on what happens to them. Its
// methods can be called concurrently, unless they say otherwise.
type sender struct {
	// Static after init.
	stream stream
	onDrop func(fate wire.Fate, messages int)

	// mu guards the fields below.
	mu      sync.Mutex
	window  window
	number  uint64                        // of the last transfer
	open    map[uint64]*crossing          // by number
	waiting map[*outbox.Options]*outgoing // those of the outgoings with options that wait
	lost    bool                          // the other hub cannot be reached: nothing is sent
	counts  SenderCounts
	head    []byte // space for the head of a record
}

// SenderCounts counts what a hub has sent to another one.
type SenderCounts struct {
	Batches, Messages, Bytes uint64 // that crossed
	Waited                   uint64 // batches that had to wait for room in the window
	UnderWay                 int    // bytes in the window
}

// crossing is one batch that was sent: an outgoing, or a part of its receivers.
type crossing struct {
	out        *outgoing
	to         positions // the receivers
	unqueued   positions // those for which it is not queued
	generation uint64    // of the link
	end        uint64    // offset in the stream
	held       bool      // it counts in the sum of the window
	undecided  int       // fates to come: one for each message and receiver; 0 without reports
}

func (s *sender) init(stream stream, limit int, onDrop func(fate wire.Fate, messages int)) {
	s.stream, s.onDrop = stream, onDrop
	s.window.init(limit)
	s.open = make(map[uint64]*crossing)
	s.waiting = make(map[*outbox.Options]*outgoing)
}

// send implements relay.Peer.
func (s *sender) send(t *relay.Transfer) {
	o := newOutgoing(t)
	t.Batch.Buffer.Retain() // until nothing waits; a crossing has a reference of its own
	var done completions
	s.mu.Lock()
	switch {
	case s.lost:
		done.fail(o, firstPositions(len(t.Receivers)), outbox.EventUnreachable)
		s.settle(o, &done)
	case o.isExpired():
		done.fail(o, firstPositions(len(t.Receivers)), outbox.EventExpired)
		s.settle(o, &done)
	case o.size > s.window.limit && t.Batch.Frames == 1 && t.Batch.To-t.Batch.From > s.window.limit:
		done.decide(o, firstPositions(len(t.Receivers)), wire.FateTooLarge)
		s.settle(o, &done)
	default:
		a := s.window.offer(o)
		if a.send.len() < len(t.Receivers) {
			s.counts.Waited++
		}
		s.apply(o, &a, &done)
	}
	s.mu.Unlock()
	s.stream.Flush()
	done.run(s.onDrop)
}

// apply does what the window has decided about o.
func (s *sender) apply(o *outgoing, a *admission, done *completions) {
	if a.rejected != (positions{}) {
		done.decide(o, a.rejected, wire.FateFull)
	}
	for _, d := range a.dropped {
		done.failOne(d.out, d.position, outbox.EventDropped)
		s.settle(d.out, done)
	}
	if a.send != (positions{}) {
		s.cross(o, a.send)
	}
	if options := o.Batch.Options; options != nil && o.waits() {
		s.waiting[options] = o
	}
	s.settle(o, done)
}

// settle gives up what o needs only while it waits.
func (s *sender) settle(o *outgoing, done *completions) {
	if o.waits() || o.settled {
		return
	}
	o.settled = true
	if s.waiting[o.Batch.Options] == o {
		delete(s.waiting, o.Batch.Options)
	}
	done.buffers = append(done.buffers, o.Batch.Buffer)
}

// cross sends o to some of its receivers.
func (s *sender) cross(o *outgoing, to positions) {
	n := to.len()
	c := &crossing{out: o, to: to, unqueued: to, held: true}
	if o.ReportBy != (time.Time{}) && o.Events != nil {
		c.undecided = n * o.Batch.Frames
	}
	s.number++
	s.open[s.number] = c
	now := s.stream.Now()
	h := batchHead{
		number: s.number, origin: o.Origin, firstSeq: o.FirstSeq, readAt: o.ReadAt,
		options: o.Options.Wire, frames: o.Batch.Frames, isSend: o.Options.IsSend,
	}
	if o.Options.Expires != 0 {
		h.expires = max(1, now+(o.Options.Expires-time.Now().UnixNano())/1000)
	}
	if c.undecided > 0 {
		h.reportBy = max(1, now+time.Until(o.ReportBy).Microseconds())
	}
	size := o.Batch.To - o.Batch.From
	head := appendBatchHead(s.head[:0], &h, n, size)
	to.all(func(i int) { head = binary.BigEndian.AppendUint64(head, o.Receivers[i].ID) })
	c.generation, c.end = s.stream.Append(head, o.Batch.Buffer, o.Batch.From, o.Batch.To)
	s.head = head
	s.counts.Batches++
	s.counts.Messages += uint64(o.Batch.Frames)
	s.counts.Bytes += uint64(size)
}

// retract implements relay.Peer.
func (s *sender) retract(options *outbox.Options) {
	var done completions
	s.mu.Lock()
	if o := s.waiting[options]; o != nil {
		done.fail(o, s.window.remove(o), outbox.EventExpired)
		s.settle(o, &done)
		s.sendWaiting(&done)
	}
	s.mu.Unlock()
	s.stream.Flush()
	done.run(s.onDrop)
}

// sendWaiting sends what waits and has room.
func (s *sender) sendWaiting(done *completions) {
	var a admission
	for o := s.window.next(&a); o != nil; o = s.window.next(&a) {
		if o.isExpired() {
			s.uncharge(o, a.send)
			done.fail(o, a.send, outbox.EventExpired)
			a.send = positions{}
		}
		s.apply(o, &a, done)
	}
}

// isExpired reports whether the messages have expired.
func (o *outgoing) isExpired() bool {
	return o.Options.Expires != 0 && time.Now().UnixNano() >= o.Options.Expires
}

// uncharge undoes window.charge.
func (s *sender) uncharge(o *outgoing, to positions) {
	if to == (positions{}) {
		return
	}
	s.window.releaseSum(o)
	to.all(func(i int) { s.window.release(o, o.Receivers[i].ID) })
}

// handleQueued handles a recordQueued.
func (s *sender) handleQueued(head []byte) error {
	if len(head) < queuedHeadSize {
		return nonsense("QUEUED with a head of %d bytes", len(head))
	}
	first, last := binary.BigEndian.Uint64(head), binary.BigEndian.Uint64(head[8:])
	return s.whileLocked(func(done *completions) error {
		if last > s.number || first > last || first == 0 {
			return nonsense("QUEUED for transfers %d to %d of %d", first, last, s.number)
		}
		if last-first > uint64(len(s.open)) {
			return nonsense("QUEUED for %d transfers of %d", last-first+1, len(s.open))
		}
		for number := first; number <= last; number++ {
			if c := s.open[number]; c != nil {
				s.onQueued(c, c.unqueued, done)
				s.releaseHeld(c)
				s.closeIfOver(number, c)
			}
		}
		return nil
	})
}

// handlePartQueued handles a recordPartQueued.
func (s *sender) handlePartQueued(head []byte) error {
	if len(head) < partHeadSize {
		return nonsense("QUEUED in part with a head of %d bytes", len(head))
	}
	number := binary.BigEndian.Uint64(head)
	return s.whileLocked(func(done *completions) error {
		c := s.open[number]
		if c == nil {
			return nil // reported by another way since
		}
		order := c.order()
		var queued positions
		for _, position := range head[partHeadSize:] {
			if int(position) >= len(order) {
				return nonsense("QUEUED for receiver %d of %d", position, len(order))
			}
			if i := order[position]; c.unqueued.has(i) {
				queued.set(i)
			}
		}
		s.onQueued(c, queued, done)
		s.closeIfOver(number, c)
		return nil
	})
}

// order returns the positions of the receivers in the order in which they crossed.
func (c *crossing) order() []int {
	order := make([]int, 0, len(c.out.Receivers))
	c.to.all(func(i int) { order = append(order, i) })
	return order
}

// onQueued records that a crossing is queued for receivers, or needs no room for them any more.
func (s *sender) onQueued(c *crossing, to positions, done *completions) {
	to.all(func(i int) {
		c.unqueued.clear(i)
		s.window.release(c.out, c.out.Receivers[i].ID)
		done.unblock(c.out)
	})
}

// releaseHeld gives up the room of a crossing in the sum of the window.
func (s *sender) releaseHeld(c *crossing) {
	if c.held {
		c.held = false
		s.window.releaseSum(c.out)
	}
}

// closeIfOver forgets a crossing of which nothing is to come.
func (s *sender) closeIfOver(number uint64, c *crossing) {
	if !c.held && c.undecided <= 0 && c.unqueued == (positions{}) {
		delete(s.open, number)
	}
}

// handleFates handles a recordFates.
func (s *sender) handleFates(head, reports []byte) error {
	if len(head) < fatesHeadSize {
		return nonsense("FATES with a head of %d bytes", len(head))
	}
	number := binary.BigEndian.Uint64(head)
	s.mu.Lock()
	c := s.open[number]
	s.mu.Unlock()
	if c == nil || c.out.Events == nil {
		return nil // the tracker has given up
	}
	order, fates := c.order(), 0
	for frame := range wire.Frames(reports) {
		t, payload := wire.Split(frame)
		report, err := wire.ParseReport(payload)
		if t != wire.TypeReport || err != nil || len(report.Fates) != len(order) || report.Seq-c.out.FirstSeq >= uint64(c.out.Batch.Frames) {
			return nonsense("FATES of transfer %d with a wrong REPORT", number)
		}
		message := int(report.Seq - c.out.FirstSeq)
		for i, fate := range report.Fates {
			if wire.Fate(fate) > wire.MaxFate {
				return nonsense("fate %d", fate)
			}
			c.out.Events.Decide(c.out.Receivers[order[i]].Index, message, 1, wire.Fate(fate))
		}
		fates += len(report.Fates)
	}
	return s.whileLocked(func(*completions) error {
		c.undecided -= fates
		s.closeIfOver(number, c)
		return nil
	})
}

// whileLocked calls f with mu held, sends what has room then, and runs the completions.
func (s *sender) whileLocked(f func(done *completions) error) error {
	var done completions
	s.mu.Lock()
	err := f(&done)
	s.sendWaiting(&done)
	s.mu.Unlock()
	done.run(s.onDrop)
	return err
}

// onBreak fails all batches of a generation of the link, of which the other hub can have got what
// lies below the offset sent in the stream, and all that wait.
func (s *sender) onBreak(generation, sent uint64) {
	var done completions
	s.mu.Lock()
	for number, c := range s.open {
		if c.generation > generation {
			continue
		}
		event := outbox.EventUnacked
		if c.end > sent {
			event = outbox.EventUnreachable
		}
		done.failCrossing(c, event)
		s.onQueued(c, c.unqueued, &done)
		s.releaseHeld(c)
		delete(s.open, number)
	}
	s.window.removeAll(func(o *outgoing, waited positions) {
		done.fail(o, waited, outbox.EventUnreachable)
		s.settle(o, &done)
	})
	s.mu.Unlock()
	done.run(s.onDrop)
}

// setLost says whether the other hub can be reached. While it cannot, send fails.
func (s *sender) setLost(lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = lost
}

// stats returns the counts.
func (s *sender) stats() SenderCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := s.counts
	counts.UnderWay = s.window.underWay
	return counts
}

// isBusy reports whether a batch is not queued at the other hub yet.
func (s *sender) isBusy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.window.underWay > 0 || s.window.queue.Len() > 0
}
