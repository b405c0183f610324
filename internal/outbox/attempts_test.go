package outbox

import (
	"testing"
	"time"
)

func TestAttempts_RecordFailure(t *testing.T) {
	type attempt struct {
		frame  uint64
		begun  bool
		lasted time.Duration
	}
	times := func(n int, a attempt) (all []attempt) {
		for range n {
			all = append(all, a)
		}
		return all
	}
	slow := attempt{7, true, minAttemptTime / 2}
	for _, test := range []struct {
		name     string
		attempts []attempt
		give     int // number of the attempt that gives up, from 1; 0: never
	}{
		{"slow attempts", times(2*maxAttempts, slow), maxAttempts},
		{"first attempt began long before the frame", append(times(1, attempt{7, true, time.Hour}), times(2*maxAttempts, attempt{7, true, minAttemptTime / 20})...), 21},
		{"cut at once", times(100, attempt{7, true, time.Millisecond}), 0},
		{"another frame in between", append(append(times(maxAttempts-1, slow), attempt{8, true, time.Hour}), times(maxAttempts-1, slow)...), 0},
		{"an attempt that did not start the frame in between", append(append(times(maxAttempts-1, slow), attempt{7, false, time.Hour}), times(maxAttempts-1, slow)...), 0},
		{"few attempts of hours", times(maxAttempts-1, attempt{7, true, time.Hour}), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var a Attempts
			for i, current := range test.attempts {
				givenUp := a.RecordFailure(current.frame, current.begun, current.lasted)
				if givenUp != (i+1 == test.give) {
					t.Fatalf("attempt %d: given up is %v, want true at attempt %d", i+1, givenUp, test.give)
				}
				if givenUp {
					return
				}
			}
			if test.give != 0 && test.give <= len(test.attempts) {
				t.Errorf("not given up in %d attempts", len(test.attempts))
			}
		})
	}
}
