package simulation

// checker follows what one receiver gets. It belongs to the goroutine of that
// receiver, and to the report after that goroutine has ended.
type checker struct {
	// Static after newChecker.
	self      uint32 // index of the receiver
	pattern   *pattern
	verify    VerifyMode
	countOnly bool   // bodies say nothing: only count
	messages  uint32 // from each sender

	// Owned by the receiver.
	received     uint64    // bodies that arrived, whatever they were
	remaining    uint64    // different messages that have not arrived yet
	next         []uint32  // by sender: the number that comes next
	faults       []*faults // by sender: what went wrong, nil while nothing did
	unattributed faults    // in bodies that do not say, or not credibly, whose they are
}

// faults is what went wrong between one sender and one receiver.
type faults struct {
	gaps       gaps // overtaken and still missing
	duplicated tally
	reordered  tally
	corrupted  tally
	resized    tally
}

// tally counts one kind of fault and remembers where it began.
type tally struct {
	count uint64
	first uint32 // message number of the first, when known
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
	c.next[self] = c.messages // nothing comes from oneself
	return c
}

// check checks one body. sound says that it is a message that was still missing
// and that its header h can be believed. This runs once for each delivery: what
// is in order takes no call but the comparison of the rest.
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
		// The header is exactly the one that was due, so it is the rest that is
		// damaged and the message is not missing as well.
		c.faultsOf(sender).corrupted.add(number)
		return h, false
	}
	return h, true
}

// countBody books a body that names nobody.
func (c *checker) countBody(body []byte) {
	if c.remaining > 0 {
		c.remaining--
	}
	if c.verify != VerifyOff && len(body) != c.pattern.size {
		c.unattributed.resized.add(0)
	}
}

// recordWrongSize books a body of the wrong size, as far as it says whose it is.
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

// recordUnexpected books a body of the right size whose number is not the next. In
// full mode its rest must fit before the header is believed: here it may well be
// the header that is damaged.
func (c *checker) recordUnexpected(body []byte, h header) bool {
	if !c.validHeader(h) || c.verify == VerifyFull && !c.pattern.matches(body, h) {
		c.unattributed.corrupted.add(0)
		return false
	}
	return c.recordArrival(h)
}

// validHeader says whether h names a message that this receiver can get.
func (c *checker) validHeader(h header) bool {
	sender := h.sender()
	return sender < uint32(len(c.next)) && h.number() < c.messages && sender != c.self
}

// recordArrival notes that the message of h is here, and says whether it was missing.
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

// recordCorrupted books a body that was sound until its time turned out to lie in the
// future.
func (c *checker) recordCorrupted(h header) { c.faultsOf(h.sender()).corrupted.add(h.number()) }

// faultsOf returns the faults of sender, which may be none yet.
func (c *checker) faultsOf(sender uint32) *faults {
	if c.faults[sender] == nil {
		c.faults[sender] = &faults{}
	}
	return c.faults[sender]
}

// missing returns which of the first sent messages of sender have not arrived.
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
