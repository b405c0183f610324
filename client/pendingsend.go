package client

import (
	"cmp"
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// pendingSend is a SEND in the send queue. It owns one reference to its buffer.
type pendingSend struct {
	seq         uint64
	cost        int // in credit of the hub
	buffer      *body.Buffer
	length      int
	sockOptions *outbox.Options // nil without a TTL
	receivers   uint8
	wantsReport bool // the hub sends a REPORT
	maybeSent   bool // was in flight in an earlier session, and may have arrived

	// Options that not every hub understands. applyLimits writes them into the frame when the
	// limits of the hub are known.
	options       wire.Options
	reportTimeout time.Duration // 0: not in the SEND
}

// timeLeft returns the time until p, which has a TTL, expires.
func (p *pendingSend) timeLeft() time.Duration {
	return time.Until(time.Unix(0, p.sockOptions.Expires))
}

// hasExpired reports whether p has a TTL that is over.
func (p *pendingSend) hasExpired() bool { return p.sockOptions != nil && p.timeLeft() <= 0 }

// applyLimits writes the options into the frame, as far as the hub understands them. The frame
// must not be shared.
func (p *pendingSend) applyLimits(limits *sendLimits) {
	if p.reportTimeout > 0 {
		wire.PutSendOptions(p.buffer.Bytes(), p.options.WithReportTimeout(min(p.reportTimeout, limits.maxReportTimeout)))
	}
}

// namesAssigned reports whether a receiver has an id that the hub has assigned. If granted is
// true, ids up to wire.MaxGrantedID are not assigned.
func (p *pendingSend) namesAssigned(granted bool) bool {
	m, err := wire.ParseSend(p.buffer.Bytes()[wire.HeaderSize:p.length])
	if err != nil {
		return true // cannot happen
	}
	for id := range m.To.All() {
		if !granted || id > wire.MaxGrantedID {
			return true
		}
	}
	return false
}

// sendLimits are the limits for sending from WELCOME.
type sendLimits struct {
	credit, maxReports int

	receiverCost int // credit that each receiver of a SEND costs

	grantsIDs bool // ids up to wire.MaxGrantedID are valid in every epoch

	// maxReportTimeout is the largest report timeout in a SEND; 0: a SEND must not name one.
	maxReportTimeout time.Duration
}

// cost returns the credit that p costs.
func (l *sendLimits) cost(p *pendingSend) int { return p.length + int(p.receivers)*l.receiverCost }

// pendingSends are the messages of the send queue in the order of their seq. It has no lock of
// its own: sendQueue.mu guards it.
//
//	all  ├── in flight on conn ──┼── unsent ──┤
//	     0                       next
type pendingSends struct {
	all      []pendingSend
	next     int
	cost     int    // of all
	removals uint64 // changes when all becomes shorter
}

// add appends p, which is unsent.
func (s *pendingSends) add(p pendingSend) {
	s.cost += p.cost
	s.all = append(s.all, p)
}

// firstUnsent returns the first message that is not in flight, or nil. It is valid until all
// changes.
func (s *pendingSends) firstUnsent() *pendingSend {
	if s.next == len(s.all) {
		return nil
	}
	return &s.all[s.next]
}

// inFlight returns the messages in flight. They are valid until all changes.
func (s *pendingSends) inFlight() []pendingSend { return s.all[:s.next] }

// find returns the index of a message.
func (s *pendingSends) find(seq uint64) (i int, found bool) {
	return slices.BinarySearchFunc(s.all, seq, func(p pendingSend, seq uint64) int { return cmp.Compare(p.seq, seq) })
}

// remove removes the messages from..to-1, which are either all in flight or all unsent. It does
// not release their buffers.
func (s *pendingSends) remove(from, to int) {
	if from == to {
		return
	}
	for i := range s.all[from:to] {
		s.cost -= s.all[from+i].cost
	}
	if from < s.next {
		s.next -= to - from
	}
	remaining := append(s.all[:from], s.all[to:]...)
	clear(s.all[len(remaining):])
	s.all = remaining
	s.removals++
}

// removeIf removes the unsent messages for which condition returns true. No message may be in
// flight.
func (s *pendingSends) removeIf(condition func(*pendingSend) bool) {
	kept := s.all[:0]
	for _, p := range s.all {
		if condition(&p) {
			s.cost -= p.cost
		} else {
			kept = append(kept, p)
		}
	}
	clear(s.all[len(kept):])
	s.all = kept
	s.removals++
}

// recomputeCosts sets the costs that limits give.
func (s *pendingSends) recomputeCosts(limits *sendLimits) (inFlight int) {
	s.cost = 0
	for i := range s.all {
		p := &s.all[i]
		p.cost = limits.cost(p)
		s.cost += p.cost
		if i < s.next {
			inFlight += p.cost
		}
	}
	return inFlight
}
