package simulation

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// stallTimeout is the timeout of runs that stall. It also limits each connect, which takes long
// on a busy machine.
const stallTimeout = 2 * time.Second

func TestRun_StallsWithoutDeliveries(t *testing.T) {
	t.Parallel() // mostly waiting
	h := (&fakeHub{deliver: func(uint64, int, []byte) [][]byte { return nil }}).start(t)
	c := smallConfig(h.addr)
	c.Timeout = stallTimeout
	report, text := simulate(t, c)
	if report.OK() || report.Complete || report.Problems.Totals[ProblemLost] != 60 {
		t.Errorf("got %+v", report)
	}
	for _, part := range []string{
		"no progress for 2s", "Problems: 60 lost", "15 lost, got 0 of 15 deliveries: 5 from client ", "(numbers 0-4)",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("%q is not in\n%s", part, text)
		}
	}
}

// TestRun_StallsWhenHubStopsReading checks that blocked senders are reported.
func TestRun_StallsWhenHubStopsReading(t *testing.T) {
	t.Parallel() // mostly waiting
	block := make(chan struct{})
	h := (&fakeHub{onRelay: func(int) { <-block }}).start(t)
	t.Cleanup(func() { close(block) })
	c := smallConfig(h.addr)
	c.Size, c.Messages, c.Timeout = MaxSize, 30, stallTimeout
	report, text := simulate(t, c)
	if report.OK() || report.Problems.Totals[ProblemUnsent] == 0 {
		t.Errorf("found %+v", report.Problems)
	}
	if !strings.Contains(text, "of 30 messages") {
		t.Errorf("not named:\n%s", text)
	}
}

// TestRun_LongIntervalIsNoStall checks that a pause in the schedule longer than the timeout is
// no stall.
func TestRun_LongIntervalIsNoStall(t *testing.T) {
	t.Parallel() // mostly waiting
	c := smallConfig(startHub(t))
	c.Clients, c.Messages, c.Interval, c.Timeout = 2, 2, 2*stallTimeout, stallTimeout
	checkRunSucceeds(t, c)
}

// TestMonitor_StallsAfterTimeout makes no progress after one second. The last sample is then that
// of the last progress.
func TestMonitor_StallsAfterTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		m := &monitor{
			timeout: 5 * time.Second, display: noDisplay{},
			sample: func() progress {
				return progress{at: time.Now(), received: uint64(min(time.Since(start), time.Second))}
			},
			nextDue: func() (time.Time, bool) { return time.Time{}, false },
		}
		err := m.await(t.Context(), 1)
		if !errors.As(err, new(stallError)) {
			t.Errorf("%v, want a stallError", err)
		}
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("stalled after %v, want 6s", took)
		}
		if last := m.last.at.Sub(start); last != time.Second {
			t.Errorf("last progress at %v, want 1s", last)
		}
	})
}

// TestMonitor_PauseIsNoStall has a message that is due long after the timeout.
func TestMonitor_PauseIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, partsDone := time.Now(), make(chan struct{}, 1)
		m := &monitor{
			partsDone: partsDone, timeout: time.Second, display: noDisplay{},
			sample:  func() progress { return progress{at: time.Now()} },
			nextDue: func() (time.Time, bool) { return start.Add(time.Hour), true },
		}
		time.AfterFunc(time.Hour, func() { partsDone <- struct{}{} })
		if err := m.await(t.Context(), 1); err != nil {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}
