package simulation

import (
	"sync"
	"testing"
	"time"
)

// TestRun_SendsOnSchedule checks that messages carry the time at which they were due, not the
// time at which they were sent. Latency counts from that time, therefore a hub that delays the
// senders cannot appear fast.
func TestRun_SendsOnSchedule(t *testing.T) {
	const interval = 3 * time.Millisecond
	var mu sync.Mutex
	due := make(map[uint64]uint64) // by message ID
	h := (&fakeHub{deliver: func(_ uint64, _ int, body []byte) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		due[parseHeader(body).messageID] = parseHeader(body).intended
		return [][]byte{body}
	}}).start(t)
	c := smallConfig(h.addr)
	c.Interval = interval
	report, _ := simulate(t, c)
	first := due[newHeader(0, 0, 0).messageID]
	for sender := range c.Clients {
		for number := range c.Messages {
			got := due[newHeader(sender, uint32(number), 0).messageID] - first
			if want := uint64(number) * uint64(interval); got != want {
				t.Errorf("message %d of client %d was due at %d, want %d", number, sender, got, want)
			}
		}
	}
	if minSeconds := 4 * interval.Seconds(); report.TransferSeconds < minSeconds {
		t.Errorf("took %v s, the schedule alone takes %v", report.TransferSeconds, minSeconds)
	}
	if report.Latency.Samples != 60 {
		t.Errorf("%d samples, want 60", report.Latency.Samples)
	}
}
