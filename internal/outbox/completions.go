package outbox

import "github.com/sechlol/go-message-hub/internal/body"

// completions collects what must be done for finished frames when no lock is held.
type completions struct {
	losses  []pendingEvent // events of frames that were not delivered
	buffers []*body.Buffer // to release
	waiters []*Waiter      // of sends that are no longer blocked
	events  []pendingEvent // all other events
	dropped Counts         // of frames that are not sent
}

// run reports the losses, releases the buffers, wakes the waiters, reports the other events,
// and resets c. The handler of a loss can thus still read the bytes that were not delivered.
// The other events come last, because the handler then finds the memory of delivered frames
// released.
func (c *completions) run() {
	emitEvents(c.losses)
	for i, buffer := range c.buffers {
		buffer.Release()
		c.buffers[i] = nil
	}
	for i, w := range c.waiters {
		w.Done()
		c.waiters[i] = nil
	}
	emitEvents(c.events)
	clear(c.losses)
	clear(c.events)
	c.losses, c.buffers, c.waiters, c.events, c.dropped = c.losses[:0], c.buffers[:0], c.waiters[:0], c.events[:0], Counts{}
}

// addEvent adds an event of the first frames of s if s has an EventHandler.
func (c *completions) addEvent(s *segment, event Event, frames int) {
	if s.options == nil || s.options.Events == nil || frames == 0 {
		return
	}
	e := pendingEvent{s.options, int(s.receiver), event, int(s.first), frames}
	if event.isLoss() {
		c.losses = append(c.losses, e)
	} else {
		c.events = append(c.events, e)
	}
}

// addWritten adds EventWritten for the first frames of a segment, unless it was reported
// before: a segment can be written again on another connection.
func (c *completions) addWritten(s *segment, frames int) {
	if !s.writeReported {
		c.addEvent(s, EventWritten, frames)
	}
}

// discard adds the completions of a segment that will not be sent.
func (c *completions) discard(s *segment, event Event) {
	if s.writeReported && event == EventLost {
		event = EventUnacked
	}
	c.addEvent(s, event, s.frames)
	c.dropped.Add(Counts{s.frames, s.deliveries(), s.to - s.from})
	c.buffers = append(c.buffers, s.buffer)
}

// pendingEvent is a call of an EventHandler that will be made when no lock is held.
type pendingEvent struct {
	options  *Options
	receiver int
	event    Event
	first    int
	frames   int
}

func emitEvents(events []pendingEvent) {
	for _, e := range events {
		e.options.Events.HandleEvent(e.receiver, e.event, e.first, e.frames)
	}
}
