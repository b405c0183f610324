package main

import (
	"errors"
	"testing"
	"testing/synctest"
)

// fakeDriver delivers at once what is sent to everyone, unless a test meddles.
type fakeDriver struct {
	callbacks []callbacks

	// intercept says how often a message is delivered, 1 as a rule, and may fail.
	intercept func(from, to, number int) (times int, err error)
}

// fakeConn is a client of it.
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

// runTestMove runs a move of 3 messages from one client to two others.
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
	if want := (moveResult{Deliveries: 6, Expected: 6}); *m != want { // in no time: it is a fake
		t.Errorf("%+v, want %+v", *m, want)
	}
}

// TestRunMove_WithRate sends for two seconds of the test's time.
func TestRunMove_WithRate(t *testing.T) {
	m := runTestMove(t, moveConfig{rate: 100, seconds: 2}, false, deliverOnce)
	if m.Expected != 200 || m.Lost != 0 || m.Seconds < 1.9 || m.Seconds > 2 {
		t.Errorf("%+v, want 200 deliveries in almost 2 s", *m)
	}
}

// TestRunMove_ReportsLoss has one delivery go missing: the run ends, and says so.
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
		t.Errorf("%v s, which has the waiting in it", m.Seconds)
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

var errRejected = errors.New("refused")

func rejectSecond(_, _, number int) (int, error) {
	if number == 1 {
		return 0, errRejected
	}
	return 1, nil
}

// TestRunMove_StopsAtSendError has a send that fails: that is the end.
func TestRunMove_StopsAtSendError(t *testing.T) {
	m := runTestMove(t, moveConfig{messages: 3}, false, rejectSecond)
	if m.Problem == "" || m.Deliveries != 2 || m.Lost != 4 {
		t.Errorf("%+v, want the first message and the problem", *m)
	}
}

// TestRunMove_ToleratesSendError goes on where a send fails.
func TestRunMove_ToleratesSendError(t *testing.T) {
	m := runTestMove(t, moveConfig{messages: 3}, true, rejectSecond)
	if m.Problem == "" || m.Deliveries != 4 || m.Lost != 2 || m.Rejected != 2 {
		t.Errorf("%+v, want two messages of three, and the third refused", *m)
	}
}
