package cluster

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// crossing is one batch that was sent: an outgoing, or a part of its receivers.
type crossing struct {
	out        *outgoing
	to         positions // the receivers
	receivers  int       // their number
	order      []byte    // which receivers crossed, in order; nil: all
	unqueued   positions // those for which it is not queued
	generation uint64    // of the link
	end        uint64    // offset in the stream
	held       bool      // it counts in the sum of the window
	undecided  int       // fates to come: one for each message and receiver; 0 without reports
}

// handleQueued handles a recordQueued. It can name batches that are not open any more: the other
// hub can append what it says of the last generation before it knows that the link has broken.
func (s *sender) handleQueued(head []byte) error {
	if len(head) < queuedHeadSize {
		return nonsense("QUEUED with a head of %d bytes", len(head))
	}
	first, last := binary.BigEndian.Uint64(head), binary.BigEndian.Uint64(head[8:])
	return s.whileLocked(func(done *completions) error {
		if last > s.number || first > last || first == 0 {
			return nonsense("QUEUED for transfers %d to %d of %d", first, last, s.number)
		}
		if last-first <= uint64(len(s.open)) {
			for number := first; number <= last; number++ {
				s.queued(number, done)
			}
			return nil
		}
		for _, number := range slices.Sorted(maps.Keys(s.open)) {
			if first <= number && number <= last {
				s.queued(number, done)
			}
		}
		return nil
	})
}

// queued records that a transfer is queued for all receivers. It is called with mu held.
func (s *sender) queued(number uint64, done *completions) {
	if c := s.open[number]; c != nil {
		s.onQueued(c, c.unqueued, done)
		s.releaseHeld(c)
		s.closeIfOver(number, c)
	}
}

// handlePartQueued handles a recordPartQueued.
func (s *sender) handlePartQueued(head []byte) error {
	if len(head) < partHeadSize {
		return nonsense("QUEUED in part with a head of %d bytes", len(head))
	}
	number, at := binary.BigEndian.Uint64(head), head[partHeadSize:]
	if n := int(head[9]); n <= len(at) {
		at = at[:n]
	} else {
		return nonsense("QUEUED for %d receivers in %d bytes", n, len(at))
	}
	return s.whileLocked(func(done *completions) error {
		c := s.open[number]
		if c == nil {
			return nil // the link has broken meanwhile
		}
		var queued positions
		for _, position := range at {
			i, ok := c.at(int(position))
			if !ok {
				return nonsense("QUEUED for receiver %d of %d", position, c.receivers)
			}
			if c.unqueued.has(i) {
				queued.set(i)
			}
		}
		s.onQueued(c, queued, done)
		if head[8]&partAccepted != 0 {
			s.releaseHeld(c)
		}
		s.closeIfOver(number, c)
		return nil
	})
}

// at returns which of the receivers of the batch has crossed at a position. ok is false if there
// are not as many.
func (c *crossing) at(position int) (i int, ok bool) {
	switch {
	case position >= c.receivers:
		return 0, false
	case c.order != nil:
		return int(c.order[position]), true
	}
	return position, true
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
	fates := 0
	for frame := range wire.Frames(reports) {
		report, message, err := c.parseReport(frame)
		if err != nil {
			return nonsense("FATES of transfer %d: %v", number, err)
		}
		for position, fate := range report.Fates {
			i, _ := c.at(position)
			c.out.Events.Decide(c.out.Receivers[i].Index, message, 1, wire.Fate(fate))
		}
		fates += len(report.Fates)
	}
	return s.whileLocked(func(*completions) error {
		c.undecided -= fates
		s.closeIfOver(number, c)
		return nil
	})
}

// parseReport parses a REPORT about a message of a crossing, and returns the index of the message.
func (c *crossing) parseReport(frame []byte) (report wire.Report, message int, err error) {
	t, payload := wire.Split(frame)
	if t != wire.TypeReport {
		return report, 0, fmt.Errorf("frame of type %#x", uint8(t))
	}
	if report, err = wire.ParseReport(payload); err != nil {
		return report, 0, err
	}
	index := report.Seq - c.out.FirstSeq
	if len(report.Fates) != c.receivers || index >= uint64(c.out.Batch.Frames) {
		return report, 0, fmt.Errorf("REPORT of message %d with %d fates", report.Seq, len(report.Fates))
	}
	return report, int(index), nil
}

// reportGrace is how long after ReportBy a crossing waits for fates. The tracker has given up then.
const reportGrace = 10 * time.Second

// dropUndecided forgets the crossings whose fates have not come in time: another hub that says
// nothing of them must not cost memory for ever. It looks at all crossings.
func (s *sender) dropUndecided(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for number, c := range s.open {
		if c.undecided > 0 && now.Sub(c.out.ReportBy) > reportGrace {
			c.undecided = 0
			s.closeIfOver(number, c)
		}
	}
}

// whileLocked calls f with mu held, sends what has room then, and runs the completions.
func (s *sender) whileLocked(f func(done *completions) error) error {
	var done completions
	s.mu.Lock()
	before := s.number
	err := f(&done)
	s.sendWaiting(&done)
	sent := s.number != before
	s.mu.Unlock()
	if sent {
		s.stream.Flush()
	}
	done.run(s.onDrop)
	return err
}
