package simulation

// checker follows what one receiver gets. It belongs to the goroutine of that
// receiver, and to the report after that goroutine has ended.
type checker struct {
	// Static after newChecker.
	self     uint32 // index of the receiver
	pattern  *pattern
	verify   Verify
	blind    bool   // bodies say nothing: only count
	messages uint32 // from each sender

	// Owned by the receiver.
	got     uint64    // bodies that arrived, whatever they were
	left    uint64    // different messages that have not arrived yet
	next    []uint32  // by sender: the number that comes next
	faults  []*faults // by sender: what went wrong, nil while nothing did
	unnamed faults    // in bodies that do not say, or not credibly, whose they are
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
func newChecker(plan Plan, pattern *pattern, verify Verify, self int) *checker {
	c := &checker{
		self:     uint32(self),
		pattern:  pattern,
		verify:   verify,
		blind:    verify == VerifyOff || plan.Size < headerSize,
		messages: plan.messages(),
		left:     plan.perReceiver(),
		next:     make([]uint32, plan.Clients),
		faults:   make([]*faults, plan.Clients),
	}
	c.next[self] = c.messages // nothing comes from oneself
	return c
}

// take checks one body. sound says that it is a message that was still missing
// and that its header h can be believed. This runs once for each delivery: what
// is in order takes no call but the comparison of the rest.
func (c *checker) take(body []byte) (h header, sound bool) {
	c.got++
	if c.blind {
		c.count(body)
		return h, false
	}
	if len(body) != c.pattern.size {
		c.takeMisfit(body)
		return h, false
	}
	h = parseHeader(body)
	sender, number := h.sender(), h.number()
	if sender >= uint32(len(c.next)) || number != c.next[sender] || number >= c.messages {
		return h, c.takeUnexpected(body, h)
	}
	c.next[sender] = number + 1
	c.left--
	if c.verify == VerifyFull && !c.pattern.fits(body, h) {
		// The header is exactly the one that was due, so it is the rest that is
		// damaged and the message is not missing as well.
		c.of(sender).corrupted.add(number)
		return h, false
	}
	return h, true
}

// count books a body that names nobody.
func (c *checker) count(body []byte) {
	if c.left > 0 {
		c.left--
	}
	if c.verify != VerifyOff && len(body) != c.pattern.size {
		c.unnamed.resized.add(0)
	}
}

// takeMisfit books a body of the wrong size, as far as it says whose it is.
func (c *checker) takeMisfit(body []byte) {
	if len(body) < headerSize {
		c.unnamed.resized.add(0)
		return
	}
	h := parseHeader(body)
	if !c.credible(h) {
		c.unnamed.resized.add(0)
		return
	}
	c.of(h.sender()).resized.add(h.number())
	c.book(h)
}

// takeUnexpected books a body of the right size whose number is not the next. In
// full mode its rest must fit before the header is believed: here it may well be
// the header that is damaged.
func (c *checker) takeUnexpected(body []byte, h header) bool {
	if !c.credible(h) || c.verify == VerifyFull && !c.pattern.fits(body, h) {
		c.unnamed.corrupted.add(0)
		return false
	}
	return c.book(h)
}

// credible says whether h names a message that this receiver can get.
func (c *checker) credible(h header) bool {
	sender := h.sender()
	return sender < uint32(len(c.next)) && h.number() < c.messages && sender != c.self
}

// book notes that the message of h is here, and says whether it was missing.
func (c *checker) book(h header) bool {
	sender, number := h.sender(), h.number()
	switch next := c.next[sender]; {
	case number > next:
		c.of(sender).gaps.open(span{next, number})
		c.next[sender] = number + 1
	case number == next:
		c.next[sender] = number + 1
	case c.of(sender).gaps.fill(number):
		c.of(sender).reordered.add(number)
	default:
		c.of(sender).duplicated.add(number)
		return false
	}
	c.left--
	return true
}

// distrust books a body that was sound until its time turned out to lie in the
// future.
func (c *checker) distrust(h header) { c.of(h.sender()).corrupted.add(h.number()) }

// of returns the faults of sender, which may be none yet.
func (c *checker) of(sender uint32) *faults {
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
		g.open(span{next, sent})
	}
	return g
}
