package client

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// newTestSession returns a session without a connection, and its events.
func newTestSession(t *testing.T, options Options) (*session, *[]Event) {
	events := new([]Event)
	options.OnEvent = func(e Event) { *events = append(*events, e) }
	s := new(session)
	var endpoints []endpoint
	if options.Dial != nil {
		endpoints = []endpoint{{dial: options.Dial}}
	}
	s.init(options, false, endpoints)
	t.Cleanup(func() { s.end(ErrClosed) })
	return s, events
}

func TestSession_CanReconnect(t *testing.T) {
	dial := func(context.Context) (net.Conn, error) { return nil, errors.New("no way") }
	for name, test := range map[string]struct {
		version int32
		options Options
		want    bool
	}{
		"version 2":     {wire.Version2, Options{Dial: dial}, true},
		"version 1":     {1, Options{Dial: dial}, false},
		"no Dial":       {wire.Version2, Options{}, false},
		"NoReconnect":   {wire.Version2, Options{Dial: dial, NoReconnect: true}, false},
		"no connection": {0, Options{Dial: dial}, false},
	} {
		s, _ := newTestSession(t, test.options)
		s.version.Store(test.version)
		if got := s.canReconnect(); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// TestSession_FailSend: the error goes to the call of the message, or else is an event.
func TestSession_FailSend(t *testing.T) {
	s, events := newTestSession(t, Options{})
	s.id.Store(7)
	var told error
	s.failSend(&call{onReport: func(_ *Report, err error) { told = err }}, ErrUndeliverable)
	if told != ErrUndeliverable || len(*events) != 0 {
		t.Errorf("the call got %v, and there are %d events", told, len(*events))
	}
	s.failSend(nil, ErrUndeliverable)
	if want := (Event{Kind: EventRefused, ID: 7, Err: ErrUndeliverable}); len(*events) != 1 || (*events)[0] != want {
		t.Errorf("events %v, want %v", *events, want)
	}
	s.life.callbacksDisabled.Store(true)
	if s.failSend(nil, ErrUndeliverable); len(*events) != 1 {
		t.Error("an event comes when callbacks are disabled")
	}
}

// TestSession_End: the first error ends every part, and calls that wait.
func TestSession_End(t *testing.T) {
	s, _ := newTestSession(t, Options{MaxQueued: 100})
	s.version.Store(wire.Version2)
	reported := make(chan error, 1)
	waiter := &call{receivers: 1, onReport: func(_ *Report, err error) { reported <- err }}
	if err := s.sendQueue.enqueue(t.Context(), s.life.closing, []uint64{1}, nil, &SendOptions{Level: wire.LevelReceived}, waiter); err != nil {
		t.Fatal(err)
	}
	watched := runAsync(func() error { _, err := s.presence.next(t.Context(), s.presence.addWatcher()); return err })
	s.end(ErrHubClosed)
	s.end(ErrClosed)
	_, received := s.inbox.receive(t.Context())
	for name, err := range map[string]error{
		"the report": waitFor(t, "the report", reported), "presence": waitFor(t, "presence", watched),
		"the inbox": received, "the lifetime": s.life.Err(),
	} {
		if err != ErrHubClosed {
			t.Errorf("%s has ended with %v", name, err)
		}
	}
	select {
	case <-s.life.Done():
	case <-time.After(time.Minute):
		t.Error("the context goes on")
	}
}
