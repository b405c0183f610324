package simulation

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestTimeLeft(t *testing.T) {
	tests := []struct {
		done, total uint64
		want        string
	}{
		{0, 10, "unknown"},
		{0, 0, "unknown"},
		{5, 10, "2s"},
		{10, 10, "0s"},
		{12, 10, "0s"},
		{1, 1 << 62, "more than a month"},
	}
	for _, test := range tests {
		if got := timeLeft(test.done, test.total, 2e9); got != test.want {
			t.Errorf("%d of %d: got %s, want %s", test.done, test.total, got, test.want)
		}
	}
}

func TestRun_DrawsBars(t *testing.T) {
	var out bytes.Buffer
	c := smallConfig(startHub(t))
	c.Out, c.IsTerminal = &out, true
	simulate(t, c)
	for _, part := range []string{"Sent", "Received", "20 of 20", "60 of 60"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is not in %q", part, out.String())
		}
	}
}

func TestRun_LogsEverySecond(t *testing.T) {
	var out bytes.Buffer
	c := smallConfig(startHub(t))
	c.Messages, c.Interval = 2, 1200*time.Millisecond
	c.Logger = slog.New(slog.NewTextHandler(&out, nil))
	simulate(t, c)
	if got := out.String(); !strings.Contains(got, "sends=8 received=") || !strings.Contains(got, "deliveries=24") {
		t.Errorf("logged %q", got)
	}
}

// TestRun_WithoutStatistics checks that ShowStats=false prints the plan and the problems only.
func TestRun_WithoutStatistics(t *testing.T) {
	h := (&fakeHub{deliver: func(receiver uint64, n int, body []byte) [][]byte {
		if n == 0 {
			return [][]byte{body, body}
		}
		return [][]byte{body}
	}}).start(t)
	var out bytes.Buffer
	c := smallConfig(h.addr)
	c.ShowStats, c.Out, c.IsTerminal = false, &out, true
	_, text := simulate(t, c)
	if out.String() != c.Plan().String()+"\n" {
		t.Errorf("printed %q", out.String())
	}
	if strings.Contains(text, "Duration") || !strings.Contains(text, "4 duplicated") {
		t.Errorf("reported %q", text)
	}
}
