package simulation

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
)

// Kind is what went wrong with a message.
type Kind string

// The kinds of problems.
const (
	Lost       Kind = "lost"       // sent, overtaken or waited for in vain, and never arrived
	Duplicated Kind = "duplicated" // arrived once more
	Reordered  Kind = "reordered"  // arrived after a later one of the same sender
	Corrupted  Kind = "corrupted"  // arrived with other bytes than were sent
	Resized    Kind = "resized"    // arrived with more or fewer bytes than were sent
	Surplus    Kind = "surplus"    // more deliveries than were sent, where bodies cannot say which
	Unsent     Kind = "unsent"     // the hub did not take it before the run gave up
	Untrue     Kind = "untrue"     // reported as what it did not become
	Unreported Kind = "unreported" // not reported, or not as having come as far as it should
)

// Bounds of what is named. Counts are exact in any case.
const (
	problemsNamed = 16 // problems of one kind in a report
	sharesNamed   = 8  // senders in a problem
)

// Problem is one kind of fault at one client.
type Problem struct {
	Kind     Kind   `json:"kind"`
	Client   int    `json:"client"`   // index of the receiver; for Unsent and Unreported of the sender
	ID       uint64 `json:"id"`       // what the hub calls it
	Count    uint64 `json:"count"`    // messages concerned
	Got      uint64 `json:"got"`      // deliveries that the client received; for Unsent what was sent, for Unreported what was reported well
	Expected uint64 `json:"expected"` // what it should have been

	Senders     []Share `json:"senders,omitempty"` // the first few whose messages they were
	MoreSenders int     `json:"more_senders,omitempty"`
}

// Share is the part of one sender in a Problem.
type Share struct {
	Sender  int    `json:"sender"` // index; -1 when the body does not say, or not credibly
	Count   uint64 `json:"count"`
	Numbers string `json:"numbers,omitempty"` // which of its messages, from 0; only the first few
}

// String names who, what and how many.
func (p Problem) String() string {
	if p.Kind == Unsent {
		return fmt.Sprintf("client %d (id %d) could send only %s of %s messages",
			p.Client, p.ID, comma(p.Got), comma(p.Expected))
	}
	if p.Kind == Unreported {
		return fmt.Sprintf("client %d (id %d) has good reports of %s of %s messages",
			p.Client, p.ID, comma(p.Got), comma(p.Expected))
	}
	var shares []string
	for _, s := range p.Senders {
		shares = append(shares, s.String())
	}
	if p.MoreSenders > 0 {
		shares = append(shares, fmt.Sprintf("and %d more senders", p.MoreSenders))
	}
	text := fmt.Sprintf("client %d (id %d): %s %s, got %s of %s deliveries",
		p.Client, p.ID, comma(p.Count), p.Kind, comma(p.Got), comma(p.Expected))
	if len(shares) > 0 {
		text += ": " + strings.Join(shares, ", ")
	}
	return text
}

// String names the sender, how many and which.
func (s Share) String() string {
	if s.Sender < 0 {
		return fmt.Sprintf("%s from nobody known", comma(s.Count))
	}
	return fmt.Sprintf("%s from client %d (numbers %s)", comma(s.Count), s.Sender, s.Numbers)
}

// Problems is everything that went wrong.
type Problems struct {
	Totals  map[Kind]uint64 `json:"totals"`  // messages by kind, exact
	Details []Problem       `json:"details"` // bounded
	Omitted int             `json:"omitted"` // problems that the bound left out
}

// Count returns how many messages something went wrong with; one that was both
// lost and corrupted counts twice.
func (p Problems) Count() (n uint64) {
	for _, count := range p.Totals {
		n += count
	}
	return n
}

// add counts a problem unless it concerns no message.
func (p *Problems) add(one Problem) {
	if one.Count == 0 {
		return
	}
	p.Totals[one.Kind] += one.Count
	if p.named(one.Kind) == problemsNamed {
		p.Omitted++
		return
	}
	p.Details = append(p.Details, one)
}

// named returns how many problems of kind are in the details.
func (p *Problems) named(kind Kind) (n int) {
	for i := range p.Details {
		if p.Details[i].Kind == kind {
			n++
		}
	}
	return n
}

// problemOf adds up the shares of one kind and keeps the largest.
func problemOf(kind Kind, shares []Share) Problem {
	p := Problem{Kind: kind}
	shares = slices.DeleteFunc(shares, func(s Share) bool { return s.Count == 0 })
	for _, s := range shares {
		p.Count += s.Count
	}
	slices.SortStableFunc(shares, func(a, b Share) int { return cmp.Compare(b.Count, a.Count) })
	named := min(len(shares), sharesNamed)
	p.Senders, p.MoreSenders = shares[:named], len(shares)-named
	return p
}

// problems lists what c saw. sent says how many messages of each sender must
// have arrived by now; nil when the run ended before anybody could expect that.
func (c *checker) problems(sent []uint32, expected uint64) []Problem {
	if c.blind {
		return c.blindProblems(sent, expected)
	}
	return []Problem{
		c.lost(sent),
		c.tallied(Duplicated, func(f *faults) tally { return f.duplicated }),
		c.tallied(Reordered, func(f *faults) tally { return f.reordered }),
		c.tallied(Corrupted, func(f *faults) tally { return f.corrupted }),
		c.tallied(Resized, func(f *faults) tally { return f.resized }),
	}
}

// blindProblems lists what can be said of bodies that name nobody.
func (c *checker) blindProblems(sent []uint32, expected uint64) []Problem {
	list := []Problem{c.tallied(Resized, func(f *faults) tally { return f.resized })}
	if c.got > expected {
		list = append(list, Problem{Kind: Surplus, Count: c.got - expected})
	}
	var due uint64
	for sender, n := range sent {
		if uint32(sender) != c.self {
			due += uint64(n)
		}
	}
	if c.got < due {
		list = append(list, Problem{Kind: Lost, Count: due - c.got})
	}
	return list
}

// lost lists the messages that will not come any more: those that a later one
// overtook, and with sent those that nothing followed.
func (c *checker) lost(sent []uint32) Problem {
	var shares []Share
	for sender := range c.next {
		var upTo uint32
		if sent != nil {
			upTo = sent[sender]
		}
		missing := c.missing(sender, upTo)
		shares = append(shares, Share{sender, missing.count(), missing.String()})
	}
	return problemOf(Lost, shares)
}

// tallied lists one kind of fault by sender.
func (c *checker) tallied(kind Kind, pick func(*faults) tally) Problem {
	shares := []Share{{Sender: -1, Count: pick(&c.unnamed).count}}
	for sender, f := range c.faults {
		if f != nil {
			t := pick(f)
			shares = append(shares, Share{sender, t.count, numbersFrom(t)})
		}
	}
	return problemOf(kind, shares)
}

// numbersFrom says which messages a tally concerns.
func numbersFrom(t tally) string {
	if t.count == 1 {
		return fmt.Sprint(t.first)
	}
	return fmt.Sprintf("%d, …", t.first)
}

func comma(n uint64) string { return humanize.Comma(int64(n)) }
