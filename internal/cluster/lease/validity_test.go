package lease

import (
	"testing"
	"time"
)

func TestIsBefore_BothClocks(t *testing.T) {
	now := time.Now()
	wallOf := func(d time.Duration) time.Time { return now.Round(0).Add(d) } // no monotonic clock
	tests := map[string]struct {
		now, until time.Time
		want       bool
	}{
		"before":                   {now, now.Add(time.Second), true},
		"at":                       {now, now, false},
		"after":                    {now.Add(2), now.Add(1), false},
		"no lease":                 {now, time.Time{}, false},
		"wall clock is past until": {wallOf(time.Hour), now.Add(time.Second), false},
	}
	for name, tt := range tests {
		if got := isBefore(tt.now, tt.until); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
