package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
)

// ProblemKind is what went wrong with a message.
type ProblemKind string

// The kinds of problems.
const (
	ProblemLost       ProblemKind = "lost"       // sent, overtaken or waited for in vain, and never arrived
	ProblemDuplicated ProblemKind = "duplicated" // arrived once more
	ProblemReordered  ProblemKind = "reordered"  // arrived after a later one of the same sender
	ProblemCorrupted  ProblemKind = "corrupted"  // arrived with other bytes than were sent
	ProblemResized    ProblemKind = "resized"    // arrived with more or fewer bytes than were sent
	ProblemSurplus    ProblemKind = "surplus"    // more deliveries than were sent, where bodies cannot say which
	ProblemUnsent     ProblemKind = "unsent"     // the hub did not take it before the run gave up
	ProblemUntrue     ProblemKind = "untrue"     // reported as what it did not become
	ProblemUnreported ProblemKind = "unreported" // not reported, or not as having come as far as it should
)

// Bounds of what is named. Counts are exact in any case.
const (
	maxProblemsPerKind = 16 // problems of one kind in a report
	maxListedSenders   = 8  // senders in a problem
)

// Problem is one kind of fault at one client.
type Problem struct {
	Kind     ProblemKind `json:"kind"`
	Client   int         `json:"client"`   // index of the receiver; for Unsent and Unreported of the sender
	ID       uint64      `json:"id"`       // what the hub calls it
	Count    uint64      `json:"count"`    // messages concerned
	Got      uint64      `json:"got"`      // deliveries that the client received; for Unsent what was sent, for Unreported what was reported well
	Expected uint64      `json:"expected"` // what it should have been

	Senders     []SenderCount `json:"senders,omitempty"` // the first few whose messages they were
	MoreSenders int           `json:"more_senders,omitempty"`
}

// SenderCount is the part of one sender in a Problem.
type SenderCount struct {
	Sender  int    `json:"sender"` // index; -1 when the body does not say, or not credibly
	Count   uint64 `json:"count"`
	Numbers string `json:"numbers,omitempty"` // which of its messages, from 0; only the first few
}

// String names who, what and how many.
func (p Problem) String() string {
	if p.Kind == ProblemUnsent {
		return fmt.Sprintf("client %d (id %d) could send only %s of %s messages",
			p.Client, p.ID, formatCount(p.Got), formatCount(p.Expected))
	}
	if p.Kind == ProblemUnreported {
		return fmt.Sprintf("client %d (id %d) has good reports of %s of %s messages",
			p.Client, p.ID, formatCount(p.Got), formatCount(p.Expected))
	}
	var parts []string
	for _, sc := range p.Senders {
		parts = append(parts, sc.String())
	}
	if p.MoreSenders > 0 {
		parts = append(parts, fmt.Sprintf("and %d more senders", p.MoreSenders))
	}
	text := fmt.Sprintf("client %d (id %d): %s %s, got %s of %s deliveries",
		p.Client, p.ID, formatCount(p.Count), p.Kind, formatCount(p.Got), formatCount(p.Expected))
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	return text
}

// String names the sender, how many and which.
func (sc SenderCount) String() string {
	if sc.Sender < 0 {
		return fmt.Sprintf("%s from nobody known", formatCount(sc.Count))
	}
	return fmt.Sprintf("%s from client %d (numbers %s)", formatCount(sc.Count), sc.Sender, sc.Numbers)
}

// Problems is everything that went wrong.
type Problems struct {
	Totals  map[ProblemKind]uint64 `json:"totals"`  // messages by kind, exact
	Details []Problem              `json:"details"` // bounded
	Omitted int                    `json:"omitted"` // problems that the bound left out
}

// Count returns how many messages something went wrong with; one that was both
// lost and corrupted counts twice.
func (ps Problems) Count() (n uint64) {
	for _, count := range ps.Totals {
		n += count
	}
	return n
}

// add counts a problem unless it concerns no message.
func (ps *Problems) add(p Problem) {
	if p.Count == 0 {
		return
	}
	ps.Totals[p.Kind] += p.Count
	if ps.detailCount(p.Kind) == maxProblemsPerKind {
		ps.Omitted++
		return
	}
	ps.Details = append(ps.Details, p)
}

// detailCount returns how many problems of kind are in the details.
func (ps *Problems) detailCount(kind ProblemKind) (n int) {
	for i := range ps.Details {
		if ps.Details[i].Kind == kind {
			n++
		}
	}
	return n
}

// newProblem adds up the shares of one kind and keeps the largest.
func newProblem(kind ProblemKind, counts []SenderCount) Problem {
	p := Problem{Kind: kind}
	counts = slices.DeleteFunc(counts, func(sc SenderCount) bool { return sc.Count == 0 })
	for _, sc := range counts {
		p.Count += sc.Count
	}
	slices.SortStableFunc(counts, func(a, b SenderCount) int { return cmp.Compare(b.Count, a.Count) })
	listed := min(len(counts), maxListedSenders)
	p.Senders, p.MoreSenders = counts[:listed], len(counts)-listed
	return p
}

// problems lists what c saw. sent says how many messages of each sender must
// have arrived by now; nil when the run ended before anybody could expect that.
func (c *checker) problems(sent []uint32, expected uint64) []Problem {
	if c.countOnly {
		return c.countOnlyProblems(sent, expected)
	}
	return []Problem{
		c.lostProblem(sent),
		c.faultProblem(ProblemDuplicated, func(f *faults) tally { return f.duplicated }),
		c.faultProblem(ProblemReordered, func(f *faults) tally { return f.reordered }),
		c.faultProblem(ProblemCorrupted, func(f *faults) tally { return f.corrupted }),
		c.faultProblem(ProblemResized, func(f *faults) tally { return f.resized }),
	}
}

// countOnlyProblems lists what can be said of bodies that name nobody.
func (c *checker) countOnlyProblems(sent []uint32, expected uint64) []Problem {
	list := []Problem{c.faultProblem(ProblemResized, func(f *faults) tally { return f.resized })}
	if c.received > expected {
		list = append(list, Problem{Kind: ProblemSurplus, Count: c.received - expected})
	}
	var total uint64
	for sender, n := range sent {
		if uint32(sender) != c.self {
			total += uint64(n)
		}
	}
	if c.received < total {
		list = append(list, Problem{Kind: ProblemLost, Count: total - c.received})
	}
	return list
}

// lostProblem lists the messages that will not come any more: those that a later one
// overtook, and with sent those that nothing followed.
func (c *checker) lostProblem(sent []uint32) Problem {
	var counts []SenderCount
	for sender := range c.next {
		var upTo uint32
		if sent != nil {
			upTo = sent[sender]
		}
		missing := c.missing(sender, upTo)
		counts = append(counts, SenderCount{sender, missing.count(), missing.String()})
	}
	return newProblem(ProblemLost, counts)
}

// faultProblem lists one kind of fault by sender.
func (c *checker) faultProblem(kind ProblemKind, pick func(*faults) tally) Problem {
	counts := []SenderCount{{Sender: -1, Count: pick(&c.unattributed).count}}
	for sender, f := range c.faults {
		if f != nil {
			t := pick(f)
			counts = append(counts, SenderCount{sender, t.count, formatNumbers(t)})
		}
	}
	return newProblem(kind, counts)
}

// formatNumbers says which messages a tally concerns.
func formatNumbers(t tally) string {
	if t.count == 1 {
		return fmt.Sprint(t.first)
	}
	return fmt.Sprintf("%d, …", t.first)
}

func formatCount(n uint64) string { return humanize.Comma(int64(n)) }
