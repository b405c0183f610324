package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// testWelcome is the default WELCOME of the fake hubs.
var testWelcome = wire.Welcome{
	Version: wire.Version2, ID: 7, Resume: "secret", Hub: "a test", Epoch: 1,
	MaxBody: 1000, MaxReceivers: 255, MaxReports: 2, Credit: 1000, Window: 2000, Keepalive: 10_000,
}

// testClient is a v2 client whose hub is the test, over connections without buffers.
type testClient struct {
	t              testing.TB
	client         *Client
	hubs           chan *fakeHub // ends of the connections, in dial order
	events         chan Event    // all events except EventReconnectFailed
	failedAttempts chan Event    // EventReconnectFailed; further ones are dropped when full
}

// newTestClient returns a connected v2 client and its first hub.
func newTestClient(t testing.TB, change func(*Options)) (*testClient, *fakeHub) {
	t.Helper()
	return newTestClientWith(t, wire.Hello{Version: wire.Version2}, testWelcome, change)
}

// newTestClientWith is newTestClient with that HELLO and that WELCOME.
func newTestClientWith(t testing.TB, hello wire.Hello, w wire.Welcome, change func(*Options)) (*testClient, *fakeHub) {
	t.Helper()
	tc := &testClient{t: t, hubs: make(chan *fakeHub, 100), events: make(chan Event, 100), failedAttempts: make(chan Event, 100)}
	o := Options{Dial: tc.dial, OnEvent: tc.onEvent}
	if change != nil {
		change(&o)
	}
	made := runAsync(func() error {
		var err error
		tc.client, err = Dial(t.Context(), "", &o)
		return err
	})
	h := <-tc.hubs
	h.acceptHello(&hello, w)
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tc.client.session.end(ErrClosed) // also without a hub
		tc.client.Close()
	})
	return tc, h
}

func (tc *testClient) dial(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	tc.t.Cleanup(func() { far.Close() })
	tc.hubs <- &fakeHub{tc.t, far}
	return near, nil
}

func (tc *testClient) onEvent(e Event) {
	if e.Kind != EventReconnectFailed {
		tc.events <- e
		return
	}
	select {
	case tc.failedAttempts <- e:
	default:
	}
}

// acceptHello reads a HELLO, which must equal want, and replies with w.
func (h *fakeHub) acceptHello(want *wire.Hello, w wire.Welcome) {
	h.t.Helper()
	h.wantHello(want)
	h.sendWelcome(w)
}

// sendWelcome sends w, and reads the first ACK of a client with a new session.
func (h *fakeHub) sendWelcome(w wire.Welcome) {
	h.t.Helper()
	h.send(wire.AppendWelcome(nil, &w), wire.AppendIdentity(nil, w.ID))
	if !w.Resumed {
		h.wantBytes(wire.AppendAck(nil, 0))
	}
}

// wantHello reads a HELLO, which must equal want apart from the fields that each HELLO has.
// Read is compared only if want sets it.
func (h *fakeHub) wantHello(want *wire.Hello) {
	h.t.Helper()
	expected := *want
	expected.Confirms, expected.Skip = true, true
	typ, payload, err := h.readFrame()
	got, _ := wire.ParseHello(payload)
	if expected.Read == nil {
		got.Read = nil
	}
	if got, want := wire.AppendHello(nil, &got), wire.AppendHello(nil, &expected); err != nil || typ != wire.TypeHello || !bytes.Equal(got, want) {
		h.t.Errorf("the client sent a frame of type %#x: %q (%v), want %q", typ, got, err, want)
	}
	h.wantBytes(wire.AppendIdentityRequest(nil))
}

// resumedWelcome returns the WELCOME for a resumed session.
func resumedWelcome(change func(*wire.Welcome)) wire.Welcome {
	w := testWelcome
	w.Resumed = true
	change(&w)
	return w
}

// wantEvent takes the next event, which must be of that kind.
func (tc *testClient) wantEvent(kind EventKind) Event {
	tc.t.Helper()
	e := <-tc.events
	if e.Kind != kind {
		tc.t.Errorf("event %v (%v), want %v", e.Kind, e.Err, kind)
	}
	return e
}

// wantType reads the next frame, which must be of that type, and returns its payload.
func (h *fakeHub) wantType(want wire.Type) ([]byte, error) {
	h.t.Helper()
	got, payload, err := h.readFrame()
	if err != nil || got != want {
		h.t.Errorf("a frame of type %d (%v), want %d", got, err, want)
	}
	return payload, err
}

func sendFrame(seq uint64, body string) []byte {
	return wire.AppendSend(nil, seq, 0, 0, []uint64{1}, []byte(body))
}

func deliverFrame(seq uint64, flags wire.DeliverFlags) []byte {
	return wire.AppendDeliver(nil, &wire.Deliver{Sender: 1, Seq: seq, Time: 1, Flags: flags, Body: []byte(fmt.Sprint(seq))})
}

// wantSilence fails the test if the client sends anything but probes for a short time.
func (h *fakeHub) wantSilence() {
	h.t.Helper()
	for {
		if err := h.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			h.t.Fatal(err)
		}
		got := make([]byte, len(probeFrame))
		n, err := h.Read(got[:1])
		_ = h.SetReadDeadline(time.Time{})
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if _, err := io.ReadFull(h, got[n:]); err != nil || !isProbe(got) {
			h.t.Errorf("the client sent % x… (%v), want nothing", got, err)
			return
		}
	}
}

// probeFrame is a PING. Its type is what tells it from other frames.
var probeFrame = wire.AppendPing(nil, 0)

// isProbe reports whether b begins with a PING. A client probes the hub while an acknowledgement is
// outstanding, at the next tick of its ACK timer, which can be any time after a reconnect.
func isProbe(b []byte) bool { return bytes.HasPrefix(b, probeFrame[:wire.HeaderSize]) }
