package limitlog

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
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
				if since := time.Since(last); lines > 0 && (since < interval || since < defaultMinInterval || since > defaultMaxInterval) {
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
		if maxLines := 10 + int(failures*time.Second/defaultMaxInterval); lines < maxLines/2 || lines > maxLines {
			t.Errorf("%d lines in a day, want at most %d", lines, maxLines)
		}
		if accounted > failures || accounted < failures-int(defaultMaxInterval/time.Second) {
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
			time.Sleep(defaultMinInterval / 200)
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
		if lines != defaultMaxEvents+1 || len(l.events) > defaultMaxEvents+1 {
			t.Errorf("%d lines and %d errors are kept, want at most %d", lines, len(l.events), defaultMaxEvents+1)
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

// TestLog_SameMessage_OncePerInterval logs one message each tenth of a second, and checks that
// each line but the first says how many were left out before it.
func TestLog_SameMessage_OncePerInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		l := NewLog(slog.New(slog.NewTextHandler(&out, nil)), time.Second)
		for i := range 25 {
			l.LogWarn("connection refused", "n", i)
			time.Sleep(100 * time.Millisecond)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		want := []string{
			`level=WARN msg="connection refused" n=0`,
			`level=WARN msg="connection refused" n=10 not_logged_before=9`,
			`level=WARN msg="connection refused" n=20 not_logged_before=9`,
		}
		if len(lines) != len(want) {
			t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), out.String())
		}
		for i, line := range lines {
			if !strings.HasSuffix(line, want[i]) {
				t.Errorf("line %d is %q, want it to end with %q", i, line, want[i])
			}
		}
	})
}

// TestLog_Messages_AreLimitedSeparately logs more different messages than a Limiter
// distinguishes by default.
func TestLog_Messages_AreLimitedSeparately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		l := NewLog(slog.New(slog.NewTextHandler(&out, nil)), time.Second)
		const messages = 3 * defaultMaxEvents
		for range 2 {
			for i := range messages {
				l.LogWarn(fmt.Sprint("message ", i))
			}
		}
		if n := strings.Count(out.String(), "\n"); n != messages {
			t.Errorf("%d lines, want one of each of %d messages", n, messages)
		}
	})
}
