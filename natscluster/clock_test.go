package natscluster

import (
	"strings"
	"testing"
	"time"
)

func TestDifference(t *testing.T) {
	before := time.Now()
	after := before.Add(time.Second)
	for created, want := range map[time.Duration]time.Duration{
		-time.Hour:                 -time.Hour,
		0:                          0,
		time.Second / 2:            0,
		time.Second:                0,
		time.Minute:                time.Minute - time.Second,
		time.Second + 1:            1,
		-time.Millisecond:          -time.Millisecond,
		24*time.Hour + time.Second: 24 * time.Hour,
	} {
		if got := difference(before.Add(created), before, after); got != want {
			t.Errorf("created after %v: %v, want %v", created, got, want)
		}
	}
}

func TestCheckClock_WarnsOfDifference(t *testing.T) {
	s := startNATS(t, nil)
	right, wrong := testConfig(s), testConfig(s)
	wrong.now = func() time.Time { return time.Now().Add(-time.Minute) }
	join(t, wrong)
	line := logs(wrong).waitFor(t, "the clocks of this machine and of NATS differ")
	if !strings.Contains(line, "nats_is_ahead_by=1m0s") && !strings.Contains(line, "nats_is_ahead_by=59.") {
		t.Error(line)
	}
	c := join(t, right)
	c.Close() // ends the first check
	if n := logs(right).count("clocks"); n != 0 {
		t.Errorf("%d warnings of a clock that is right", n)
	}
}
