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

// reports is what one sender is told of its messages. What it says is compared with
// what arrived when the run is over.
type reports struct {
	// Static after newReports.
	level    wire.Level
	messages uint32
	epoch    time.Time
	oneIn    int
	done     func()      // called once, when all have come
	fail     func(error) // called when one will not come

	mu      sync.Mutex
	sealed  bool                   // the run is over: what clients that leave are told is no part of it
	told    uint32                 // messages that are reported
	good    []uint64               // bits by number: every receiver has the level
	odd     map[uint32][]wire.Fate // by number: the fates of all others
	latency *stats.Latency
}

// oddMost bounds what a hub that reports nothing good can make a run remember.
const oddMost = 1 << 16

func newReports(c Config, plan Plan, epoch time.Time, oneIn int, done func(), fail func(error)) *reports {
	return &reports{
		level: c.Report.wire(), messages: plan.messages(), epoch: epoch, oneIn: oneIn, done: done, fail: fail,
		odd: make(map[uint32][]wire.Fate), latency: stats.NewLatency(),
	}
}

// take returns what is to be done with the report of a message that was due then.
func (r *reports) take(number uint32, due time.Duration) func(*client.Report, error) {
	return func(report *client.Report, err error) {
		now := time.Since(r.epoch)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.sealed {
			return
		}
		if err != nil {
			r.fail(fmt.Errorf("no report of message %d: %w", number, err))
			return
		}
		if number%uint32(r.oneIn) == 0 {
			r.latency.Record(max(0, now-due))
		}
		r.note(number, report.Fates)
		if r.told++; r.told == r.messages {
			r.done()
		}
	}
}

func (r *reports) note(number uint32, fates []wire.Fate) {
	if !slices.ContainsFunc(fates, func(f wire.Fate) bool { return !f.Reaches(r.level) }) {
		for len(r.good) <= int(number/64) {
			r.good = append(r.good, 0)
		}
		r.good[number/64] |= 1 << (number % 64)
		return
	}
	if len(r.odd) < oddMost {
		r.odd[number] = slices.Clone(fates)
	}
}

// seal ends the taking of reports.
func (r *reports) seal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sealed = true
}

// count returns how many messages are reported.
func (r *reports) count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return uint64(r.told)
}

// asked returns the fate of a message that has just the level.
func (r *reports) asked() wire.Fate { return wire.FateQueued + wire.Fate(r.level) }

// fate returns what was said of a message for the receiver at a place of its list;
// false: nothing, yet.
func (r *reports) fate(number uint32, place int) (wire.Fate, bool) {
	if int(number/64) < len(r.good) && r.good[number/64]>>(number%64)&1 == 1 {
		return r.asked(), true
	}
	fates, ok := r.odd[number]
	if !ok || place >= len(fates) {
		return 0, false
	}
	return fates[place], true
}

// untrue returns how many fates of one sender do not fit what a receiver got, and the
// first few. place is where that one stands in the sender's list; missing is what it did not get.
func (r *reports) untrue(place int, missing gaps) (numbers gaps) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lied := make(map[uint32]bool)
	for _, s := range missing {
		for n := s.first; n < s.end; n++ {
			if f, told := r.fate(n, place); told && (f.Reaches(wire.LevelReceived) || f == wire.FateRejected) {
				lied[n] = true
			}
		}
	}
	for n, fates := range r.odd {
		if place < len(fates) && deniesArrival(fates[place]) && !missing.has(n) {
			lied[n] = true
		}
	}
	for n := range lied {
		numbers = append(numbers, span{n, n + 1})
	}
	slices.SortFunc(numbers, func(a, b span) int { return int(int64(a.first) - int64(b.first)) })
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
	return slices.ContainsFunc(g, func(s span) bool { return s.first <= number && number < s.end })
}

// reportProblems names the fates that are not true, and those that are worse than what
// was asked for, of all senders by receiver.
func (r *run) reportProblems(all *Problems) {
	if r.config.Report == LevelNone || r.config.Verify == VerifyOff || r.plan.Size < headerSize {
		return
	}
	for i, one := range r.receivers {
		var shares []Share
		for s, sender := range r.senders {
			if s == i {
				continue
			}
			place := i
			if s < i {
				place--
			}
			numbers := sender.reports.untrue(place, one.check.missing(s, sender.accepted.Load()))
			shares = append(shares, Share{s, numbers.count(), numbers.String()})
		}
		p := problemOf(Untrue, shares)
		p.Client, p.ID = i, r.clients[i].ID()
		p.Got, p.Expected = one.check.got, r.plan.perReceiver()
		all.add(p)
	}
	for i, sender := range r.senders {
		all.add(sender.reports.problem(i, r.clients[i].ID(), r.ending.cause == nil))
	}
}

// problem names the messages of a sender that are reported, and not as having the
// level; of a run that is complete also those that are not reported.
func (r *reports) problem(index int, id uint64, complete bool) Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := uint64(len(r.odd))
	if complete {
		n += uint64(r.messages - min(r.messages, r.told))
	}
	return Problem{Kind: Unreported, Client: index, ID: id, Count: n,
		Got: uint64(r.told) - uint64(len(r.odd)), Expected: uint64(r.messages)}
}

// reportLatency merges what the senders measured; nil when they measured nothing.
func (r *run) reportLatency() *Latency {
	all := stats.NewLatency()
	for _, s := range r.senders {
		if s.reports != nil {
			all.Merge(s.reports.latency)
		}
	}
	return latencyOf(all, r.oneIn())
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
		odd := uint64(0)
		for _, fates := range s.reports.odd {
			odd++
			for _, f := range fates {
				counts[f.String()]++
			}
		}
		if good := uint64(s.reports.told) - odd; good > 0 {
			counts[s.reports.asked().String()] += good * uint64(len(s.to))
		}
	}
	return counts
}
