package simulation

import (
	"errors"
	"fmt"
	"time"

	"github.com/sechlol/go-message-hub/internal/stats"
)

// newReport makes the report of a run. All goroutines of the run must have ended.
func newReport(r *run) *Report {
	alive := r.outcome.alive
	report := &Report{
		Config:              r.config.settings(),
		Plan:                r.plan,
		Complete:            r.outcome.cause == nil,
		TimeAlive:           alive.Seconds(),
		ClientsConnected:    len(r.clients),
		ClientsDisconnected: r.outcome.disconnected,
		Addresses:           r.addresses,
		Traffic:             r.outcome.traffic,
		TransferSeconds:     r.transferTime().Seconds(),
		Latency:             r.deliveryLatency(),
		Problems:            r.collectProblems(),
		showStats:           r.config.ShowStats,
	}
	if r.outcome.cause != nil {
		report.Cause = r.outcome.cause.Error()
	}
	for _, rcv := range r.receivers {
		report.Deliveries += rcv.checker.received
	}
	if r.config.ReportLevel != LevelNone {
		report.Reports, report.Fates, report.ReportLatency = r.reportCount(), r.countFates(), r.reportLatency()
	}
	for _, p := range r.proxies {
		report.Breaks += p.breakCount()
	}
	report.DeliveriesPerSecond = stats.Rate(report.Deliveries, r.transferTime())
	report.Averages = report.Traffic.perSecond(alive)
	report.Notes = r.notes()
	return report
}

// transferTime returns the time from when the first message was due to the last delivery. It
// returns 0 if no message was sent.
func (r *run) transferTime() time.Duration {
	first, last, started := time.Duration(0), time.Duration(0), false
	for i, s := range r.senders {
		if s.started && (!started || s.firstDue < first) {
			first, started = s.firstDue, true
		}
		last = max(last, r.receivers[i].lastArrival)
	}
	if !started {
		return 0
	}
	if r.outcome.cause != nil {
		last = max(last, r.lastProgress.at.Sub(r.epoch))
	}
	return max(0, last-first)
}

// deliveryLatency merges the measurements of all receivers. It returns nil if there are none.
func (r *run) deliveryLatency() *Latency {
	merged := stats.NewLatency()
	for _, rcv := range r.receivers {
		merged.Merge(rcv.latency)
	}
	return summarizeLatency(merged, latencyOneIn(r.plan))
}

// collectProblems collects the faults that all receivers found and, for a run that stalled, the
// messages that are missing or unsent. For a run that ended for another reason, messages at
// the end do not count as lost, because the hub could still have delivered them.
func (r *run) collectProblems() Problems {
	ps := Problems{Totals: make(map[ProblemKind]uint64), Details: []Problem{}}
	var sent []uint32
	if errors.As(r.outcome.cause, new(stallError)) {
		sent = r.acceptedCounts()
		r.addUnsent(&ps, sent)
	}
	expected := r.plan.deliveriesPerReceiver()
	for i, rcv := range r.receivers {
		for _, p := range rcv.checker.problems(sent, expected) {
			p.Client, p.ID = i, r.clients[i].ID()
			p.Got, p.Expected = rcv.checker.received, expected
			ps.add(p)
		}
	}
	r.addReportProblems(&ps)
	return ps
}

// addUnsent adds a problem for each client that could not send all messages.
func (r *run) addUnsent(ps *Problems, sent []uint32) {
	messages := r.plan.messagesPerSender()
	for i, n := range sent {
		ps.add(Problem{
			Kind: ProblemUnsent, Client: i, ID: r.clients[i].ID(),
			Count: uint64(messages - n), Got: uint64(n), Expected: uint64(messages),
		})
	}
}

// acceptedCounts returns how many messages the hub has accepted from each client.
func (r *run) acceptedCounts() []uint32 {
	sent := make([]uint32, len(r.senders))
	for i, s := range r.senders {
		sent[i] = s.accepted.Load()
	}
	return sent
}

// notes returns the limitations of the report: what was not checked or measured, and why.
func (r *run) notes() (list []string) {
	switch {
	case r.plan.Deliveries == 0:
		return nil
	case r.config.Verify == VerifyOff:
		list = append(list, "verification was off: deliveries were only counted, latency was not measured")
	case r.plan.Size < headerSize:
		list = append(list, fmt.Sprintf("bodies of %d bytes have no header (which needs %d bytes): "+
			"only size and number of deliveries were checked, latency was not measured", r.plan.Size, headerSize))
	case latencyOneIn(r.plan) > 1:
		list = append(list, fmt.Sprintf("latency was measured for one delivery in %d: "+
			"the maximum is that of the samples", latencyOneIn(r.plan)))
	}
	return list
}

// addReportProblems adds, for each receiver, the fates that contradict what arrived and, for each
// sender, the messages that were not reported at the requested level.
func (r *run) addReportProblems(ps *Problems) {
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

// reportLatency merges the measurements of all senders. It returns nil if there are none.
func (r *run) reportLatency() *Latency {
	merged := stats.NewLatency()
	for _, s := range r.senders {
		if s.reports != nil {
			merged.Merge(s.reports.latency)
		}
	}
	return summarizeLatency(merged, latencyOneIn(r.plan))
}

// countFates returns how often each fate was reported.
func (r *run) countFates() map[string]uint64 {
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
