package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/stats"
)

// delayDriver connects two clients. It delivers each message to the other client after a delay.
type delayDriver struct {
	delay     time.Duration
	callbacks [2]callbacks
	damage    func(body []byte) // changes a body on its way
	err       error             // of send
}

// delayConn is a client of delayDriver.
type delayConn struct {
	driver *delayDriver
	self   int
}

func (d *delayDriver) connect(i int, cb callbacks) (driverConn, error) {
	d.callbacks[i] = cb
	return &delayConn{d, i}, nil
}

func (dc *delayConn) send(_ []int32, body []byte, _ bool) error {
	if dc.driver.err != nil {
		return dc.driver.err
	}
	body = slices.Clone(body)
	if dc.driver.damage != nil {
		dc.driver.damage(body)
	}
	time.AfterFunc(dc.driver.delay, func() { dc.driver.callbacks[1-dc.self].onBody(body) })
	return nil
}

func (dc *delayConn) close() {}

// runPingPong measures round trips through d, at most for a minute of virtual time.
func runPingPong(t *testing.T, d *delayDriver, rounds int64, interval time.Duration) (p *pingPong, err error) {
	synctest.Test(t, func(t *testing.T) {
		p = &pingPong{rounds: rounds, interval: interval, body: make([]byte, 100), latencies: stats.NewLatency(), done: make(chan error, 1)}
		p.stop = func(err error) {
			select {
			case p.done <- err:
			default:
			}
		}
		err = p.run(t.Context(), d, time.Minute)
		synctest.Wait()
	})
	return p, err
}

func TestPingPong_MeasuresRoundTrip(t *testing.T) {
	p, err := runPingPong(t, &delayDriver{delay: time.Millisecond}, 50, 0)
	if err != nil {
		t.Fatal(err)
	}
	// The warm-up of 1,000 round trips is not measured.
	if p.latencies.Count() != 50 || p.round != warmUpRounds+50 {
		t.Errorf("%d measured of %d", p.latencies.Count(), p.round)
	}
	if got := p.latencies.Max().Round(time.Millisecond / 10); got != 2*time.Millisecond {
		t.Errorf("a round trip takes %v, want 2ms", got)
	}
}

// TestPingPong_LateRoundCountsFromDue has round trips of 20 ms that are due every 10 ms.
func TestPingPong_LateRoundCountsFromDue(t *testing.T) {
	p, err := runPingPong(t, &delayDriver{delay: 10 * time.Millisecond}, 10, 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.latencies.Quantile(0); got < 100*time.Millisecond {
		t.Errorf("the shortest latency is %v, but each round trip was later than the one before", got)
	}
}

func TestPingPong_Errors(t *testing.T) {
	for name, test := range map[string]struct {
		driver *delayDriver
		want   string
	}{
		"send":   {&delayDriver{err: errors.New("broken")}, "broken"},
		"damage": {&delayDriver{damage: func(body []byte) { body[99]++ }}, "differs"},
		"lost":   {&delayDriver{delay: time.Hour}, "lost"},
	} {
		if _, err := runPingPong(t, test.driver, 10, 0); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}
