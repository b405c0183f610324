package client

import (
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// maxRepeatWindow is how far below the highest seq of a sender a message is known, in seqs: twice
	// as many as a client can have without a report by default. The last 64 of them are given up,
	// because bits are cleared by words.
	maxRepeatWindow = 2048

	// maxRepeatSenders is the maximum number of senders whose messages are known. They take 270 KiB.
	maxRepeatSenders = 1024

	// firstClusterID is the first id that hubs of a cluster assign. They give none of them twice.
	firstClusterID = 1 << 63
)

// repeats recognizes messages that a sender has sent again after it has lost its hub. Such a client
// keeps its id and its seqs, which together name a message. What is not known any more is no
// repeat: the fate "received" of a message that is dropped must be true.
//
// A message that wants a verdict is never a repeat: the application has to decide again, because
// the first verdict is perhaps lost with the hub. Nor is a message of a sender with a granted id,
// whose next process begins with seq 1.
//
// The read goroutine owns a repeats.
type repeats struct {
	enabled      bool
	last         *senderSeqs // of lastSender
	lastSender   uint64
	recent, aged map[uint64]*senderSeqs // by sender; aged is dropped when recent is full
}

// senderSeqs are the seqs of the messages that came from one sender.
type senderSeqs struct {
	highest uint64
	time    uint64 // Time of the message with the highest seq
	seen    [maxRepeatWindow / 64]uint64
}

// reset forgets everything. enabled says whether senders can send again under the same id.
func (r *repeats) reset(enabled bool) { *r = repeats{enabled: enabled} }

// isRepeat reports whether d came before, and records it. r must be enabled.
func (r *repeats) isRepeat(d *wire.Deliver) bool {
	if d.Sender < firstClusterID || d.Seq == 0 || d.Flags&wire.DeliverWantVerdict != 0 {
		return false
	}
	if r.last == nil || d.Sender != r.lastSender {
		r.last, r.lastSender = r.find(d.Sender), d.Sender
	}
	return r.last.isRepeat(d.Seq, d.Time)
}

// find returns the seqs of a sender, which it adds if it is not known.
func (r *repeats) find(sender uint64) *senderSeqs {
	if s := r.recent[sender]; s != nil {
		return s
	}
	if len(r.recent) >= maxRepeatSenders/2 || r.recent == nil {
		r.recent, r.aged = make(map[uint64]*senderSeqs), r.recent
	}
	s := r.aged[sender]
	if s == nil {
		s = new(senderSeqs)
	}
	r.recent[sender] = s
	return s
}

// isRepeat reports whether the message with that seq and time came before, and records it. A
// message that names its receiver several times comes as often, with the same time.
func (s *senderSeqs) isRepeat(seq, time uint64) bool {
	word, bit := &s.seen[seq/64%uint64(len(s.seen))], uint64(1)<<(seq%64)
	switch {
	case seq > s.highest:
		s.advance(seq)
		s.time = time
	case s.highest-seq >= maxRepeatWindow-64:
		return false
	case *word&bit != 0:
		return time != s.time
	}
	*word |= bit
	return false
}

// advance makes seq the highest one. The words of the seqs after the highest one become those of
// seqs that have not come.
func (s *senderSeqs) advance(seq uint64) {
	n := uint64(len(s.seen))
	if seq/64-s.highest/64 >= n {
		s.seen = [maxRepeatWindow / 64]uint64{}
	} else {
		for word := s.highest/64 + 1; word <= seq/64; word++ {
			s.seen[word%n] = 0
		}
	}
	s.highest = seq
}
