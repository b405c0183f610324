package limitlog

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestLimiter_SameErrorAtGrowingIntervals repeats one error each second for a day.
func TestLimiter_SameErrorAtGrowingIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Limiter
		const failures = 24 * 60 * 60
		lines, accounted := 0, 0
		var last time.Time
		interval := time.Duration(0)
		for range failures {
			if skipped, ok := l.Allow("no hub"); ok {
				if since := time.Since(last); lines > 0 && (since < interval || since < minInterval || since > maxInterval) {
					t.Errorf("line %d comes after %v, the one before came after %v", lines, since, interval)
				} else if lines > 0 {
					interval = since
				}
				last = time.Now()
				lines++
				accounted += skipped + 1
			}
			time.Sleep(time.Second)
		}
		if maxLines := 10 + int(failures*time.Second/maxInterval); lines < maxLines/2 || lines > maxLines {
			t.Errorf("%d lines in a day, want at most %d", lines, maxLines)
		}
		if accounted > failures || accounted < failures-int(maxInterval/time.Second) {
			t.Errorf("the lines account for %d failures, want %d", accounted, failures)
		}
	})
}

// TestLimiter_NewErrorLoggedAtOnce also checks that two alternating errors get no additional
// lines.
func TestLimiter_NewErrorLoggedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Limiter
		lines := map[string]int{}
		for i := range 100 {
			text := fmt.Sprint(i % 2)
			if _, ok := l.Allow(text); ok {
				lines[text]++
			} else if i < 2 {
				t.Errorf("new error %d is not logged", i)
			}
			time.Sleep(minInterval / 200)
		}
		if lines["0"] != 1 || lines["1"] != 1 {
			t.Errorf("lines of alternating errors: %v, want one of each", lines)
		}
	})
}

// TestLimiter_DistinctErrorsAreBounded checks that distinct errors fill neither the log nor
// the memory.
func TestLimiter_DistinctErrorsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Limiter
		lines := 0
		for i := range 10_000 {
			if _, ok := l.Allow(fmt.Sprint("from port ", i)); ok {
				lines++
			}
		}
		if lines != maxErrors+1 || len(l.errors) > maxErrors+1 {
			t.Errorf("%d lines and %d errors are kept, want at most %d", lines, len(l.errors), maxErrors+1)
		}
	})
}

func TestLimiter_ResetForgetsErrors(t *testing.T) {
	var l Limiter
	l.Allow("no hub")
	if _, ok := l.Allow("no hub"); ok {
		t.Error("the same error is logged at once")
	}
	l.Reset()
	if skipped, ok := l.Allow("no hub"); !ok || skipped != 0 {
		t.Errorf("after Reset: skipped %d, logged %t", skipped, ok)
	}
}

func TestText_OmitsAddresses(t *testing.T) {
	broken := func(port int) error {
		addr := &net.TCPAddr{IP: net.IPv6loopback, Port: port}
		return fmt.Errorf("connection lost: %w", &net.OpError{Op: "read", Net: "tcp", Source: addr, Addr: addr, Err: errors.New("reset")})
	}
	if a, b := Text(broken(1)), Text(broken(2)); a != b {
		t.Errorf("the same error from two ports: %q and %q", a, b)
	}
	if got := Text(errors.New("no token")); got != "no token" {
		t.Errorf("got %q", got)
	}
}
