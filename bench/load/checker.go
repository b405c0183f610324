package main

import (
	"encoding/binary"
	"slices"
)

// checker verifies the bodies that one client receives: each expected body once, in the order
// in which its sender sent it. It is owned by the goroutine that delivers.
type checker struct {
	// Static after newChecker.
	plan  *plan
	self  int
	echo  bool       // the system also delivers a client its own messages
	due   [][]uint32 // by sender: the expected message numbers; nil when all are expected
	count []int      // by sender: the number of expected messages

	next     []int  // by sender: index of the next expected message
	received uint64 // expected bodies
	faults   uint64 // bodies that were unexpected, out of order or corrupted
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

// check checks one body and reports whether it was expected. A body that arrives after a later
// one of its sender is a fault; a body that never arrives is missing in received.
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

// findDue returns the index of the message number among the expected messages of s, or -1 if
// it is not expected or comes too late. It is the next index, unless messages were lost.
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
