package simulation

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/stats"
	"github.com/sechlol/go-message-hub/wire"
)

// reportChecker is what one sender is told of its messages. What it says is compared with
// what arrived when the run is over.
type reportChecker struct {
	// Static after newReportChecker.
	level      wire.Level
	messages   uint32
	epoch      time.Time
	oneIn      int
	onComplete func()      // called once, when all have come
	onError    func(error) // called when one will not come

	mu        sync.Mutex
	closed    bool                   // the run is over: what clients that leave are told is no part of it
	reported  uint32                 // messages that are reported
	reached   []uint64               // bits by number: every receiver has the level
	unreached map[uint32][]wire.Fate // by number: the fates of all others
	latency   *stats.Latency
}

// maxUnreached bounds what a hub that reports nothing good can make a run remember.
const maxUnreached = 1 << 16

func newReportChecker(c Config, plan Plan, epoch time.Time, oneIn int, onComplete func(), onError func(error)) *reportChecker {
	return &reportChecker{
		level: c.ReportLevel.wire(), messages: plan.messagesPerSender(), epoch: epoch, oneIn: oneIn, onComplete: onComplete, onError: onError,
		unreached: make(map[uint32][]wire.Fate), latency: stats.NewLatency(),
	}
}

// onReport returns what is to be done with the report of a message that was due then.
func (r *reportChecker) onReport(number uint32, due time.Duration) func(*client.Report, error) {
	return func(report *client.Report, err error) {
		now := time.Since(r.epoch)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.closed {
			return
		}
		if err != nil {
			r.onError(fmt.Errorf("no report of message %d: %w", number, err))
			return
		}
		if number%uint32(r.oneIn) == 0 {
			r.latency.Record(max(0, now-due))
		}
		r.record(number, report.Fates)
		if r.reported++; r.reported == r.messages {
			r.onComplete()
		}
	}
}

func (r *reportChecker) record(number uint32, fates []wire.Fate) {
	if !slices.ContainsFunc(fates, func(f wire.Fate) bool { return !f.Reaches(r.level) }) {
		for len(r.reached) <= int(number/64) {
			r.reached = append(r.reached, 0)
		}
		r.reached[number/64] |= 1 << (number % 64)
		return
	}
	if len(r.unreached) < maxUnreached {
		r.unreached[number] = slices.Clone(fates)
	}
}

// close ends the taking of reports.
func (r *reportChecker) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

// count returns how many messages are reported.
func (r *reportChecker) count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return uint64(r.reported)
}

// expectedFate returns the fate of a message that has just the level.
func (r *reportChecker) expectedFate() wire.Fate { return wire.FateQueued + wire.Fate(r.level) }

// fate returns what was said of a message for the receiver at a place of its list;
// false: nothing, yet.
func (r *reportChecker) fate(number uint32, index int) (wire.Fate, bool) {
	if int(number/64) < len(r.reached) && r.reached[number/64]>>(number%64)&1 == 1 {
		return r.expectedFate(), true
	}
	fates, ok := r.unreached[number]
	if !ok || index >= len(fates) {
		return 0, false
	}
	return fates[index], true
}

// untrueFates returns how many fates of one sender do not fit what a receiver got, and the
// first few. place is where that one stands in the sender's list; missing is what it did not get.
func (r *reportChecker) untrueFates(index int, missing gaps) (numbers gaps) {
	r.mu.Lock()
	defer r.mu.Unlock()
	untrue := make(map[uint32]bool)
	for _, nr := range missing {
		for n := nr.first; n < nr.end; n++ {
			if f, ok := r.fate(n, index); ok && (f.Reaches(wire.LevelReceived) || f == wire.FateRejected) {
				untrue[n] = true
			}
		}
	}
	for n, fates := range r.unreached {
		if index < len(fates) && deniesArrival(fates[index]) && !missing.has(n) {
			untrue[n] = true
		}
	}
	for n := range untrue {
		numbers = append(numbers, numberRange{n, n + 1})
	}
	slices.SortFunc(numbers, func(a, b numberRange) int { return int(int64(a.first) - int64(b.first)) })
	return numbers
}

// deniesArrival reports whether a message with that fate must not have arrived.
func deniesArrival(f wire.Fate) bool {
	switch f {
	case wire.FateUnknown, wire.FateGone, wire.FateFull, wire.FateExpired, wire.FateRefused, wire.FateUnreachable, wire.FateTooLarge:
		return true
	}
	return false
}

// has reports whether a number is missing.
func (g gaps) has(number uint32) bool {
	return slices.ContainsFunc(g, func(nr numberRange) bool { return nr.first <= number && number < nr.end })
}

// reportProblems names the fates that are not true, and those that are worse than what
// was asked for, of all senders by receiver.
func (r *run) reportProblems(ps *Problems) {
	if r.config.ReportLevel == LevelNone || r.config.Verify == VerifyOff || r.plan.Size < headerSize {
		return
	}
	for i, rcv := range r.receivers {
		var counts []SenderCount
		for s, snd := range r.senders {
			if s == i {
				continue
			}
			index := i
			if s < i {
				index--
			}
			numbers := snd.reports.untrueFates(index, rcv.checker.missing(s, snd.accepted.Load()))
			counts = append(counts, SenderCount{s, numbers.count(), numbers.String()})
		}
		p := newProblem(ProblemUntrue, counts)
		p.Client, p.ID = i, r.clients[i].ID()
		p.Got, p.Expected = rcv.checker.received, r.plan.deliveriesPerReceiver()
		ps.add(p)
	}
	for i, snd := range r.senders {
		ps.add(snd.reports.problem(i, r.clients[i].ID(), r.outcome.cause == nil))
	}
}

// problem names the messages of a sender that are reported, and not as having the
// level; of a run that is complete also those that are not reported.
func (r *reportChecker) problem(index int, id uint64, complete bool) Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := uint64(len(r.unreached))
	if complete {
		n += uint64(r.messages - min(r.messages, r.reported))
	}
	return Problem{Kind: ProblemUnreported, Client: index, ID: id, Count: n,
		Got: uint64(r.reported) - uint64(len(r.unreached)), Expected: uint64(r.messages)}
}

// reportLatency merges what the senders measured; nil when they measured nothing.
func (r *run) reportLatency() *Latency {
	merged := stats.NewLatency()
	for _, s := range r.senders {
		if s.reports != nil {
			merged.Merge(s.reports.latency)
		}
	}
	return summarizeLatency(merged, r.oneIn())
}

// reported returns how many reports there are.
func (r *run) reported() (n uint64) {
	for _, s := range r.senders {
		if s.reports != nil {
			n += s.reports.count()
		}
	}
	return n
}

// fates returns how often each fate but the one asked for was reported.
func (r *run) fates() map[string]uint64 {
	counts := make(map[string]uint64)
	for _, s := range r.senders {
		if s.reports == nil {
			continue
		}
		unreached := uint64(0)
		for _, fates := range s.reports.unreached {
			unreached++
			for _, f := range fates {
				counts[f.String()]++
			}
		}
		if reached := uint64(s.reports.reported) - unreached; reached > 0 {
			counts[s.reports.expectedFate().String()] += reached * uint64(len(s.to))
		}
	}
	return counts
}
