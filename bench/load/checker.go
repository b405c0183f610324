package main

import (
	"encoding/binary"
	"slices"
)

// headerSize is what each body starts with, in bytes: the number of its sender
// and the number of the message among those of that sender, u64 each.
const headerSize = 16

// putHeader writes the header of message k of sender s.
func putHeader(body []byte, s, k int) {
	binary.BigEndian.PutUint64(body, uint64(s))
	binary.BigEndian.PutUint64(body[8:], uint64(k))
}

// checker follows what one client gets: the right bodies, each once, in the order
// in which their sender sent them. It belongs to the goroutine that delivers.
type checker struct {
	// Static after newChecker.
	plan  *plan
	self  int
	echo  bool       // the system gives a client its own messages too
	due   [][]uint32 // by sender: the numbers to come; nil when all are
	count []int      // by sender: how many are to come

	next     []int  // by sender: which of them comes next
	received uint64 // bodies that were due
	faults   uint64 // bodies that were not, or not yet, or damaged
}

func newChecker(p *plan, self int, echo bool) *checker {
	c := &checker{plan: p, self: self, echo: echo, next: make([]int, p.senders), count: make([]int, p.senders)}
	if p.due != nil {
		c.due = p.due[self]
	}
	for s := range c.count {
		c.count[s] = p.dueCount(self, s)
	}
	return c
}

// check checks one body and says whether it was due. A body that was overtaken is
// a fault when it comes, and one that never comes is missing in got.
func (c *checker) check(body []byte) bool {
	if len(body) != c.plan.size {
		c.faults++
		return false
	}
	sender, number := binary.BigEndian.Uint64(body), binary.BigEndian.Uint64(body[8:])
	if sender == uint64(c.self) && c.echo {
		return false
	}
	if sender >= uint64(len(c.next)) {
		c.faults++
		return false
	}
	index := c.findDue(int(sender), number)
	if index < 0 {
		c.faults++
		return false
	}
	c.next[sender] = index + 1
	c.received++
	return true
}

// findDue returns where the message with that number stands among those that are
// still to come from s, or -1. It is the first, unless something was lost.
func (c *checker) findDue(s int, number uint64) int {
	next := c.next[s]
	if c.due == nil {
		if number < uint64(next) || number >= uint64(c.count[s]) {
			return -1
		}
		return int(number)
	}
	due := c.due[s][next:]
	if len(due) > 0 && uint64(due[0]) == number {
		return next
	}
	if number >= uint64(c.plan.messages) {
		return -1
	}
	index, found := slices.BinarySearch(due, uint32(number))
	if !found {
		return -1
	}
	return next + index
}
