package simulation

import "fmt"

// checker verifies the bodies that one receiver gets. It is owned by the goroutine of that
// receiver, and by the report after that goroutine has ended.
type checker struct {
	// Static after newChecker.
	self      uint32 // index of the receiver
	pattern   *pattern
	verify    VerifyMode
	countOnly bool   // bodies are counted, not checked
	messages  uint32 // from each sender

	// Owned by the receiver.
	received     uint64    // all bodies that arrived, valid or not
	remaining    uint64    // distinct messages that have not arrived yet
	next         []uint32  // by sender: the expected number of the next message
	faults       []*faults // by sender; nil while a sender has none
	unattributed faults    // in bodies without a valid header
}

// faults are the faults in the messages of one sender to one receiver.
type faults struct {
	gaps       gaps // skipped by a later number and still missing
	duplicated tally
	reordered  tally
	corrupted  tally
	resized    tally
}

// tally counts the faults of one kind and remembers the first.
type tally struct {
	count uint64
	first uint32 // message number of the first fault, if known
}

func (t *tally) add(number uint32) {
	if t.count == 0 {
		t.first = number
	}
	t.count++
}

// newChecker returns the checker of the client with index self.
func newChecker(plan Plan, pattern *pattern, verify VerifyMode, self int) *checker {
	c := &checker{
		self:      uint32(self),
		pattern:   pattern,
		verify:    verify,
		countOnly: verify == VerifyOff || plan.Size < headerSize,
		messages:  plan.messagesPerSender(),
		remaining: plan.deliveriesPerReceiver(),
		next:      make([]uint32, plan.Clients),
		faults:    make([]*faults, plan.Clients),
	}
	c.next[self] = c.messages // a client does not send to itself
	return c
}

// check checks one body. It returns the header of the body, and true if the header is valid
// and the message was still missing. check runs once for each delivery; for a message in order
// the only call is the comparison of the rest of the body.
func (c *checker) check(body []byte) (h header, ok bool) {
	c.received++
	if c.countOnly {
		c.countBody(body)
		return h, false
	}
	if len(body) != c.pattern.size {
		c.recordWrongSize(body)
		return h, false
	}
	h = parseHeader(body)
	sender, number := h.sender(), h.number()
	if sender >= uint32(len(c.next)) || number != c.next[sender] || number >= c.messages {
		return h, c.recordUnexpected(body, h)
	}
	c.next[sender] = number + 1
	c.remaining--
	if c.verify == VerifyFull && !c.pattern.matches(body, h) {
		// The header is the expected one. Therefore the rest of the body is corrupted, and the
		// message does not count as lost as well.
		c.faultsOf(sender).corrupted.add(number)
		return h, false
	}
	return h, true
}

// countBody records a body without checking its header.
func (c *checker) countBody(body []byte) {
	if c.remaining > 0 {
		c.remaining--
	}
	if c.verify != VerifyOff && len(body) != c.pattern.size {
		c.unattributed.resized.add(0)
	}
}

// recordWrongSize records a body of the wrong size, for its sender if the header is valid.
func (c *checker) recordWrongSize(body []byte) {
	if len(body) < headerSize {
		c.unattributed.resized.add(0)
		return
	}
	h := parseHeader(body)
	if !c.validHeader(h) {
		c.unattributed.resized.add(0)
		return
	}
	c.faultsOf(h.sender()).resized.add(h.number())
	c.recordArrival(h)
}

// recordUnexpected records a body of the right size whose number is not the next one. With
// VerifyFull it trusts the header only if the rest of the body matches, because a corrupted
// header is a likely cause.
func (c *checker) recordUnexpected(body []byte, h header) bool {
	if !c.validHeader(h) || c.verify == VerifyFull && !c.pattern.matches(body, h) {
		c.unattributed.corrupted.add(0)
		return false
	}
	return c.recordArrival(h)
}

// validHeader reports whether h identifies a message to this receiver.
func (c *checker) validHeader(h header) bool {
	sender := h.sender()
	return sender < uint32(len(c.next)) && h.number() < c.messages && sender != c.self
}

// recordArrival records the arrival of the message with the header h and reports whether that
// message was missing.
func (c *checker) recordArrival(h header) bool {
	sender, number := h.sender(), h.number()
	switch next := c.next[sender]; {
	case number > next:
		c.faultsOf(sender).gaps.open(numberRange{next, number})
		c.next[sender] = number + 1
	case number == next:
		c.next[sender] = number + 1
	case c.faultsOf(sender).gaps.fill(number):
		c.faultsOf(sender).reordered.add(number)
	default:
		c.faultsOf(sender).duplicated.add(number)
		return false
	}
	c.remaining--
	return true
}

// recordCorrupted records a corrupted body that passed check but was due in the future.
func (c *checker) recordCorrupted(h header) { c.faultsOf(h.sender()).corrupted.add(h.number()) }

// faultsOf returns the faults of sender and allocates them on first use.
func (c *checker) faultsOf(sender uint32) *faults {
	if c.faults[sender] == nil {
		c.faults[sender] = &faults{}
	}
	return c.faults[sender]
}

// missing returns the numbers of the messages that have not arrived, among the first sent
// messages of sender.
func (c *checker) missing(sender int, sent uint32) gaps {
	var g gaps
	if f := c.faults[sender]; f != nil {
		g = append(g, f.gaps...)
	}
	if next := c.next[sender]; next < sent {
		g.open(numberRange{next, sent})
	}
	return g
}

// problems returns the faults that c found. sent is the number of messages of each sender that
// must have arrived; it is nil if the run ended early, when missing messages could still
// arrive.
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

// countOnlyProblems returns the faults that are detectable in bodies without headers.
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

// lostProblem returns the messages that are lost: those that a later message skipped and, if
// sent is not nil, those at the end that no later message followed.
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

// faultProblem returns the faults of one kind by sender.
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

// formatNumbers returns the message numbers of a tally as text.
func formatNumbers(t tally) string {
	if t.count == 1 {
		return fmt.Sprint(t.first)
	}
	return fmt.Sprintf("%d, …", t.first)
}
