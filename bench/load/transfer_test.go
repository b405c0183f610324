package main

import (
	"errors"
	"testing"
	"testing/synctest"
)

// fakeDriver delivers each message at once to all other clients, as intercept says.
type fakeDriver struct {
	callbacks []callbacks

	// intercept returns how often a message is delivered, or the error of send.
	intercept func(from, to, number int) (times int, err error)
}

// fakeConn is a client of fakeDriver.
type fakeConn struct {
	driver *fakeDriver
	self   int
	sent   int
}

func (d *fakeDriver) connect(i int, cb callbacks) (driverConn, error) {
	d.callbacks[i] = cb
	return &fakeConn{driver: d, self: i}, nil
}

func (dc *fakeConn) send(_ []int32, body []byte, _ bool) error {
	number := dc.sent
	dc.sent++
	for to, cb := range dc.driver.callbacks {
		if to == dc.self {
			continue
		}
		times, err := dc.driver.intercept(dc.self, to, number)
		if err != nil {
			return err
		}
		for range times {
			cb.onBody(body)
		}
	}
	return nil
}

func (dc *fakeConn) close() {}

// runTestMove runs a move of one client to two others.
func runTestMove(t *testing.T, c moveConfig, tolerant bool, intercept func(from, to, number int) (int, error)) (m *moveResult) {
	t.Helper()
	c.clients, c.senders, c.size = 3, 1, 32
	synctest.Test(t, func(t *testing.T) {
		fake := system{newDriver: func(_ target, n int) driver {
			return &fakeDriver{callbacks: make([]callbacks, n), intercept: intercept}
		}}
		var err error
		if m, err = runMoveOn(t.Context(), fake, target{libraryDefaults: tolerant}, c); err != nil {
			t.Fatal(err)
		}
	})
	return m
}

func deliverOnce(int, int, int) (int, error) { return 1, nil }

func TestRunMove_DeliversAll(t *testing.T) {
	m := runTestMove(t, moveConfig{messages: 3}, false, deliverOnce)
	if want := (moveResult{Deliveries: 6, Expected: 6}); *m != want { // the clock stands still
		t.Errorf("%+v, want %+v", *m, want)
	}
}

// TestRunMove_WithRate sends for two seconds of synthetic time.
func TestRunMove_WithRate(t *testing.T) {
	m := runTestMove(t, moveConfig{rate: 100, seconds: 2}, false, deliverOnce)
	if m.Expected != 200 || m.Lost != 0 || m.Seconds < 1.9 || m.Seconds > 2 {
		t.Errorf("%+v, want 200 deliveries in almost 2 s", *m)
	}
}

// TestRunMove_ReportsLoss drops one delivery and checks that the run ends and reports the
// loss.
func TestRunMove_ReportsLoss(t *testing.T) {
	m := runTestMove(t, moveConfig{messages: 3}, false, func(_, to, number int) (int, error) {
		if to == 2 && number == 1 {
			return 0, nil
		}
		return 1, nil
	})
	if m.Lost != 1 || m.Deliveries != 5 || m.Faults != 0 {
		t.Errorf("%+v, want one lost", *m)
	}
	if m.Seconds > stallTimeout.Seconds()/2 {
		t.Errorf("%v s, which includes the stall timeout", m.Seconds)
	}
}

func TestRunMove_ReportsDuplicate(t *testing.T) {
	m := runTestMove(t, moveConfig{messages: 3}, false, func(_, to, number int) (int, error) {
		if to == 2 && number == 1 {
			return 2, nil
		}
		return 1, nil
	})
	if m.Lost != 0 || m.Faults != 1 {
		t.Errorf("%+v, want one fault", *m)
	}
}

var errRejected = errors.New("rejected")

func rejectSecond(_, _, number int) (int, error) {
	if number == 1 {
		return 0, errRejected
	}
	return 1, nil
}

// TestRunMove_StopsAtSendError checks that a failed send ends the run.
func TestRunMove_StopsAtSendError(t *testing.T) {
	m := runTestMove(t, moveConfig{messages: 3}, false, rejectSecond)
	if m.Problem == "" || m.Deliveries != 2 || m.Lost != 4 {
		t.Errorf("%+v, want the first message and the problem", *m)
	}
}

// TestRunMove_ToleratesSendError checks that a tolerant run continues after a failed send.
func TestRunMove_ToleratesSendError(t *testing.T) {
	m := runTestMove(t, moveConfig{messages: 3}, true, rejectSecond)
	if m.Problem == "" || m.Deliveries != 4 || m.Lost != 2 || m.Rejected != 2 {
		t.Errorf("%+v, want two messages of three, and one rejected", *m)
	}
}
