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

// reportChecker collects the reports for the messages of one sender. After the run,
// untrueFates compares the reports with what arrived.
type reportChecker struct {
	// Static after newReportChecker.
	level      wire.Level
	messages   uint32
	epoch      time.Time
	oneIn      int
	onComplete func()      // called once, when all reports have arrived
	onError    func(error) // called when a report will not arrive

	// Guarded by mu.
	mu sync.Mutex
	// closed means that the run has ended. Later reports are ignored, because clients that close fail
	// their pending reports.
	closed    bool
	reported  uint32                 // messages with a report
	reached   []uint64               // bit set by number: every receiver reached the level
	unreached map[uint32][]wire.Fate // by number: the fates of all other messages
	latency   *stats.Latency
}

// maxUnreached is the maximum length of reportChecker.unreached. It limits the memory of a run
// against a hub that reports no message at the level.
const maxUnreached = 1 << 16

func newReportChecker(c Config, plan Plan, epoch time.Time, oneIn int, onComplete func(), onError func(error)) *reportChecker {
	return &reportChecker{
		level: c.ReportLevel.wire(), messages: plan.messagesPerSender(), epoch: epoch, oneIn: oneIn, onComplete: onComplete, onError: onError,
		unreached: make(map[uint32][]wire.Fate), latency: stats.NewLatency(),
	}
}

// onReport returns the callback for the report of message number, which was due at due since
// the epoch.
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

// close makes r ignore further reports.
func (r *reportChecker) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

// count returns how many messages have a report.
func (r *reportChecker) count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return uint64(r.reported)
}

// expectedFate returns the fate that corresponds exactly to the requested level.
func (r *reportChecker) expectedFate() wire.Fate { return wire.FateQueued + wire.Fate(r.level) }

// fate returns the reported fate of a message for the receiver at index in the sender's
// receiver list. It returns false if there is none. r.mu must be held.
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

// untrueFates returns the numbers of the messages whose reported fate contradicts what one
// receiver received. index is the index of that receiver in the sender's receiver list;
// missing are the messages that the receiver did not receive.
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

// deniesArrival reports whether the fate f means that the message did not arrive.
func deniesArrival(f wire.Fate) bool {
	switch f {
	case wire.FateUnknown, wire.FateGone, wire.FateFull, wire.FateExpired, wire.FateRefused, wire.FateUnreachable, wire.FateTooLarge:
		return true
	}
	return false
}

// problem returns the messages of a sender that were reported below the level and, if the run
// completed, those without a report.
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
