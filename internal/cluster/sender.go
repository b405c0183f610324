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
	reach   reach
	counts  SenderCounts
	head    []byte // space for the head of a record
}

// reach says whether a sender can reach the other hub.
//
//	reachable ◄──► lost
//	    │            │
//	    └──► ended ◄─┘
type reach uint8

const (
	reachable  reach = iota
	reachLost        // nothing is sent until the link is established again
	reachEnded       // nothing is sent any more
)

// SenderCounts counts what a hub has sent to another one.
type SenderCounts struct {
	Batches, Messages, Bytes uint64 // that crossed
	Waited                   uint64 // batches that had to wait for room in the window
	UnderWay                 int    // bytes in the window
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
	case s.reach != reachable:
		done.fail(o, firstPositions(len(t.Receivers)), outbox.EventUnreachable)
		s.settle(o, &done)
	case o.isExpired():
		done.fail(o, firstPositions(len(t.Receivers)), outbox.EventExpired)
		s.settle(o, &done)
	case t.Batch.To-t.Batch.From > s.window.limit: // only a message alone is that large
		done.decide(o, firstPositions(len(t.Receivers)), wire.FateTooLarge)
		s.settle(o, &done)
	default:
		a := s.window.offer(o)
		if o.waits() {
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
	o.Batch.Buffer = nil // crossings outlive it, until their fates have come
}

// cross sends o to some of its receivers.
func (s *sender) cross(o *outgoing, to positions) {
	n := to.len()
	c := &crossing{out: o, to: to, unqueued: to, receivers: n, held: true}
	if n < len(o.Receivers) {
		c.order = make([]byte, 0, n)
		to.all(func(i int) { c.order = append(c.order, byte(i)) })
	}
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

// setReach says whether the other hub can be reached. While it cannot, send fails. reachEnded is
// final.
func (s *sender) setReach(r reach) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reach != reachEnded {
		s.reach = r
	}
}

// isReachable reports whether the other hub can be reached.
func (s *sender) isReachable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reach == reachable
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
	return len(s.window.lanes) > 0 || s.window.queue.Len() > 0
}
