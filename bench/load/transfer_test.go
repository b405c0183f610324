package main

import (
	"errors"
	"testing"
	"testing/synctest"
)

// fakeNetwork delivers at once what is sent to everyone, unless a test meddles.
type fakeNetwork struct {
	inboxes []inbox

	// meddle says how often a message is delivered, 1 as a rule, and may fail.
	meddle func(from, to, number int) (times int, err error)
}

// fakeMember is a client of it.
type fakeMember struct {
	network *fakeNetwork
	self    int
	sent    int
}

func (n *fakeNetwork) join(i int, in inbox) (member, error) {
	n.inboxes[i] = in
	return &fakeMember{network: n, self: i}, nil
}

func (m *fakeMember) send(_ []int32, body []byte, _ bool) error {
	number := m.sent
	m.sent++
	for to, in := range m.network.inboxes {
		if to == m.self {
			continue
		}
		times, err := m.network.meddle(m.self, to, number)
		if err != nil {
			return err
		}
		for range times {
			in.deliver(body)
		}
	}
	return nil
}

func (m *fakeMember) close() {}

// transferred runs a move of 3 messages from one client to two others.
func transferred(t *testing.T, c moveConfig, tolerant bool, meddle func(from, to, number int) (int, error)) (m *moved) {
	t.Helper()
	c.clients, c.senders, c.size = 3, 1, 32
	synctest.Test(t, func(t *testing.T) {
		fake := system{network: func(_ target, n int) network {
			return &fakeNetwork{inboxes: make([]inbox, n), meddle: meddle}
		}}
		var err error
		if m, err = moveOn(t.Context(), fake, target{defaults: tolerant}, c); err != nil {
			t.Fatal(err)
		}
	})
	return m
}

func always(int, int, int) (int, error) { return 1, nil }

func TestMove(t *testing.T) {
	m := transferred(t, moveConfig{messages: 3}, false, always)
	if want := (moved{Deliveries: 6, Expected: 6}); *m != want { // in no time: it is a fake
		t.Errorf("%+v, want %+v", *m, want)
	}
}

// TestMovePaced sends for two seconds of the test's time.
func TestMovePaced(t *testing.T) {
	m := transferred(t, moveConfig{rate: 100, seconds: 2}, false, always)
	if m.Expected != 200 || m.Lost != 0 || m.Seconds < 1.9 || m.Seconds > 2 {
		t.Errorf("%+v, want 200 deliveries in almost 2 s", *m)
	}
}

// TestMoveLoses has one delivery go missing: the run ends, and says so.
func TestMoveLoses(t *testing.T) {
	m := transferred(t, moveConfig{messages: 3}, false, func(_, to, number int) (int, error) {
		if to == 2 && number == 1 {
			return 0, nil
		}
		return 1, nil
	})
	if m.Lost != 1 || m.Deliveries != 5 || m.Faults != 0 {
		t.Errorf("%+v, want one lost", *m)
	}
	if m.Seconds > patience.Seconds()/2 {
		t.Errorf("%v s, which has the waiting in it", m.Seconds)
	}
}

func TestMoveDuplicates(t *testing.T) {
	m := transferred(t, moveConfig{messages: 3}, false, func(_, to, number int) (int, error) {
		if to == 2 && number == 1 {
			return 2, nil
		}
		return 1, nil
	})
	if m.Lost != 0 || m.Faults != 1 {
		t.Errorf("%+v, want one fault", *m)
	}
}

var errRefused = errors.New("refused")

func refuseSecond(_, _, number int) (int, error) {
	if number == 1 {
		return 0, errRefused
	}
	return 1, nil
}

// TestMoveFails has a send that fails: that is the end.
func TestMoveFails(t *testing.T) {
	m := transferred(t, moveConfig{messages: 3}, false, refuseSecond)
	if m.Problem == "" || m.Deliveries != 2 || m.Lost != 4 {
		t.Errorf("%+v, want the first message and the problem", *m)
	}
}

// TestMoveTolerates goes on where a send fails.
func TestMoveTolerates(t *testing.T) {
	m := transferred(t, moveConfig{messages: 3}, true, refuseSecond)
	if m.Problem == "" || m.Deliveries != 4 || m.Lost != 2 || m.Refused != 2 {
		t.Errorf("%+v, want two messages of three, and the third refused", *m)
	}
}
