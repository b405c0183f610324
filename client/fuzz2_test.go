package client

import (
	"errors"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// fuzzHub2 is a fuzzHub of version 2: it begins with its WELCOME when the client has
// said hello, and goes on when the client has asked for all that the test makes it
// ask for.
type fuzzHub2 struct {
	fuzzHub
	greeting []byte
	begun    bool
	said     []byte // by the client, from its first frame that is not whole
	frames   int    // that the client has said
}

func newFuzzHub2(script, cuts []byte) *fuzzHub2 {
	return &fuzzHub2{
		fuzzHub:  fuzzHub{asked: make(chan struct{}, 2), script: script, cuts: cuts, closed: make(chan struct{}), read: 1},
		greeting: wire.AppendIdentity(wire.AppendWelcome(nil, &welcome), welcome.ID),
	}
}

// What the client says before the hub does: HELLO and identity, and then SEND, WATCH, list
// and PING, in any order.
const (
	greetingFrames = 2
	askedFrames    = greetingFrames + 4
)

func (h *fuzzHub2) Write(p []byte) (int, error) {
	h.said = append(h.said, p...)
	for frame := range wire.Frames(h.said) {
		h.said = h.said[len(frame):]
		if typ, payload := wire.Split(frame); typ == wire.TypePing && payload[7] > 0 || typ == wire.TypeAck || typ == wire.TypeTaken {
			continue // of the client's own
		}
		if h.frames++; h.frames == greetingFrames || h.frames == askedFrames {
			h.asked <- struct{}{}
		}
	}
	return len(p), nil
}

func (h *fuzzHub2) Read(p []byte) (int, error) {
	if len(h.greeting) == 0 {
		return h.fuzzHub.Read(p)
	}
	if !h.begun {
		h.begun = true
		select {
		case <-h.asked:
		case <-h.closed:
			return 0, net.ErrClosed
		}
	}
	n := copy(p, h.greeting)
	h.greeting = h.greeting[n:]
	return n, nil
}

// heard2 is what a client should make of a script that it hears when it waits for a
// list, a PONG and the report of its first message, to one receiver.
type heard2 struct {
	messages []wire.Deliver
	listed   bool
	ponged   bool
	reported bool
	refused  bool // the message was, before it was reported
	taken    bool // the hub has the message, or does not want it
	away     bool // GOAWAY has come
	err      error
}

func hear2(script []byte, maxLength int) (h heard2) {
	for {
		length, typ, payload := split(script)
		switch {
		case len(script) >= wire.LengthSize && length > maxLength:
			h.err = ErrProtocol
		case payload == nil:
			h.err = ErrHubClosed
		case length > 0 && !h.frame(wire.Type(typ), payload):
			h.err = ErrProtocol
		}
		if h.err != nil {
			if h.away {
				h.err = ErrHubClosed // whatever came behind it
			}
			return h
		}
		script = script[wire.LengthSize+length:]
	}
}

// frame reports whether a frame may come now.
func (h *heard2) frame(typ wire.Type, payload []byte) bool {
	var err error
	ok := true
	switch typ {
	case 0:
	case wire.TypeRelay:
		return h.message(wire.Deliver{Body: payload})
	case wire.TypeDeliver:
		d, err := wire.ParseDeliver(payload)
		return err == nil && h.message(d)
	case wire.TypeReport:
		return h.report(payload)
	case wire.TypeTaken:
		upTo, err := wire.ParseNumber(payload)
		h.taken = h.taken || upTo == 1
		return err == nil && upTo <= 1
	case wire.TypePing:
		_, err = wire.ParseNumber(payload)
	case wire.TypePong:
		n, err := wire.ParseNumber(payload)
		return err == nil && (n > 0 || once(&h.ponged))
	case wire.TypeList:
		_, err = wire.ParseList(payload)
		return err == nil && once(&h.listed)
	case wire.TypePresence:
		_, err = wire.ParsePresence(payload)
	case wire.TypeError:
		return h.refuse(payload)
	case wire.TypeGoAway:
		_, err = wire.ParseGoAway(payload)
		h.away = h.away || err == nil
	default:
		ok = typ > wire.TypeTaken
	}
	return ok && err == nil
}

// once sets a mark, and reports whether it was not set.
func once(mark *bool) bool {
	was := *mark
	*mark = true
	return !was
}

func (h *heard2) message(d wire.Deliver) bool {
	if len(d.Body) > fuzzBody {
		return false
	}
	h.messages = append(h.messages, d)
	return true
}

func (h *heard2) report(payload []byte) bool {
	r, err := wire.ParseReport(payload)
	if err != nil || r.Seq != 1 || len(r.Fates) != 1 || h.reported || h.refused {
		return false
	}
	h.reported = true
	return true
}

func (h *heard2) refuse(payload []byte) bool {
	e, err := wire.ParseError(payload)
	if err == nil && e.Seq == 1 {
		h.taken = true
		h.refused = !h.reported
	}
	return err == nil
}

// FuzzClient2 has a hub of version 2 say anything behind its WELCOME, while the client waits
// for everything that there is to wait for: it must receive the messages up to the first
// thing that is wrong, say what that was, leave nobody waiting, and end.
func FuzzClient2(f *testing.F) {
	for _, script := range fuzzScripts() {
		f.Add(script, []byte{}, uint32(0))
		f.Add(slices.Concat(deliver(1, 3), script, deliver(2, 0)), []byte{1}, uint32(0))
		f.Add(script[:len(script)-1], []byte{0, 3}, uint32(0))
	}
	f.Add(deliver(1, wire.FlagReceived), []byte{3, 200}, uint32(fuzzBody-5))
	f.Add(deliver(1, wire.FlagProcessed), []byte{}, uint32(fuzzBody+5))
	f.Fuzz(func(t *testing.T, script, cuts []byte, large uint32) {
		if large > 0 { // a fuzzer hardly ever finds a whole large frame by itself
			d := wire.Deliver{Sender: 1, Seq: 1, Time: 1, Body: make([]byte, large%(fuzzBody+10))}
			script = append(wire.AppendDeliver(nil, &d), script...)
		}
		o := Options{NoReconnect: true, MaxBody: fuzzBody, MaxList: fuzzList}
		want := hear2(script, o.maxLength())
		l := listen2(t, newFuzzHub2(script, cuts), o)
		l.wantMessages(&want)
		l.wantAnswers(&want)
		if err := l.client.Close(); (err == nil) != want.taken {
			t.Errorf("Close: %v, the message was taken: %v", err, want.taken)
		}
		if n := len(l.kinds); n == 0 || slices.Index(l.kinds, EventClosed) != n-1 {
			t.Errorf("the events are %v", l.kinds)
		}
	})
}

// fuzzScripts are frames of each type, as a hub may say them and as it must not.
func fuzzScripts() [][]byte {
	there, left := []uint64{1, 7}, []uint64{7}
	return [][]byte{
		slices.Concat(deliver(1, wire.FlagReceived), deliver(2, wire.FlagProcessed), deliver(3, 0)),
		deliveries(3),
		wire.AppendReport(nil, 1, []byte{byte(wire.FateReceived)}),
		wire.AppendReport(nil, 1, []byte{byte(wire.FateReceived), byte(wire.FateGone)}),
		append(wire.AppendTaken(nil, 1), wire.AppendTaken(nil, 0)...),
		wire.AppendTaken(nil, 2),
		wire.AppendPing(nil, 1<<63),
		append(wire.AppendPong(nil, 0), wire.AppendPong(nil, 9)...),
		append(wire.AppendPong(nil, 0), wire.AppendPong(nil, 0)...),
		append(wire.AppendPresence(nil, 1, wire.PresenceSnapshot, there, nil), wire.AppendPresence(nil, 2, 0, nil, left)...),
		append(wire.AppendPresence(nil, 1, wire.PresenceSnapshot|wire.PresenceMore, there, left), deliver(1, 0)...),
		wire.AppendListPage(nil, 2, true, there),
		wire.AppendError(nil, 1, wire.ErrorBody, "no"),
		append(wire.AppendError(nil, 1, wire.ErrorSeq, ""), wire.AppendReport(nil, 1, []byte{0})...),
		wire.AppendError(nil, 9, wire.ErrorFrame, "no"),
		wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayShutdown, Reconnect: true}),
		append(wire.AppendGoAway(nil, &wire.GoAway{}), wire.AppendBye(nil)...),
		wire.AppendIdentity(nil, 7),
		append(wire.AppendList(nil, there, nil), wire.AppendList(nil, there, nil)...),
		wire.AppendWelcome(nil, &welcome),
		send(1, "x"),
		{0, 0, 0, 3, 0x20, 1, 2, 0, 0, 0, 1, 0xFF, 0, 0, 0, 0},
	}
}

// listener2 is a client that has asked for everything.
type listener2 struct {
	t                       *testing.T
	client                  *Client
	outcome                 chan error // of the message that it has sent
	watched, listed, pinged <-chan error
	kinds                   []EventKind // owned by the client until it is closed
}

func listen2(t *testing.T, h *fuzzHub2, o Options) *listener2 {
	l := &listener2{t: t, outcome: make(chan error, 2)}
	o.OnEvent = func(e Event) { l.kinds = append(l.kinds, e.Kind) }
	c, err := New(t.Context(), h, &o)
	if err != nil {
		t.Fatal(err)
	}
	l.client = c
	err = c.SendFunc(t.Context(), []uint64{1}, nil, nil, func(_ *Report, err error) { l.outcome <- err })
	if err != nil {
		t.Fatal(err)
	}
	l.watched = start(l.watch)
	l.listed = start(func() error { _, err := c.List(t.Context()); return err })
	l.pinged = start(func() error { _, err := c.Ping(t.Context()); return err })
	return l
}

// watch looks whether everybody joins before he leaves, until the client is over.
func (l *listener2) watch() error {
	there := make(map[uint64]bool)
	for p, err := range l.client.Watch(l.t.Context()) {
		if err != nil {
			return err
		}
		if !slices.IsSorted(p.Joined) || !slices.IsSorted(p.Left) || len(p.Joined)+len(p.Left) == 0 {
			l.t.Errorf("joined %v, left %v", p.Joined, p.Left)
		}
		for _, id := range p.Joined {
			if there[id] {
				l.t.Errorf("%d joins again", id)
			}
			there[id] = true
		}
		for _, id := range p.Left {
			if !there[id] {
				l.t.Errorf("%d leaves, and was not there", id)
			}
			delete(there, id)
		}
	}
	return io.ErrUnexpectedEOF // a Watch ends with an error
}

// wantMessages receives what the client must get before its end.
func (l *listener2) wantMessages(want *heard2) {
	i := 0
	for m, err := range l.client.Messages(l.t.Context()) {
		switch {
		case err != nil:
			if !errors.Is(err, want.err) {
				l.t.Errorf("ended with %v, want %v", err, want.err)
			}
		case i >= len(want.messages) || !same(&m, &want.messages[i]):
			l.t.Errorf("message %d of %d is not what was sent", i, len(want.messages))
		default:
			i++
			m.Done()
		}
		m.Release()
	}
	if i != len(want.messages) {
		l.t.Errorf("%d messages, want %d", i, len(want.messages))
	}
}

func same(m *Message, d *wire.Deliver) bool {
	return string(m.Body) == string(d.Body) && m.From == d.Sender && m.Seq == d.Seq
}

// wantAnswers looks at what those were told who waited.
func (l *listener2) wantAnswers(want *heard2) {
	if err := within(l.t, "the end of Watch", l.watched); !errors.Is(err, want.err) {
		l.t.Errorf("Watch ended with %v, want %v", err, want.err)
	}
	if err := within(l.t, "List", l.listed); (err == nil) != want.listed {
		l.t.Errorf("List: %v, want an answer: %v", err, want.listed)
	}
	if err := within(l.t, "Ping", l.pinged); (err == nil) != want.ponged {
		l.t.Errorf("Ping: %v, want an answer: %v", err, want.ponged)
	}
	var refused *RefusedError
	switch err := within(l.t, "the report", l.outcome); {
	case want.reported == (err == nil) && want.refused == errors.As(err, &refused) && (err == nil || want.refused || errors.Is(err, want.err)):
	default:
		l.t.Errorf("the report: %v, want one: %v, or a refusal: %v", err, want.reported, want.refused)
	}
	if len(l.outcome) > 0 {
		l.t.Errorf("a second outcome: %v", <-l.outcome)
	}
}
