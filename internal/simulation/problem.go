package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
)

// ProblemKind is a kind of fault of a message.
type ProblemKind string

// The kinds of problems.
const (
	// ProblemLost is a message that was sent and did not arrive, although a later message of the
	// same sender did or the run waited for the timeout.
	ProblemLost ProblemKind = "lost"
	// ProblemDuplicated is a message that arrived more than once.
	ProblemDuplicated ProblemKind = "duplicated"
	// ProblemReordered is a message that arrived after a later message of the same sender.
	ProblemReordered ProblemKind = "reordered"
	// ProblemCorrupted is a message that arrived with different bytes.
	ProblemCorrupted ProblemKind = "corrupted"
	// ProblemResized is a message that arrived with more or fewer bytes.
	ProblemResized ProblemKind = "resized"
	// ProblemSurplus is a delivery above the number of messages sent, where bodies have no
	// header.
	ProblemSurplus ProblemKind = "surplus"
	// ProblemUnsent is a message that the hub did not accept before the run ended.
	ProblemUnsent ProblemKind = "unsent"
	// ProblemUntrue is a message whose reported fate contradicts what arrived.
	ProblemUntrue ProblemKind = "untrue"
	// ProblemUnreported is a message without a report, or with a report below the requested
	// level.
	ProblemUnreported ProblemKind = "unreported"
)

// Limits on what a report lists. The counts are always exact.
const (
	maxProblemsPerKind = 16 // problems of one kind in a report
	maxListedSenders   = 8  // senders in a problem
)

// Problem is one kind of fault at one client.
type Problem struct {
	Kind ProblemKind `json:"kind"`
	// Client is the index of the receiver, or of the sender for ProblemUnsent and
	// ProblemUnreported.
	Client int    `json:"client"`
	ID     uint64 `json:"id"`    // id that the hub gave the client
	Count  uint64 `json:"count"` // messages affected
	// Got is the number of deliveries that the client received. For ProblemUnsent it is the
	// number of messages sent, for ProblemUnreported the number reported at the requested level.
	Got      uint64 `json:"got"`
	Expected uint64 `json:"expected"` // what Got should be

	Senders     []SenderCount `json:"senders,omitempty"` // the largest counts, by sender
	MoreSenders int           `json:"more_senders,omitempty"`
}

// SenderCount is the share of one sender in a Problem.
type SenderCount struct {
	Sender int    `json:"sender"` // index of the sender; -1 when the body has no valid header
	Count  uint64 `json:"count"`
	// Numbers are the affected message numbers, counted from 0; only the first few.
	Numbers string `json:"numbers,omitempty"`
}

// String names the client, the fault and the counts.
func (p Problem) String() string {
	if p.Kind == ProblemUnsent {
		return fmt.Sprintf("client %d (id %d) could send only %s of %s messages",
			p.Client, p.ID, formatCount(p.Got), formatCount(p.Expected))
	}
	if p.Kind == ProblemUnreported {
		return fmt.Sprintf("client %d (id %d) has reports at the requested level for %s of %s messages",
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

// String names the sender, the count and the message numbers.
func (sc SenderCount) String() string {
	if sc.Sender < 0 {
		return fmt.Sprintf("%s from unknown senders", formatCount(sc.Count))
	}
	return fmt.Sprintf("%s from client %d (numbers %s)", formatCount(sc.Count), sc.Sender, sc.Numbers)
}

// Problems are all faults of a run.
type Problems struct {
	Totals  map[ProblemKind]uint64 `json:"totals"`  // messages by kind, exact
	Details []Problem              `json:"details"` // at most maxProblemsPerKind of each kind
	Omitted int                    `json:"omitted"` // problems left out of Details
}

// Count returns the number of faulty messages. A message that was both lost and corrupted
// counts twice.
func (ps Problems) Count() (n uint64) {
	for _, count := range ps.Totals {
		n += count
	}
	return n
}

// add records a problem. It ignores a problem without messages.
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

// newProblem sums the counts of one kind and lists the largest.
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

func formatCount(n uint64) string { return humanize.Comma(int64(n)) }
