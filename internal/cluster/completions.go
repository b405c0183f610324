package cluster

import (
	"github.com/sechlol/go-message-hub/internal/body"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// completions is what is to be called once no lock is held: the events of batches, and what their
// senders wait for.
type completions struct {
	events    []completion
	unblocked []*outgoing // those that nothing blocks any more
	buffers   []*body.Buffer
	drops     map[wire.Fate]int // messages that were not sent, and that nothing else counts
}

// completion is an event, or a fate, of one batch for one receiver.
type completion struct {
	out      *outgoing
	position int
	event    outbox.Event
	fate     wire.Fate
	isFate   bool
}

// fail records an event that ends the delivery of o to receivers for which it was not queued.
func (c *completions) fail(o *outgoing, to positions, event outbox.Event) {
	to.all(func(i int) { c.failOne(o, i, event) })
}

// failOne is fail for one receiver.
func (c *completions) failOne(o *outgoing, position int, event outbox.Event) {
	if o.Events != nil {
		c.events = append(c.events, completion{out: o, position: position, event: event})
	}
	if event == outbox.EventUnreachable {
		c.drop(wire.FateUnreachable, o.Batch.Frames)
	}
	c.unblock(o)
}

// drop counts messages that were not sent.
func (c *completions) drop(fate wire.Fate, messages int) {
	if c.drops == nil {
		c.drops = make(map[wire.Fate]int)
	}
	c.drops[fate] += messages
}

// failCrossing records an event that ends the delivery of a crossing. With reports, it holds for
// all receivers, and the tracker applies it to those without a fate.
func (c *completions) failCrossing(x *crossing, event outbox.Event) {
	to := x.unqueued
	if x.undecided > 0 {
		to = x.to
	}
	if event == outbox.EventUnreachable {
		c.drop(wire.FateUnreachable, x.unqueued.len()*x.out.Batch.Frames)
	}
	if x.out.Events != nil {
		to.all(func(i int) { c.events = append(c.events, completion{out: x.out, position: i, event: event}) })
	}
}

// decide records a fate of o for receivers for which it was not queued. Like an outbox that is
// full, it does not count what an overflow policy drops.
func (c *completions) decide(o *outgoing, to positions, fate wire.Fate) {
	to.all(func(i int) {
		if o.Events != nil {
			c.events = append(c.events, completion{out: o, position: i, fate: fate, isFate: true})
		}
		if fate != wire.FateFull {
			c.drop(fate, o.Batch.Frames)
		}
		c.unblock(o)
	})
}

// unblock records that one more receiver does not block o.
func (c *completions) unblock(o *outgoing) {
	o.blocked--
	if o.blocked == 0 {
		c.unblocked = append(c.unblocked, o)
	}
}

// run calls everything. No lock must be held.
func (c *completions) run(onDrop func(fate wire.Fate, messages int)) {
	for fate, n := range c.drops {
		onDrop(fate, n)
	}
	for _, e := range c.events {
		index, frames := e.out.Receivers[e.position].Index, e.out.Batch.Frames
		if e.isFate {
			e.out.Events.Decide(index, 0, frames, e.fate)
		} else {
			e.out.Events.HandleEvent(index, e.event, 0, frames)
		}
	}
	for _, o := range c.unblocked {
		o.Queued.Done()
	}
	for _, b := range c.buffers {
		b.Release()
	}
}
