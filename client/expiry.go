package client

import (
	"cmp"
	"slices"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// A message with a time to live may wait in the line, in the queue of a connection, in the hub. Where the
// client can know that the hub has not had it, the client drops it when its time is up, and
// makes its report; otherwise the hub does.

// terms returns those of a message that is sent now; nil: it has no time to live. The hub is told what is left in whole
// milliseconds when the message is written, so less than one is none.
func (o *SendOptions) terms() *socket.Terms {
	if o.TTL == 0 {
		return nil
	}
	return &socket.Terms{Expires: time.Now().Add(o.TTL - time.Millisecond).UnixNano(), Stamp: stampTTL}
}

// stampTTL tells the hub what is left of the time to live: see socket.Terms.
func stampTTL(frame []byte, left int64) {
	wire.PutTTL(frame, uint32((left+int64(time.Millisecond))/int64(time.Millisecond)))
}

// left returns how long it is until a message with a time to live expires.
func (p *parcel) left() time.Duration { return time.Until(time.Unix(0, p.terms.Expires)) }

// expiring is told when a message has expired in the queue of a connection: the hub has not had it.
type expiring struct {
	outgoing *outgoing
	seq      uint64
}

// Progress takes note: see socket.Tracker.
func (e expiring) Progress(_ int, what socket.Progress, _, _ int) {
	if what == socket.Expired {
		e.outgoing.unwritten(e.seq)
	}
}

// arm has the report of a message made when its time is up. It is called with mu held.
func (o *outgoing) arm(p *parcel, c *call) {
	seq, terms := p.seq, p.terms
	o.timers.Add(1)
	c.timer = time.AfterFunc(p.left(), func() { o.timeUp(seq, terms) })
}

// disarm stops the timer of a call that is over. It is called with mu held.
func (o *outgoing) disarm(c *call) {
	if c.timer != nil && c.timer.Stop() {
		o.timers.Done()
	}
}

// lapse has the timer of a call report a fate for all receivers: no other goroutine may wait for the
// application. It is called with mu held.
func (o *outgoing) lapse(c *call, fate wire.Fate) {
	c.fate = fate
	if !c.timer.Stop() {
		o.timers.Add(1)
	}
	c.timer.Reset(0)
}

// timeUp is called when the time of a message is up, or when it is found out that it was.
func (o *outgoing) timeUp(seq uint64, terms *socket.Terms) {
	defer o.timers.Done()
	o.mu.Lock()
	l := o.link
	o.mu.Unlock()
	if l != nil {
		l.conn.Retract(terms)
	}
	o.mu.Lock()
	c := o.calls[seq]
	if c == nil {
		o.mu.Unlock()
		return
	}
	var free *body.Buffer
	if i, found := o.find(seq); found && i >= o.next {
		free = o.drop(i, c)
	}
	fate := c.fate
	if fate != 0 {
		delete(o.calls, seq)
		o.disarm(c)
	}
	o.mu.Unlock()
	if free != nil {
		free.Release()
		o.shorter()
	}
	if fate != 0 { // otherwise the hub has it, or may have it, and reports
		c.done(&Report{Seq: seq, Fates: slices.Repeat([]wire.Fate{fate}, c.receivers)}, nil)
	}
}

// unwritten takes out a message that will not be written on the connection on which it was under way.
func (o *outgoing) unwritten(seq uint64) {
	o.mu.Lock()
	c := o.calls[seq]
	if c == nil || c.fate != 0 {
		o.mu.Unlock()
		return
	}
	var free *body.Buffer
	switch i, found := o.find(seq); {
	case !found: // the hub has taken what came behind it
		free = o.letGo(c)
		o.lapse(c, wire.FateExpired)
	case i < o.next:
		o.recall(&o.line[i])
		o.next--
		free = o.drop(i, c)
		o.lapse(c, c.fate)
	default:
		free = o.drop(i, c)
		o.lapse(c, c.fate)
	}
	o.mu.Unlock()
	if free != nil {
		free.Release()
	}
	o.shorter()
}

// dropLate takes the messages out of the line that would be the next to go and have expired. It is called with mu
// held.
func (o *outgoing) dropLate() {
	for o.next < len(o.line) && o.line[o.next].terms != nil && o.line[o.next].left() <= 0 {
		c := o.calls[o.line[o.next].seq]
		if c == nil {
			return // the client has ended
		}
		o.drop(o.next, c).Release()
		o.lapse(c, c.fate)
		signal(o.room)
	}
}

// drop takes a message out of the line that is not under way, and decides its fate: a hub of before may
// have had it. It returns the buffer. It is called with mu held.
func (o *outgoing) drop(i int, c *call) *body.Buffer {
	p := &o.line[i]
	c.fate = wire.FateExpired
	if p.before {
		c.fate = wire.FateUncertain
	}
	free := p.buffer
	o.cost -= p.cost
	o.shift(i, i+1)
	return free
}

// find returns where a message stands in the line. It is called with mu held.
func (o *outgoing) find(seq uint64) (i int, found bool) {
	return slices.BinarySearchFunc(o.line, seq, func(p parcel, seq uint64) int { return cmp.Compare(p.seq, seq) })
}

// shorter tells those who wait for the line to become shorter, and goes on with what may go now.
func (o *outgoing) shorter() {
	signal(o.room)
	signal(o.flown)
	o.feed()
}
