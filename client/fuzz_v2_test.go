package client

import (
	"errors"
	"io"
	"net"
	"slices"
	"testing"

	"github.com/sechlol/go-message-hub/wire"
)

// fuzzHubV2 is a fuzzHub of version 2. It sends WELCOME after HELLO, and continues when the
// client has sent all requests of the test.
type fuzzHubV2 struct {
	fuzzHub
	greeting []byte
	started  bool
	partial  []byte // by the client, from its first incomplete frame
	frames   int    // number of frames from the client
}

func newFuzzHubV2(script, cuts []byte) *fuzzHubV2 {
	return &fuzzHubV2{
		fuzzHub:  fuzzHub{asked: make(chan struct{}, 2), script: script, cuts: cuts, closed: make(chan struct{}), read: 1},
		greeting: wire.AppendIdentity(wire.AppendWelcome(nil, &testWelcome), testWelcome.ID),
	}
}

// The frames of the client before the script: HELLO and identity, and then SEND, WATCH, list
// and PING in any order.
const (
	handshakeFrames = 2
	requestFrames   = handshakeFrames + 4
)

func (h *fuzzHubV2) Write(p []byte) (int, error) {
	h.partial = append(h.partial, p...)
	for frame := range wire.Frames(h.partial) {
		h.partial = h.partial[len(frame):]
		if typ, payload := wire.Split(frame); typ == wire.TypePing && payload[7] > 0 || typ == wire.TypeVerdict || typ == wire.TypeAck {
			continue // sent by the client on its own
		}
		if h.frames++; h.frames == handshakeFrames || h.frames == requestFrames {
			h.asked <- struct{}{}
		}
	}
	return len(p), nil
}

func (h *fuzzHubV2) Read(p []byte) (int, error) {
	if len(h.greeting) == 0 {
		return h.fuzzHub.Read(p)
	}
	if !h.started {
		h.started = true
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

// expectationV2 is the result that a client must get from a script while it waits for a list, a
// PONG and the report of its first message, which has one receiver.
type expectationV2 struct {
	messages []wire.Deliver
	listed   bool
	ponged   bool
	reported bool
	refused  bool // the message was refused before its report
	acked    bool // the hub has acknowledged or refused the message
	goAway   bool // GOAWAY has come
	err      error
}

func expectV2(script []byte, maxLength int) (h expectationV2) {
	for {
		length, typ, payload := splitFrame(script)
		switch {
		case len(script) >= wire.LengthSize && length > maxLength:
			h.err = ErrProtocol
		case payload == nil:
			h.err = ErrHubClosed
		case length > 0 && !h.acceptFrame(wire.Type(typ), payload):
			h.err = ErrProtocol
		}
		if h.err != nil {
			if h.goAway {
				h.err = ErrHubClosed // later frames do not count
			}
			return h
		}
		script = script[wire.LengthSize+length:]
	}
}

// acceptFrame reports whether a frame is allowed now.
func (h *expectationV2) acceptFrame(typ wire.Type, payload []byte) bool {
	var err error
	ok := true
	switch typ {
	case 0:
	case wire.TypeRelay:
		return h.acceptMessage(wire.Deliver{Body: payload})
	case wire.TypeDeliver:
		d, err := wire.ParseDeliver(payload)
		return err == nil && h.acceptMessage(d)
	case wire.TypeReport:
		return h.acceptReport(payload)
	case wire.TypeAck:
		upTo, err := wire.ParseUint64(payload)
		h.acked = h.acked || upTo == 1
		return err == nil && upTo <= 1
	case wire.TypePing:
		_, err = wire.ParseUint64(payload)
	case wire.TypePong:
		n, err := wire.ParseUint64(payload)
		return err == nil && (n > 0 || setOnce(&h.ponged))
	case wire.TypeList:
		_, err = wire.ParseList(payload)
		return err == nil && setOnce(&h.listed)
	case wire.TypePresence:
		_, err = wire.ParsePresence(payload)
	case wire.TypeError:
		return h.acceptError(payload)
	case wire.TypeGoAway:
		_, err = wire.ParseGoAway(payload)
		h.goAway = h.goAway || err == nil
	default:
		ok = typ > wire.TypeAck && typ != wire.TypeRenewed
	}
	return ok && err == nil
}

// setOnce sets flag, and reports whether it was unset.
func setOnce(flag *bool) bool {
	was := *flag
	*flag = true
	return !was
}

func (h *expectationV2) acceptMessage(d wire.Deliver) bool {
	if len(d.Body) > maxFuzzBody {
		return false
	}
	h.messages = append(h.messages, d)
	return true
}

func (h *expectationV2) acceptReport(payload []byte) bool {
	r, err := wire.ParseReport(payload)
	if err != nil || r.Seq != 1 || len(r.Fates) != 1 || h.reported || h.refused {
		return false
	}
	h.reported = true
	return true
}

func (h *expectationV2) acceptError(payload []byte) bool {
	e, err := wire.ParseError(payload)
	if err == nil && e.Seq == 1 {
		h.acked = true
		h.refused = !h.reported
	}
	return err == nil
}

// FuzzClient2 has a v2 hub that sends arbitrary bytes after its WELCOME, while the client waits
// for replies of each kind. The client must receive the messages before the first error, report
// that error, end all waiting calls, and end.
func FuzzClient2(f *testing.F) {
	for _, script := range fuzzScripts() {
		f.Add(script, []byte{}, uint32(0))
		f.Add(slices.Concat(deliverFrame(1, 3), script, deliverFrame(2, 0)), []byte{1}, uint32(0))
		f.Add(script[:len(script)-1], []byte{0, 3}, uint32(0))
	}
	f.Add(deliverFrame(1, wire.DeliverWantAck), []byte{3, 200}, uint32(maxFuzzBody-5))
	f.Add(deliverFrame(1, wire.DeliverWantVerdict), []byte{}, uint32(maxFuzzBody+5))
	f.Fuzz(func(t *testing.T, script, cuts []byte, large uint32) {
		if large > 0 { // a fuzzer rarely finds a complete large frame by itself
			d := wire.Deliver{Sender: 1, Seq: 1, Time: 1, Body: make([]byte, large%(maxFuzzBody+10))}
			script = append(wire.AppendDeliver(nil, &d), script...)
		}
		o := Options{NoReconnect: true, MaxBody: maxFuzzBody, MaxList: maxFuzzList}
		want := expectV2(script, o.maxLength())
		l := newFuzzClientV2(t, newFuzzHubV2(script, cuts), o)
		l.wantMessages(&want)
		l.wantReplies(&want)
		if err := l.client.Close(); (err == nil) != want.acked {
			t.Errorf("Close: %v, the message was acknowledged: %v", err, want.acked)
		}
		if n := len(l.eventKinds); n == 0 || slices.Index(l.eventKinds, EventClosed) != n-1 {
			t.Errorf("the events are %v", l.eventKinds)
		}
	})
}

// fuzzScripts returns frames of each type, valid and invalid ones.
func fuzzScripts() [][]byte {
	connected, left := []uint64{1, 7}, []uint64{7}
	return [][]byte{
		slices.Concat(deliverFrame(1, wire.DeliverWantAck), deliverFrame(2, wire.DeliverWantVerdict), deliverFrame(3, 0)),
		deliveryFrames(3),
		wire.AppendReport(nil, 1, []byte{byte(wire.FateReceived)}),
		wire.AppendReport(nil, 1, []byte{byte(wire.FateReceived), byte(wire.FateGone)}),
		append(wire.AppendAck(nil, 1), wire.AppendAck(nil, 0)...),
		wire.AppendAck(nil, 2),
		wire.AppendPing(nil, 1<<63),
		append(wire.AppendPong(nil, 0), wire.AppendPong(nil, 9)...),
		append(wire.AppendPong(nil, 0), wire.AppendPong(nil, 0)...),
		append(wire.AppendPresence(nil, 1, wire.PresenceSnapshot, connected, nil), wire.AppendPresence(nil, 2, 0, nil, left)...),
		append(wire.AppendPresence(nil, 1, wire.PresenceSnapshot|wire.PresenceMore, connected, left), deliverFrame(1, 0)...),
		wire.AppendListPage(nil, 2, true, connected),
		wire.AppendError(nil, 1, wire.ErrorBody, "no"),
		append(wire.AppendError(nil, 1, wire.ErrorSeq, ""), wire.AppendReport(nil, 1, []byte{0})...),
		wire.AppendError(nil, 9, wire.ErrorFrame, "no"),
		wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayShutdown, Reconnect: true}),
		append(wire.AppendGoAway(nil, &wire.GoAway{}), wire.AppendBye(nil)...),
		wire.AppendIdentity(nil, 7),
		append(wire.AppendList(nil, connected, nil), wire.AppendList(nil, connected, nil)...),
		wire.AppendWelcome(nil, &testWelcome),
		sendFrame(1, "x"),
		{0, 0, 0, 3, 0x20, 1, 2, 0, 0, 0, 1, 0xFF, 0, 0, 0, 0},
	}
}

// fuzzClientV2 is a client with one outstanding call of each kind.
type fuzzClientV2 struct {
	t                       *testing.T
	client                  *Client
	outcome                 chan error // of the message that was sent
	watched, listed, pinged <-chan error
	eventKinds              []EventKind // owned by the client until it has closed
}

func newFuzzClientV2(t *testing.T, h *fuzzHubV2, o Options) *fuzzClientV2 {
	l := &fuzzClientV2{t: t, outcome: make(chan error, 2)}
	o.OnEvent = func(e Event) { l.eventKinds = append(l.eventKinds, e.Kind) }
	c, err := NewConn(t.Context(), h, &o)
	if err != nil {
		t.Fatal(err)
	}
	l.client = c
	err = c.SendFunc(t.Context(), []uint64{1}, nil, nil, func(_ *Report, err error) { l.outcome <- err })
	if err != nil {
		t.Fatal(err)
	}
	l.watched = runAsync(l.watch)
	l.listed = runAsync(func() error { _, err := c.List(t.Context()); return err })
	l.pinged = runAsync(func() error { _, err := c.Ping(t.Context()); return err })
	return l
}

// watch checks until the end that each client joins before it leaves.
func (l *fuzzClientV2) watch() error {
	connected := make(map[uint64]bool)
	for p, err := range l.client.Watch(l.t.Context()) {
		if err != nil {
			return err
		}
		if !slices.IsSorted(p.Joined) || !slices.IsSorted(p.Left) || len(p.Joined)+len(p.Left) == 0 {
			l.t.Errorf("joined %v, left %v", p.Joined, p.Left)
		}
		for _, id := range p.Joined {
			if connected[id] {
				l.t.Errorf("%d joins again", id)
			}
			connected[id] = true
		}
		for _, id := range p.Left {
			if !connected[id] {
				l.t.Errorf("%d leaves, and had not joined", id)
			}
			delete(connected, id)
		}
	}
	return io.ErrUnexpectedEOF // Watch must end with an error
}

// wantMessages receives the expected messages and the error after them.
func (l *fuzzClientV2) wantMessages(want *expectationV2) {
	i := 0
	for m, err := range l.client.Messages(l.t.Context()) {
		switch {
		case err != nil:
			if !errors.Is(err, want.err) {
				l.t.Errorf("ended with %v, want %v", err, want.err)
			}
		case i >= len(want.messages) || !sameMessage(&m, &want.messages[i]):
			l.t.Errorf("message %d of %d is not what was sent", i, len(want.messages))
		default:
			i++
			m.Ack()
		}
		m.Release()
	}
	if i != len(want.messages) {
		l.t.Errorf("%d messages, want %d", i, len(want.messages))
	}
}

func sameMessage(m *Message, d *wire.Deliver) bool {
	return string(m.Body) == string(d.Body) && m.From == d.Sender && m.Seq == d.Seq
}

// wantReplies checks the results of the outstanding calls.
func (l *fuzzClientV2) wantReplies(want *expectationV2) {
	if err := waitFor(l.t, "the end of Watch", l.watched); !errors.Is(err, want.err) {
		l.t.Errorf("Watch ended with %v, want %v", err, want.err)
	}
	if err := waitFor(l.t, "List", l.listed); (err == nil) != want.listed {
		l.t.Errorf("List: %v, want a reply: %v", err, want.listed)
	}
	if err := waitFor(l.t, "Ping", l.pinged); (err == nil) != want.ponged {
		l.t.Errorf("Ping: %v, want a reply: %v", err, want.ponged)
	}
	var refused *RefusedError
	switch err := waitFor(l.t, "the report", l.outcome); {
	case want.reported == (err == nil) && want.refused == errors.As(err, &refused) && (err == nil || want.refused || errors.Is(err, want.err)):
	default:
		l.t.Errorf("the outcome: %v, want a report: %v, or a refusal: %v", err, want.reported, want.refused)
	}
	if len(l.outcome) > 0 {
		l.t.Errorf("a second outcome: %v", <-l.outcome)
	}
}
