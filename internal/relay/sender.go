package relay

import (
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// Sender sends messages to their destinations. Its owner pools it and reuses it for many messages.
// It belongs to one goroutine at a time. Between Reset and Begin it holds nothing.
type Sender struct {
	Flusher outbox.Flusher // to flush after a group of Sends

	relay   *Relay
	latency *latencySample // of the deliveries; nil: they are not timed
	readAt  time.Time      // when the messages were read; zero: not yet needed
	recvBuf *recvBuf       // nil until needed
	batch   outbox.Batch   // being offered; a field, because a variable would be allocated for Offer

	dropped [wire.MaxFate + 1]int // messages that were not queued, by fate
	drops   int                   // sum of dropped
}

// recvBuf is space for the receivers of a message. It is most of the memory that a Sender needs. It
// is separate, so that thousands of goroutines can wait without one.
type recvBuf struct {
	ids   [wire.MaxReceivers]uint64
	dests [wire.MaxReceivers]Destination
}

var recvBufs = sync.Pool{New: func() any { return new(recvBuf) }}

// Begin prepares s for messages that have just been read. account is charged for copies of
// them.
func (s *Sender) Begin(r *Relay, account *body.Account) {
	s.relay, s.Flusher.CopyAccount = r, account
	s.latency = newLatencySample(r.config.OnLatency)
	if r.traces.config.OnTrace != nil {
		s.readAt = time.Now()
	}
}

// Reset flushes, gives back all memory, and passes the counts of dropped messages to Config.OnDrop.
func (s *Sender) Reset() {
	s.Flusher.Reset()
	s.ReleaseRecvBuf()
	if s.drops > 0 {
		for fate, n := range s.dropped {
			if n > 0 {
				s.relay.config.OnDrop(wire.Fate(fate), n)
			}
		}
		s.drops, s.dropped = 0, [wire.MaxFate + 1]int{}
	}
	s.relay, s.Flusher.CopyAccount, s.readAt, s.latency = nil, nil, time.Time{}, nil
}

// ReadAt returns the time at which the messages were read. The first call sets it if Begin has
// not.
func (s *Sender) ReadAt() time.Time {
	if s.readAt.IsZero() {
		s.readAt = time.Now()
	}
	return s.readAt
}

// IDBuf returns space for wire.MaxReceivers ids. It is valid until ReleaseRecvBuf.
func (s *Sender) IDBuf() []uint64 {
	if s.recvBuf == nil {
		s.recvBuf = recvBufs.Get().(*recvBuf)
	}
	return s.recvBuf.ids[:0]
}

// ReleaseRecvBuf gives back what is not needed while the goroutine waits.
func (s *Sender) ReleaseRecvBuf() {
	if s.recvBuf != nil {
		recvBufs.Put(s.recvBuf)
		s.recvBuf = nil
	}
}

// Send offers a batch of messages to all receivers. It reports whether the batch is blocked at one
// of them, and whether it is underWay to receivers at other hubs, which have to say that they have
// queued it. In both cases Flusher has blocked sends, for which the caller can wait. ids must be in
// the space of IDBuf. Send never waits: a slow receiver delays none of the others.
func (s *Sender) Send(m *Messages, ids []uint64, b outbox.Batch) (blocked, underWay bool) {
	dests := s.recvBuf.dests[:len(ids)]
	s.relay.config.Find(ids, dests)
	excluded := s.removeExcluded(m, ids, dests)
	s.batch = b
	batch := &s.batch
	r := s.relay.newRecorders(m, s.readAt, s.latency, ids, dests, batch)
	batch.Reliable = m.Options.IsSend
	observed := r.observed()
	own := m.version()
	remote := false              // a receiver is at another hub
	var translated *outbox.Batch // for receivers of the other protocol version
	for i, dest := range dests {
		if dest == nil {
			s.recordAbsent(m, &r, i, ids[i], excluded.has(i))
			continue
		}
		b, version := batch, 0
		if r.tracker != nil {
			version = r.tracker.beginOffer(i)
		} else {
			version = dest.Version()
		}
		if version == versionRemote {
			remote = true
			continue
		}
		if version != own {
			if translated == nil {
				translated = s.translate(m, batch)
			}
			b = translated
		}
		b.Receiver = i
		dests[i] = nil
		if outcome := dest.Offer(b, &s.Flusher); observed || outcome != outbox.Queued {
			if s.onOffered(dest, b, outcome, &r) {
				blocked = s.onBlocked(m, i) || blocked
			}
		}
	}
	if translated != nil {
		translated.Buffer.Release()
	}
	if remote {
		underWay = s.transfer(m, ids, dests, &r)
	}
	s.batch = outbox.Batch{}
	return blocked, underWay
}

// recordAbsent records that an id has no destination to which the batch can be offered. excluded:
// removeExcluded has removed the destination.
func (s *Sender) recordAbsent(m *Messages, r *recorders, receiver int, id uint64, excluded bool) {
	fate := wire.FateUnknown
	if isLost := s.relay.config.IsLost; excluded && m.FromHub {
		fate = wire.FateGone
	} else if excluded {
		fate = wire.FateRefused
	} else if isLost != nil && isLost(id) {
		fate = wire.FateUnreachable
	}
	if r.tracker != nil {
		r.tracker.beginOffer(receiver)
	}
	s.recordDrop(r, receiver, fate, 0, s.batch.Frames)
}

// removeExcluded sets to nil the dests that must not get the messages, and returns their indexes:
// of messages of this hub, those that the origin is not permitted to send to; of messages of
// another hub, those that have left this one for a third.
func (s *Sender) removeExcluded(m *Messages, ids []uint64, dests []Destination) (excluded indexSet) {
	if m.FromHub {
		return removeRemotes(dests)
	}
	canSend := m.Origin.CanSend()
	if canSend == nil {
		return excluded
	}
	n, lastID := 0, uint64(0)
	for i, id := range ids {
		if !canSend(id) {
			dests[i] = nil
			excluded.set(i)
			n, lastID = n+1, id
		}
	}
	if n > 0 {
		s.relay.config.OnForbidden(m.Origin, lastID)
	}
	return excluded
}

// onBlocked records that a receiver blocks the batch, and reports whether the Flusher counts it.
func (s *Sender) onBlocked(m *Messages, receiver int) bool {
	if m.OnBlocked == nil {
		return true
	}
	s.Flusher.OnUnblocked(m.OnBlocked(receiver))
	return false
}

// removeRemotes sets to nil the dests at other hubs, and returns their indexes.
func removeRemotes(dests []Destination) (removed indexSet) {
	for i, dest := range dests {
		if _, ok := dest.(*Remote); ok {
			dests[i] = nil
			removed.set(i)
		}
	}
	return removed
}

// offer offers a batch to one receiver, and reports whether it is blocked there, whole or in part.
func (s *Sender) offer(dest Destination, b *outbox.Batch, r *recorders) (blocked bool) {
	return s.onOffered(dest, b, dest.Offer(b, &s.Flusher), r)
}

// onOffered handles the outcome of an offer, and reports whether the batch or a part of it is
// blocked.
func (s *Sender) onOffered(dest Destination, b *outbox.Batch, outcome outbox.Outcome, r *recorders) (blocked bool) {
	switch outcome {
	case outbox.TooLarge:
		return s.offerParts(dest, b, r)
	case outbox.Closed:
		s.countDrop(wire.FateGone, b.Frames) // onEnqueue records the fate
	}
	r.onEnqueue(b, outcome)
	return outcome == outbox.Blocked
}

// offerParts offers a batch that has a frame above the receiver's maximum in two halves, and so
// on until the frame is alone and dropped. It reports whether a part is blocked.
func (s *Sender) offerParts(dest Destination, b *outbox.Batch, r *recorders) (blocked bool) {
	if b.Frames == 1 {
		s.recordDrop(r, b.Receiver, wire.FateTooLarge, b.First, 1)
		return false
	}
	half := *b
	half.To, half.Frames = half.From, 0
	for frame := range wire.Frames(b.Buffer.Bytes()[b.From:b.To]) {
		if half.Frames == b.Frames/2 {
			break
		}
		half.To += len(frame)
		half.Frames++
	}
	rest := *b
	rest.From, rest.First, rest.Frames = half.To, b.First+half.Frames, b.Frames-half.Frames
	blocked = s.offer(dest, &half, r)
	return s.offer(dest, &rest, r) || blocked
}

// recordDrop counts messages that are not offered to one receiver, and records their fate.
func (s *Sender) recordDrop(r *recorders, receiver int, fate wire.Fate, first, frames int) {
	s.countDrop(fate, frames)
	r.recordFate(receiver, fate, first, frames)
}

// countDrop counts messages that were not queued for one receiver, until Reset.
func (s *Sender) countDrop(fate wire.Fate, messages int) {
	s.dropped[fate] += messages
	s.drops += messages
}

// translate returns the frames of a batch in the other protocol version, in a buffer of its own,
// which the caller must release.
func (s *Sender) translate(m *Messages, batch *outbox.Batch) *outbox.Batch {
	from := batch.Buffer.Bytes()[batch.From:batch.To]
	account := s.Flusher.CopyAccount
	if m.Options.IsSend {
		buffer := account.ForceAcquire(len(from))
		out := buffer.Bytes()[:0]
		for frame := range wire.Frames(from) {
			_, payload := wire.Split(frame)
			d, _ := wire.ParseDeliver(payload) // encoded by this hub
			out = wire.AppendRelayDelivery(out, d.Body)
		}
		return &outbox.Batch{Buffer: buffer, To: len(out), Frames: batch.Frames, Messages: true, Options: batch.Options}
	}
	readAt := m.ReadAt
	if readAt == 0 {
		readAt = s.ReadAt().UnixMicro()
	}
	d := wire.Deliver{Sender: m.Origin.ID(), Time: uint64(readAt)}
	buffer := account.ForceAcquire(len(from) + batch.Frames*(wire.DeliverLen(0)-wire.RelayDeliveryLen(0)))
	out := buffer.Bytes()[:0]
	for frame := range wire.Frames(from) {
		_, d.Body = wire.Split(frame)
		out = wire.AppendDeliver(out, &d)
	}
	return &outbox.Batch{Buffer: buffer, To: len(out), Frames: batch.Frames, Messages: true, Reliable: true, Options: batch.Options}
}
