package socket

// Terms are what a piece asks for beyond being sent. They are shared by all
// outboxes that it is offered to, and static from then on.
type Terms struct {
	Tracker Tracker // told what becomes of it; nil: nobody
	Expires int64   // when it is worth nothing any more, in ns since 1970; 0: never
	Owner   any     // whose pieces give way to it if IfFull is Displace: those with an equal Owner
	IfFull  IfFull
	Last    bool // nothing is taken after it: to what is offered then, the outbox is closed

	// Stamp is called, with a lock held, before the whole frames in b are written: left is how much time
	// there is until Expires, in ns, above 0. It may change b, and be called again for the same. nil: nobody wants that.
	Stamp func(b []byte, left int64)
}

// IfFull says what Offer does when the queue is full.
type IfFull uint8

// The ways to meet a full queue.
const (
	Park     IfFull = iota // it waits for room
	Refuse                 // it is not taken
	Displace               // the oldest pieces of its owner that are to be displaced give way; without any it is not taken
	Insist                 // it is taken all the same: somebody else must bound how much of that there is
	Overtake               // so is it, and it is written before all that is queued, also while that must wait for the peer; its frames must not be counted
)

// Progress is what became of frames of a tracked piece.
type Progress uint8

// The kinds of progress. The first three are steps; each of the others is an end
// without a further one.
const (
	Entered     Progress = iota // they were parked, and are queued now
	Written                     // the connection took them
	Received                    // the peer has acknowledged them: see Outbox.Number
	Expired                     // their time was up before they were written
	Displaced                   // they gave way
	Unsent                      // the outbox was closed before they were written
	Unheard                     // it was closed after that, and before they were acknowledged
	Unreachable                 // they were begun on several connections, and given up: see Outbox.Move
	Oversized                   // the peer has come back and takes less: see Outbox.SetMaxFrame
)

// Tracker is told what becomes of the frames of a piece. Its methods may be called
// concurrently, in any order, and must not block.
type Tracker interface {
	// Progress says that so many frames of what was offered as Piece.At came that far:
	// those from first on, where 0 is the first of the piece.
	Progress(at int, what Progress, first, frames int)
}

// event is a call of a Tracker that is still to be made, when no lock is held.
type event struct {
	terms  *Terms
	at     int
	what   Progress
	first  int
	frames int
}

func tell(events []event) {
	for _, e := range events {
		e.terms.Tracker.Progress(e.at, e.what, e.first, e.frames)
	}
}

// note adds an event about the first frames of s if somebody wants to know.
func (s *segment) note(events []event, what Progress, frames int) []event {
	if s.terms == nil || s.terms.Tracker == nil || frames == 0 {
		return events
	}
	return append(events, event{s.terms, int(s.at), what, int(s.index), frames})
}

// expires reports whether s may expire. What the peer has read does not.
func (s *segment) expires() bool {
	return s.terms != nil && s.terms.Expires != 0 && !s.isSkips()
}

// expired reports whether it is no use any more to send s.
func (s *segment) expired(now int64) bool {
	return s.expires() && now >= s.terms.Expires
}

func (t *Terms) ifFull() IfFull {
	if t == nil {
		return Park
	}
	return t.IfFull
}
